"""What an operator sees: OpenTelemetry spans and metrics, and one log line for each operation.

Each configuration has a `telemetry`. `operation` is one operation under way, and `instruments` has the
metrics.

Only `opentelemetry-api` is used. So until the application sets up an SDK, nothing is collected and it costs
next to nothing. Names follow OpenTelemetry's stable conventions for database clients. Names that these do not
have begin with `adk_psqlpy.`. No span, metric or log line of this package holds SQL, parameters, identifiers
of apps, users or sessions, or the text of an exception: PostgreSQL quotes values in its messages.
"""

from adk_psqlpy.telemetry.instruments import Pooled, PoolStatus
from adk_psqlpy.telemetry.operation import Operation, current, error_type
from adk_psqlpy.telemetry.telemetry import Telemetry, observed

__all__ = ["Operation", "PoolStatus", "Pooled", "Telemetry", "current", "error_type", "observed"]
