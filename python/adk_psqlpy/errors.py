"""Errors of the package's own; each is also the driver's or Python's error that it takes the place of."""

from __future__ import annotations

from psqlpy.exceptions import BaseConnectionPoolError, DatabaseError

__all__ = ["NoSuchPointError", "OperationTimeoutError", "PoolTimeoutError", "UnknownStateError"]


class OperationTimeoutError(DatabaseError, TimeoutError):
    """PostgreSQL stopped the statement at its `statement_timeout`, and undid whatever it had done."""


class PoolTimeoutError(BaseConnectionPoolError, TimeoutError):
    """No connection came out of the pool within `acquire_timeout_sec`."""


class NoSuchPointError(ValueError):
    """The session has no such event, `seq` or invocation to go back to."""


class UnknownStateError(ValueError):
    """A session's state at an earlier point is not known: its beginning, or a change, is not recorded."""
