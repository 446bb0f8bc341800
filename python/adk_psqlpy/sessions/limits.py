"""Refusing what PostgreSQL cannot store, and warning once of large states."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from adk_psqlpy.sql import event_columns

logger: Final = logging.getLogger("adk_psqlpy")

JSONB_BYTES: Final = 268_435_455
"""The longest string, array or object in jsonb. A longer JSON text is refused, although one made of escapes
might fit. A shorter text may still not fit, for example many small numbers; PostgreSQL refuses that.
"""

EVENT_BYTES: Final = 512 << 20
"""The largest event: half of what an answer of PostgreSQL can hold, because jsonb is printed with spaces."""

STATE_WARNING_BYTES: Final = 100_000
"""A larger state is worth a warning. PostgreSQL always writes a value as a whole: each append that changes
one key writes all of the state again, and each read brings all of it.
"""

_REMEMBERED: Final = 10_000


def check_event(event_id: str, columns: list[bytes | None], deltas: Iterable[bytes | None]) -> None:
    """Refuse an event that is too large to be stored, or to be read back.

    Call it only if all of it together is larger than `JSONB_BYTES`.

    Args:
        event_id: for the message.
        columns: the event's columns as `encode_event` gives them.
        deltas: of the state of session, app and user, in jsonb's binary format.

    Raises:
        ValueError: saying what is too large, how large it is, and the limit.
    """
    for (name, kind), value in zip(event_columns.TYPES.items(), columns, strict=True):
        if kind == "jsonb":
            what = "what has no column of its own (extra)" if name == "extra" else name
            _check_jsonb(f"event {event_id!r}: {what}", value)
    for delta in deltas:
        _check_jsonb(f"event {event_id!r}: actions.state_delta", delta)
    total = sum(len(value) for value in columns if value is not None)
    if total > EVENT_BYTES:
        raise ValueError(
            f"event {event_id!r} is {total:,} bytes, and at most {EVENT_BYTES:,} are stored: PostgreSQL "
            "could not send more back in one answer. Store such data as artifacts and refer to them"
        )


def check_state(*scopes: bytes | None) -> None:
    """Refuse a state or delta (of session, app or user) that jsonb cannot hold.

    Raises:
        ValueError: with its size and the limit.
    """
    for scope in scopes:
        _check_jsonb("state", scope)


def _check_jsonb(what: str, value: bytes | None) -> None:
    if value is not None and len(value) - 1 > JSONB_BYTES:
        raise ValueError(
            f"{what} is {len(value) - 1:,} bytes of JSON, and PostgreSQL's jsonb holds {JSONB_BYTES:,} "
            "(bytes are base64 there, a third longer). Store such data as an artifact and refer to it"
        )


class StateSizes:
    """Warns of large states, once for each session of the last 10,000."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], None] = {}

    def look(self, key: tuple[str, str, str], state: bytes | None) -> None:
        """Look at a session's own state as it was read or is written, in jsonb's format.

        The warning names app and session, not the user.
        """
        if state is None or len(state) <= STATE_WARNING_BYTES or key in self._told:
            return
        if len(self._told) >= _REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[key] = None
        app_name, _, session_id = key
        logger.warning(
            "the state of session %r in app %r is %d kB: every append that changes a key of it writes all of "
            "it again, and every read brings it. Keep what is large in artifacts or events",
            session_id,
            app_name,
            len(state) // 1000,
        )
