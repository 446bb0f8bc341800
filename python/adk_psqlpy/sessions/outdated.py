"""Appends to a session that others have changed: noticing, explaining and merging them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.session import Session

from adk_psqlpy.sessions.marker import marked, show
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sessions.stored import Version

_STALE: Final = (
    "The session has been modified in storage since it was loaded. "
    "Please reload the session before appending more events."
)


async def expected_version(store: PsqlpyADKStore, session: Session, *, merge: bool) -> Version:
    """Tell the version at which the object was loaded, or to which an append brought it.

    An object that was made by hand carries no version. As in ADK's database service, it counts as current if
    its last event is the stored one or its time is not behind. With `merge`, it may be behind.

    Raises:
        SessionNotFoundError: the session is not stored (any more).
        StaleSessionError: the object is behind, without `merge`.
    """
    known = marked(session)
    if known is not None:
        return known
    last = await store.last_event(session.app_name, session.user_id, session.id)
    if last is None:
        raise SessionNotFoundError(f"Session {session.id} not found.")
    version, update_time, last_event_id = last
    newest = session.events[-1].id if session.events else None
    behind = update_time > session.last_update_time and last_event_id != newest
    if behind and not merge:
        raise StaleSessionError(_STALE)
    return replace(version, update_time=update_time, last_event_id=last_event_id)


async def place_of_repeated(store: PsqlpyADKStore, session: Session, event: Event, expected: Version) -> int:
    """Give the `seq` of an event that was not written because it is stored already.

    Raises:
        SessionNotFoundError: the session is not stored (any more).
        StaleSessionError: others have appended, or the session was deleted and made again.
        AlreadyExistsError: the session holds another event of this id.
    """
    key = (session.app_name, session.user_id, session.id)
    outcome = await store.append_outcome(*key, event.id)
    if outcome is None:
        raise SessionNotFoundError(f"Session {session.id} not found.")
    stored, seq, following = outcome.version, outcome.seq, expected.revision + 1
    if stored.create_time != expected.create_time or seq is None or seq > following:
        raise StaleSessionError(_STALE)
    if await store.get_event(*key, event.id) != event:
        raise AlreadyExistsError(f"Session {session.id} holds another event with the id {event.id}.")
    if seq == following and stored.revision != seq:
        raise StaleSessionError(_STALE)
    return seq


async def append_merged(store: PsqlpyADKStore, session: Session, event: Event, expected: Version) -> Event:
    """Append after what others wrote, and bring the object up to date.

    Raises:
        SessionNotFoundError: the session is not stored (any more).
        StaleSessionError: the session was deleted and made again.
        AlreadyExistsError: the session holds another event of this id.
    """
    key = (session.app_name, session.user_id, session.id)
    outcome = await store.append_outcome(*key, event.id)
    if outcome is None:
        raise SessionNotFoundError(f"Session {session.id} not found.")
    if outcome.version.create_time != expected.create_time:
        raise StaleSessionError(_STALE)
    written = None
    if outcome.seq is None:
        written = await store.append_event(*key, event, expected=expected, merge=True, is_prepared=True)
    if written is None:
        found = await store.get_event(*key, event.id)
        if found is None:  # deleted meanwhile
            raise StaleSessionError(_STALE)
        if found != event:
            raise AlreadyExistsError(f"Session {session.id} holds another event with the id {event.id}.")
    stored = await store.get_since(*key, expected.revision)
    if stored is None:
        raise SessionNotFoundError(f"Session {session.id} not found.")
    known = {known.id for known in session.events}
    session.events.extend(
        event if missed.id == event.id else missed for missed in stored.events if missed.id not in known
    )
    show(stored, session)
    return event
