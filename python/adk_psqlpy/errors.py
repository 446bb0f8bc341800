"""Errors of the package's own; each is also the driver's error that it takes the place of."""

from __future__ import annotations

from psqlpy.exceptions import BaseConnectionPoolError, DatabaseError

__all__ = ["OperationTimeoutError", "PoolTimeoutError"]


class OperationTimeoutError(DatabaseError, TimeoutError):
    """PostgreSQL stopped the statement at its `statement_timeout`, and undid whatever it had done."""


class PoolTimeoutError(BaseConnectionPoolError, TimeoutError):
    """No connection came out of the pool within `acquire_timeout_sec`."""
