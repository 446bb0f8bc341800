"""What an operator sees: OpenTelemetry spans and metrics, and a log line an operation.

`telemetry` is what a configuration has, `operation` one operation under way, `instruments` the metrics.

Only `opentelemetry-api` is used, so nothing is collected, and next to nothing is spent, until the
application sets up an SDK. Names follow OpenTelemetry's stable conventions for database clients; what they
do not name is under `adk_psqlpy.`. No span, metric or log line of this package holds SQL, parameters,
identifiers of apps, users or sessions, or the text of an exception: PostgreSQL quotes values in its messages.
"""

from adk_psqlpy.telemetry.instruments import Pooled, PoolStatus
from adk_psqlpy.telemetry.operation import Operation, current, error_type
from adk_psqlpy.telemetry.telemetry import Telemetry, observed

__all__ = ["Operation", "PoolStatus", "Pooled", "Telemetry", "current", "error_type", "observed"]
