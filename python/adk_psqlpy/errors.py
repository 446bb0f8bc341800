"""The package's own errors. Each is also an error of the driver, of ADK or of Python."""

from __future__ import annotations

from google.adk.errors.session_not_found_error import SessionNotFoundError
from psqlpy.exceptions import BaseConnectionPoolError, DatabaseError

from adk_psqlpy._native import SealError

__all__ = [
    "FollowingClosedError",
    "HistoryLostError",
    "MissingKeyError",
    "NoSuchPointError",
    "OperationTimeoutError",
    "PoolTimeoutError",
    "SealError",
    "SessionDeletedError",
    "UnknownStateError",
]


class OperationTimeoutError(DatabaseError, TimeoutError):
    """PostgreSQL stopped the statement at its `statement_timeout`, and rolled it back."""


class PoolTimeoutError(BaseConnectionPoolError, TimeoutError):
    """The pool had no connection within `acquire_timeout_sec`."""


class NoSuchPointError(ValueError):
    """The session has no such event, `seq` or invocation to go back to."""


class UnknownStateError(ValueError):
    """A session's state at an earlier point is not known, because its first state or a change is not
    recorded.
    """


class SessionDeletedError(SessionNotFoundError):
    """A followed session was deleted. `made_again` says whether another one has its id now."""

    def __init__(self, message: str, *, made_again: bool = False) -> None:
        super().__init__(message)
        self.made_again = made_again


class HistoryLostError(DatabaseError):
    """The server no longer has events that it had given: it was restored, or a failover lost commits."""


class FollowingClosedError(BaseConnectionPoolError):
    """The store was closed while a session of it was followed."""


class MissingKeyError(SealError):
    """The key ring does not have the key that a value is sealed with (any more)."""
