"""get_session: which events come back, in which order, with which state."""

from __future__ import annotations

import pytest
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig

from .backends import differs
from .events import APP, USER, at, delta, said, stored, texts

BY_TIME = "orders by timestamp, then by the events' random ids"


async def conversation(service: BaseSessionService, seconds: list[float]) -> Session:
    """A session with one event for each time given; the n-th says 'n'."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s")
    for n, second in enumerate(seconds):
        await service.append_event(session, said(str(n), seconds=second))
    return session


async def window(service: BaseSessionService, **config: float) -> list[str | None]:
    """What a read with this GetSessionConfig returns, as texts."""
    found = await service.get_session(
        app_name=APP, user_id=USER, session_id="s", config=GetSessionConfig.model_validate(config)
    )
    return texts(found)


@pytest.mark.parametrize(
    ("app", "user", "session"),
    [("app", "user", "no"), ("app", "no", "s"), ("no", "user", "s"), ("no", "no", "no")],
)
async def test_missing_is_none(service: BaseSessionService, app: str, user: str, session: str) -> None:
    """A session that does not exist under exactly this app, user and id is None, not an error."""
    await service.create_session(app_name=APP, user_id=USER, session_id="s")
    assert await service.get_session(app_name=app, user_id=user, session_id=session) is None


async def test_all_events_in_order(service: BaseSessionService) -> None:
    """Without a config the whole history comes back, oldest first."""
    session = await conversation(service, list(range(20)))
    found = await stored(service, session)
    assert texts(found) == [str(n) for n in range(20)]
    assert found == session


async def test_an_empty_config_is_no_config(service: BaseSessionService) -> None:
    """A config with nothing set filters nothing."""
    await conversation(service, [0, 1, 2])
    assert await window(service) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, ["4"]),
        (3, ["2", "3", "4"]),
        (5, ["0", "1", "2", "3", "4"]),
        (99, ["0", "1", "2", "3", "4"]),
    ],
)
async def test_num_recent_events(service: BaseSessionService, count: int, expected: list[str]) -> None:
    """`num_recent_events` gives the newest n, oldest of them first; 0 gives none."""
    await conversation(service, [0, 1, 2, 3, 4])
    assert await window(service, num_recent_events=count) == expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-1.0, ["0", "1", "2"]),
        (0.0, ["0", "1", "2"]),
        (1.0, ["1", "2"]),
        (1.5, ["2"]),
        (2.0, ["2"]),
        (2.5, []),
    ],
)
async def test_after_timestamp_is_inclusive(
    service: BaseSessionService, after: float, expected: list[str]
) -> None:
    """`after_timestamp` gives the events at that time or later."""
    await conversation(service, [0, 1, 2])
    assert await window(service, after_timestamp=at(after)) == expected


async def test_after_timestamp_takes_any_float(service: BaseSessionService) -> None:
    """An event's own timestamp finds it, also where it has more digits than microseconds."""
    seconds = [0.1, 0.123456789, 0.9999999, 7.000000499]
    session = await conversation(service, seconds)
    for n, event in enumerate(session.events):
        assert await window(service, after_timestamp=event.timestamp) == [str(m) for m in range(n, 4)]


async def test_both_filters(service: BaseSessionService) -> None:
    """Both together: the newest n of the events at that time or later."""
    await conversation(service, [0, 1, 2, 3, 4])
    assert await window(service, after_timestamp=at(2), num_recent_events=2) == ["3", "4"]
    assert await window(service, after_timestamp=at(3), num_recent_events=4) == ["3", "4"]
    assert await window(service, after_timestamp=at(2), num_recent_events=0) == []


async def test_filters_leave_the_rest_alone(service: BaseSessionService) -> None:
    """A filtered read has the whole state and the session's real time of last update."""
    session = await service.create_session(app_name=APP, user_id=USER, state={"k": 0, "app:a": 0})
    for n in range(4):
        await service.append_event(session, delta({"k": n, f"user:u{n}": n}, seconds=n))
    found = await service.get_session(
        app_name=APP, user_id=USER, session_id=session.id, config=GetSessionConfig(num_recent_events=1)
    )
    assert found is not None
    assert found.events == session.events[-1:]
    assert found.state == session.state
    assert found.last_update_time == session.last_update_time


@differs(database=BY_TIME)
async def test_tied_timestamps_keep_the_order_of_append(service: BaseSessionService) -> None:
    """Events with one timestamp come back in the order in which they were appended."""
    await conversation(service, [1] * 12)
    assert await window(service) == [str(n) for n in range(12)]
    assert await window(service, num_recent_events=3) == ["9", "10", "11"]


@differs(database=BY_TIME)
async def test_a_clock_that_goes_back_keeps_the_order_of_append(service: BaseSessionService) -> None:
    """An event appended later with an earlier timestamp still comes later."""
    await conversation(service, [10, 30, 20, 5])
    assert await window(service) == ["0", "1", "2", "3"]
    assert await window(service, num_recent_events=2) == ["2", "3"]


@differs(in_memory="cuts the history after the last earlier event instead of filtering it")
async def test_after_timestamp_filters_each_event(service: BaseSessionService) -> None:
    """Where the clock went back, `after_timestamp` still gives every event at that time or later."""
    await conversation(service, [10, 30, 20])
    assert await window(service, after_timestamp=at(25)) == ["1"]


async def test_state_is_merged_from_three_scopes(service: BaseSessionService) -> None:
    """The state read is the session's own, the app's under app: and the user's under user:."""
    session = await service.create_session(app_name=APP, user_id=USER, state={"k": 1})
    other = await service.create_session(app_name=APP, user_id=USER, state={"app:a": 2, "user:u": 3, "k": 9})
    assert (await stored(service, session)).state == {"k": 1, "app:a": 2, "user:u": 3}
    assert (await stored(service, other)).state == {"k": 9, "app:a": 2, "user:u": 3}


async def test_two_reads_are_independent(service: BaseSessionService) -> None:
    """Two reads are equal and share nothing: changing one changes neither the other nor the storage."""
    session = await service.create_session(
        app_name=APP, user_id=USER, state={"k": {"deep": [1]}, "user:u": [1]}
    )
    await service.append_event(session, said("hi", seconds=0))
    first, second = await stored(service, session), await stored(service, session)
    assert first == second
    first.state["k"]["deep"].append(2)
    first.state["user:u"].append(2)
    first.events[0].author = "changed"
    first.events.clear()
    assert second == await stored(service, session)
    assert second.state == {"k": {"deep": [1]}, "user:u": [1]}
    assert second.events[0].author == "user"
