"""Whether each service gives back what was put in: small questions with one right answer."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

import make_shapes
from comparison.services import open_peer

APP = "right"
_numbers = itertools.count(1)

Verdict = str  # empty: right; else what came instead
Question = Callable[[Any, Any], Awaitable[Verdict]]


@dataclass(frozen=True)
class Answer:
    """What a service answered; `wrong` is empty where it was right."""

    question: str
    wrong: Verdict


async def ask(key: str, dsn: str) -> list[Answer]:
    """Put every question to two services of one kind on one database."""
    (first, close_first), (second, close_second) = await open_peer(key, dsn), await open_peer(key, dsn)
    answers = []
    try:
        for title, question in QUESTIONS.items():
            try:
                wrong = await question(first.service, second.service)
            except Exception as error:  # noqa: BLE001 - a refusal is an answer too
                wrong = f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
            answers.append(Answer(title, wrong))
    finally:
        await close_first()
        await close_second()
    return answers


async def _session(service: Any, events: list[Event], state: dict[str, Any] | None = None) -> Any:
    session = await service.create_session(app_name=APP, user_id=f"u{next(_numbers)}", state=state)
    for event in events:
        await service.append_event(session, event)
    return session


async def _read(service: Any, session: Any, **config: Any) -> Any:
    return await service.get_session(
        app_name=APP,
        user_id=session.user_id,
        session_id=session.id,
        config=GetSessionConfig(**config) if config else None,
    )


def _said(value: Any, number: int = 0, **fields: Any) -> Event:
    """An event of its own id whose function response holds `value`."""
    answer = types.FunctionResponse(id="c", name="f", response={"value": value})
    fields = {"timestamp": make_shapes.T0 + number} | fields
    content = types.Content(role="user", parts=[types.Part(function_response=answer)])
    # Ids fall: sorting by id would show.
    return Event(id=f"e-{10**6 - next(_numbers)}", author="a", invocation_id="i", content=content, **fields)


def _value(event: Event) -> Any:
    (answer,) = event.get_function_responses()
    return (answer.response or {}).get("value")


async def _newest(service: Any, _: Any) -> Verdict:
    session = await _session(service, [_said(n, n) for n in range(10)])
    found = [_value(e) for e in (await _read(service, session, num_recent_events=3)).events]
    return "" if found == [7, 8, 9] else f"events {found} of 0..9"


async def _after(service: Any, _: Any) -> Verdict:
    session = await _session(service, [_said(n, n) for n in range(4)])
    found = [_value(e) for e in (await _read(service, session, after_timestamp=make_shapes.T0 + 2)).events]
    return "" if found == [2, 3] else f"events {found}, 2 being at that time"


async def _ties(service: Any, _: Any) -> Verdict:
    session = await _session(service, [_said(n, 0, timestamp=make_shapes.T0) for n in range(12)])
    found = [_value(e) for e in (await _read(service, session)).events]
    return "" if found == list(range(12)) else f"read in the order {found}"


async def _nan(service: Any, _: Any) -> Verdict:
    session = await _session(service, [_said([math.nan, math.inf])])
    found = _value((await _read(service, session)).events[0])
    right = isinstance(found, list) and math.isnan(found[0] or 0) and found[1] == math.inf
    return "" if right else f"read as {found}"


async def _nul(service: Any, _: Any) -> Verdict:
    session = await _session(service, [_said("a\0b")])
    found = _value((await _read(service, session)).events[0])
    return "" if found == "a\0b" else f"read as {found!r}"


async def _big(service: Any, _: Any) -> Verdict:
    value = [2**31, 1_700_000_000_000, 2**63, 1e16]
    session = await _session(service, [_said(value)])
    found = _value((await _read(service, session)).events[0])
    return "" if found == value and type(found[3]) is float else f"read as {found}"


async def _keys(service: Any, _: Any) -> Verdict:
    value = {"zebra": 1, "b": 2, "apple": 3}
    session = await _session(service, [_said(value)])
    found = _value((await _read(service, session)).events[0])
    return "" if list(found) == list(value) else f"read in the order {', '.join(found)}"


async def _racing(first: Any, second: Any) -> Verdict:
    user, writers, each = f"racer{next(_numbers)}", 10, 20
    services = [first if n % 2 else second for n in range(writers)]
    sessions = [
        await service.create_session(app_name=APP, user_id=user, session_id=f"race-{user}-{n}")
        for n, service in enumerate(services)
    ]

    async def write(number: int) -> None:
        for step in range(each):
            delta = {f"user:{number}-{step}": step}
            event = _said(step, step, actions=EventActions(state_delta=delta))
            await services[number].append_event(sessions[number], event)

    await asyncio.gather(*map(write, range(writers)))
    kept = len(await first.get_user_state(app_name=APP, user_id=user))
    return "" if kept == writers * each else f"{writers * each - kept} of {writers * each} lost"


async def _stale(first: Any, second: Any) -> Verdict:
    session = await _session(first, [])
    other = await _read(second, session)
    results = await asyncio.gather(
        first.append_event(session, _said(1, 1)),
        second.append_event(other, _said(2, 1)),
        return_exceptions=True,
    )
    failed = sum(isinstance(result, Exception) for result in results)
    return "" if failed == 1 else f"{2 - failed} of 2 accepted"


async def _scoped(service: Any, _: Any) -> Verdict:
    for user in ("scoped-1", "scoped-2"):
        await service.create_session(app_name=APP, user_id=user, session_id="same")
    return ""


async def _oldest_first(service: Any, _: Any) -> Verdict:
    user = f"lister{next(_numbers)}"
    for number in range(3):
        await service.create_session(app_name=APP, user_id=user, session_id=f"{user}-{number}")
        await asyncio.sleep(0.002)
    found = [s.id[-1] for s in (await service.list_sessions(app_name=APP, user_id=user)).sessions]
    return "" if found == ["0", "1", "2"] else f"order {', '.join(found)}"


QUESTIONS: dict[str, Question] = {
    "`num_recent_events` gives the newest": _newest,
    "`after_timestamp` includes that time": _after,
    "tied timestamps keep the order of appends": _ties,
    "NaN and infinity come back": _nan,
    "U+0000 in a text comes back": _nul,
    "integers past 2^31 and 2^63, and 1e16": _big,
    "dict keys keep their order": _keys,
    "racing `user:` state loses nothing (200 writes)": _racing,
    "of two racing appends one is stale": _stale,
    "two users may use one session id": _scoped,
    "lists the oldest update first": _oldest_first,
}
