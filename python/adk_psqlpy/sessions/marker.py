"""The objects that ADK works on, and their marker: which version of the stored session one holds.

ADK keeps a service's marker in a private attribute of the session, which copies and pickles take along.
"""

from __future__ import annotations

from google.adk.sessions.session import Session
from google.adk.sessions.state import State

from adk_psqlpy import _native
from adk_psqlpy.sessions.stored import StoredSession, Version

# The first character of a marker that names more than revision and create_time. Older processes of this
# package read what stands before an @ as the revision: to them such a marker is another service's.
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
    """The version that was read; its event is the last of those that came along."""
    last = stored.events[-1].id if stored.events else None
    return Version(stored.revision, stored.create_time, stored.update_time, last)


def marker(version: Version) -> str:
    """The text for `Session._storage_update_marker`."""
    updated = "" if version.update_time is None else repr(version.update_time)
    # The id is last: it may hold any character.
    return f"{_FULL}{version.revision}@{version.create_time!r}@{updated}@{version.last_event_id or ''}"


def marked(session: Session) -> Version | None:
    """The version an object carries; `None` where it has no marker, or one of another service's."""
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
    """Give an object the state and the version that are stored; `temp:` keys of its state stay."""
    temporary = {key: value for key, value in session.state.items() if key.startswith(State.TEMP_PREFIX)}
    session.state.clear()
    session.state.update(stored.state | temporary)
    session.last_update_time = stored.update_time
    session._storage_update_marker = marker(version_of(stored))
