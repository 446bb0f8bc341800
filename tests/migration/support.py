"""What the tests share: conversations to move, and the comparison of two services."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.adk.events import Event, EventActions
from google.genai import types

from contract.events import at, said, varied

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.adk.sessions import BaseSessionService

    from adk_psqlpy.admin.migrate import MigrationReport

APPS = ("cafe", "shop")
USERS = ("ada", "grace")


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder for SQLite files, in memory where there is such: each append of ADK waits for the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="adk-migration-", dir=memory if memory.is_dir() else None
    ) as folder:
        yield Path(folder)


def conversation(number: int) -> list[Event]:
    """Events of one session: those of `varied`, with a delta for each scope, ids of their own."""
    events = [event.model_copy(deep=True) for event in varied().values() if not event.partial]
    for place, event in enumerate(events):
        event.id = f"e{number}-{place}"
        event.timestamp = at(number * 100 + place + 0.123456)
    events.append(
        said(
            "counted",
            seconds=number * 100 + 99.5,
            actions=EventActions(state_delta={"k": number, "app:last": number, "user:last": number}),
        )
    )
    return events


async def fill(
    service: BaseSessionService, *, apps: Sequence[str] = APPS, sessions: int = 2, prefix: str = "s"
) -> int:
    """Conversations of two users in each app, made by the service itself; how many events there are."""
    number = events = 0
    for app in apps:
        for user in USERS:
            for place in range(sessions):
                number += 1
                session = await service.create_session(
                    app_name=app,
                    user_id=user,
                    session_id=f"{prefix}{number}",
                    state={
                        "started": number,
                        "app:made": True,
                        "user:made": [user],
                        "nested": {"b": 1, "a": [None]},
                    },
                )
                if place == sessions - 1 and app == apps[-1] and user == USERS[-1]:
                    continue  # one session without an event
                for event in conversation(number):
                    await service.append_event(session, event)
                    events += 1
    return events


async def listed(service: BaseSessionService, app: str) -> list[Any]:
    """The sessions of an app, in the order of their users and ids."""
    sessions = (await service.list_sessions(app_name=app)).sessions
    return sorted(sessions, key=lambda session: (session.user_id, session.id))


async def assert_same_sessions(
    theirs: BaseSessionService,
    ours: BaseSessionService,
    *,
    apps: Sequence[str] = APPS,
    schemes: bool = True,
) -> int:
    """Every session reads alike through both services, event by event; how many events were compared.

    Without `schemes`, what asks for credentials is not compared.
    """
    compared = 0
    for app in apps:
        expected, made = await listed(theirs, app), await listed(ours, app)
        assert [(s.user_id, s.id) for s in made] == [(s.user_id, s.id) for s in expected]
        for session in expected:
            key = {"app_name": app, "user_id": session.user_id, "session_id": session.id}
            one, other = await theirs.get_session(**key), await ours.get_session(**key)
            assert one is not None
            assert other is not None
            assert other.state == one.state
            # A timestamptz holds microseconds; SQLite held a float.
            assert abs(other.last_update_time - one.last_update_time) < 1e-6
            assert len(other.events) == len(one.events)
            for left, right in zip(other.events, one.events, strict=True):
                if not schemes:
                    left.actions.requested_auth_configs = right.actions.requested_auth_configs
                assert left == right, f"{left!r}\n{right!r}"
                compared += 1
    return compared


def assert_all_copied(report: MigrationReport, *, sessions: int, events: int) -> None:
    """A migration into empty tables that left nothing behind."""
    assert report.problems == []
    assert report.uncounted == []
    assert (report.sessions.copied, report.events.copied) == (sessions, events)
    assert report.sessions.seen == sessions
    assert report.verified == sessions
    assert report.complete


def model_said(text: str, **fields: Any) -> Event:
    """What the agent said."""
    content = types.Content(role="model", parts=[types.Part(text=text)])
    return Event(author="agent", invocation_id="inv", content=content, **fields)
