"""ADK's session objects, and the marker that says which version of the stored session an object holds.

ADK keeps a service's marker in a private attribute of the session, which is copied and pickled with it.
"""

from __future__ import annotations

from google.adk.sessions.session import Session
from google.adk.sessions.state import State

from adk_psqlpy import _native
from adk_psqlpy.sessions.stored import StoredSession, Version

# The first character of a marker that names more than revision and create_time. Older versions of this
# package read the text before an @ as the revision. They take a marker with this character for that of
# another service.
_FULL = "@"


def session_of(stored: StoredSession) -> Session:
    """A stored session as ADK's object."""
    return _native.make_session(
        id=stored.id,
        app_name=stored.app_name,
        user_id=stored.user_id,
        state=stored.state,
        events=stored.events,
        last_update_time=stored.update_time,
        marker=marker(version_of(stored)),
    )


def version_of(stored: StoredSession) -> Version:
    """The version that was read. Its event is the last one that was read with it."""
    last = stored.events[-1].id if stored.events else None
    return Version(stored.revision, stored.create_time, stored.update_time, last)


def marker(version: Version) -> str:
    """The text for `Session._storage_update_marker`."""
    updated = "" if version.update_time is None else repr(version.update_time)
    # The id comes last, since it may hold any character.
    return f"{_FULL}{version.revision}@{version.create_time!r}@{updated}@{version.last_event_id or ''}"


def marked(session: Session) -> Version | None:
    """The version that an object carries; `None` if it has no marker, or that of another service."""
    text = session._storage_update_marker or ""
    full = text.startswith(_FULL)
    revision, *further = text.removeprefix(_FULL).split("@", 3)
    if len(further) != (3 if full else 1) or not revision.isdigit():
        return None
    if not full:
        return Version(int(revision), float(further[0]))
    created, updated, event_id = further
    return Version(int(revision), float(created), float(updated) if updated else None, event_id or None)


def show(stored: StoredSession, session: Session) -> None:
    """Put the stored state and version into an object. `temp:` keys of its state stay."""
    temporary = {key: value for key, value in session.state.items() if key.startswith(State.TEMP_PREFIX)}
    session.state.clear()
    session.state.update(stored.state | temporary)
    session.last_update_time = stored.update_time
    session._storage_update_marker = marker(version_of(stored))
