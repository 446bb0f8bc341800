"""Credentials of tools: ADK's credential service on PostgreSQL, sealed."""

from adk_psqlpy.credentials.service import PsqlpyCredentialService

__all__ = ["PsqlpyCredentialService"]
