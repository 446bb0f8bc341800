"""Makes psqlpy:// and psqlpy+embedded:/// known to ADK as URIs of its services."""

from adk_psqlpy.service_registry import register

register()
