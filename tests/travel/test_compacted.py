"""CompactedSessionConfig: less is read, and ADK makes the same prompt of it."""

from __future__ import annotations

import logging
import random
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.agents.run_config import RunConfig
from google.adk.apps.compaction import _latest_prompt_token_count
from google.adk.events import Event, EventActions
from google.adk.events.event_actions import EventCompaction
from google.adk.flows.llm_flows.context._contents import _get_contents
from google.adk.flows.llm_flows.context._interactions import _find_previous_interaction_state
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from pydantic import ValidationError

from adk_psqlpy import PsqlpySessionService
from adk_psqlpy.sessions import CompactedSessionConfig
from contract.events import at, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.adk.sessions import Session

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}
AGENTS = ("agent", "other")
SCOPES = (None, "task-1", "task-2")
BRANCHES = (None, "agent", "agent.other", "agent.tool@fc-3", "agent.other@task-1")
NODES = ("", "wf@1", "wf@1/node@2")


def text(words: str, *, role: str = "model", **fields: Any) -> types.Part | types.Content:
    return types.Content(role=role, parts=[types.Part(text=words, **fields)])


def compaction(first: Event, last: Event, **fields: Any) -> Event:
    """The summary of what came from one event to another, as ADK stores it."""
    return Event(
        author=fields.pop("author", "user"),
        invocation_id=fields.pop("invocation_id", "compaction"),
        actions=EventActions(
            compaction=EventCompaction(
                start_timestamp=first.timestamp,
                end_timestamp=last.timestamp,
                compacted_content=types.Content(
                    role="model", parts=[types.Part(text=f"summary {first.id}-{last.id}")]
                ),
            )
        ),
        **fields,
    )


def rewind(invocation: str, **fields: Any) -> Event:
    return Event(
        author="user",
        invocation_id="rewind",
        actions=EventActions(rewind_before_invocation_id=invocation),
        **fields,
    )


def calls(*ids: str, long: Sequence[str] = (), **fields: Any) -> Event:
    parts = [
        types.Part(function_call=types.FunctionCall(id=each, name="tool", args={"id": each})) for each in ids
    ]
    return Event(
        author=fields.pop("author", "agent"),
        content=types.Content(role="model", parts=parts),
        long_running_tool_ids=set(long),
        **fields,
    )


def answers(*ids: str, author: str = "agent", name: str = "tool", **fields: Any) -> Event:
    response = {"result": "Task completed."} if name == "finish_task" else {"of": list(ids)}
    parts = [
        types.Part(function_response=types.FunctionResponse(id=each, name=name, response=response))
        for each in ids
    ]
    return Event(author=author, content=types.Content(role="user", parts=parts), **fields)


class History:
    """A generated history: what agents, tasks, tools, users, rewinds, compactions and odd clocks make.

    With an even seed it is calm, as most are: calls are answered at once, and little is odd.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.odd = 1.0 if seed % 2 else 0.1
        self.events: list[Event] = []
        self.ids: list[str] = []
        self.clock = 0.0
        while len(self.events) < 60:
            self.turn(len(self.events))

    def add(self, event: Event) -> None:
        self.clock += self.dice.choice([1, 1, 1, 1, 0.25, 0, 1e-6])
        event.timestamp = at(self.clock)
        if self.happens(0.05):
            event.timestamp -= self.dice.choice([0.5, 3, 20])
        event.id = f"e{len(self.events)}"
        self.events.append(event)

    def happens(self, share: float) -> bool:
        """Whether something odd does."""
        return self.dice.random() < share * self.odd

    def turn(self, number: int) -> None:
        dice, invocation = self.dice, f"i{number}"
        scope = dice.choice(SCOPES) if self.happens(0.3) else None
        if scope is None or dice.random() < 0.5:
            self.add(said(f"question {number}", invocation_id=invocation, isolation_scope=scope))
        for _ in range(dice.randrange(1, 5)):
            common: dict[str, Any] = {"invocation_id": invocation, "isolation_scope": scope}
            if self.happens(0.3):
                common["branch"] = dice.choice(BRANCHES)
            self.step(dice.choice(AGENTS), common)
            if self.happens(0.15):
                self.events[-1].node_info.path = dice.choice(NODES)
        if dice.random() < 0.3 and len(self.events) > 4:
            self.summarize()
        if self.happens(0.1):
            target = dice.choice(self.events).invocation_id if dice.random() < 0.9 else "nowhere"
            self.add(rewind(target))

    def step(self, author: str, common: dict[str, Any]) -> None:
        dice, number = self.dice, len(self.events)
        kind = dice.choices(
            ["text", "both", "heard", "thought", "state", "call", "answer", "task"],
            [5, 3, 2, 1, 1, 3 * self.odd, 2 * self.odd, self.odd],
        )[0]
        if kind == "text":
            event = Event(author=author, content=text(f"text {number}"), **common)
            event.usage_metadata = types.GenerateContentResponseUsageMetadata(prompt_token_count=number)
            event.interaction_id = f"interaction-{number}" if dice.random() < 0.3 else None
            self.add(event)
        elif kind in ("call", "both"):
            ids = [self.new_id() for _ in range(dice.randrange(1, 4))]
            long = [each for each in ids if self.happens(0.3)]
            self.add(calls(*ids, long=long, author=author, **common))
            self.ids += ids
            if kind == "both":
                if self.happens(0.3):
                    ids = ids[: dice.randrange(1, len(ids) + 1)]
                self.add(answers(*ids, author=author, **common))
        elif kind == "answer" and self.ids:
            some = dice.sample(self.ids, min(len(self.ids), dice.randrange(1, 3)))
            self.add(answers(*some, author=dice.choice([author, "user"]), **common))
        elif kind == "heard":
            heard = types.Transcription(text=f"heard {number} ", finished=True)
            which = dice.choice(["input_transcription", "output_transcription"])
            self.add(Event(author=dice.choice([author, "user"]), **{which: heard}, **common))
        elif kind == "thought":
            self.add(Event(author=author, content=text("hm", thought=True), **common))
        elif kind == "task":
            task = dice.choice(SCOPES[1:])
            self.add(calls(task, author=author, **common))
            if dice.random() < 0.5:
                self.add(answers(dice.choice(SCOPES[1:]), author=author, name="finish_task", **common))
        else:
            self.add(Event(author=author, actions=EventActions(state_delta={"k": number}), **common))

    def new_id(self) -> str:
        if self.ids and self.happens(0.1):
            return self.dice.choice(self.ids)
        return f"fc-{len(self.ids)}"

    def summarize(self) -> None:
        dice = self.dice
        scope = dice.choice([None, None, *SCOPES])
        among = [event for event in self.events if event.isolation_scope == scope] or self.events
        first = dice.randrange(len(among)) if self.happens(0.4) else 0
        last = dice.randrange(first, len(among))
        fields: dict[str, Any] = {"isolation_scope": scope}
        if self.happens(0.1):
            fields["branch"] = dice.choice(BRANCHES)
        if dice.random() < 0.1:
            fields["author"] = "agent"
        self.add(compaction(among[first], among[last], **fields))
        if dice.random() < 0.05:
            self.events[-1].content = text("a summary with content of its own")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """ADK warns of every call without an answer, in each of the prompts."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def outcome(function: Callable[[], Any]) -> Any:
    """What a function gives, or how it fails."""
    try:
        return function()
    except ValueError as error:
        return repr(error)


def prompts(events: list[Event], scopes: set[str | None]) -> dict[str, Any]:
    """What ADK makes of a history, for every agent, branch, scope and node; how it fails where it does."""
    made: dict[str, Any] = {}
    for agent in AGENTS:
        for branch in BRANCHES:
            made[f"{agent} {branch} interaction"] = _find_previous_interaction_state(
                events, agent_name=agent, current_branch=branch
            )
            for scope in scopes:
                where = f"{agent} {branch} {scope}"
                for node, single in product(NODES, (False, True)):
                    made[f"{where} {node} {single}"] = outcome(
                        lambda branch=branch, agent=agent, scope=scope, node=node, single=single: (
                            _get_contents(
                                branch,
                                events,
                                agent,
                                preserve_function_call_ids=True,
                                isolation_scope=scope,
                                node_path=node,
                                is_single_turn=single,
                            )
                        )
                    )
                made[f"{where} tokens"] = outcome(
                    lambda branch=branch, agent=agent, scope=scope: _latest_prompt_token_count(
                        events, current_branch=branch, agent_name=agent, isolation_scope=scope
                    )
                )
    return made


async def both(service: PsqlpySessionService) -> tuple[Session, Session]:
    """The session in full, and as the config reads it."""
    whole = await service.get_session(**KEY)
    short = await service.get_session(**KEY, config=CompactedSessionConfig())
    assert whole is not None
    assert short is not None
    return whole, short


async def stored(service: PsqlpySessionService, events: list[Event]) -> tuple[Session, Session]:
    session = await service.create_session(**KEY)
    for event in events:
        await service.append_event(session, event)
    return await both(service)


@pytest.mark.parametrize("seed", range(24))
async def test_the_same_prompts(service: PsqlpySessionService, seed: int) -> None:
    """Of a generated history, ADK makes the same prompts, and of it with what a next turn may begin with."""
    history = History(seed)
    whole, short = await stored(service, history.events)
    kept = [event.id for event in short.events]
    assert short.events == [event for event in whole.events if event.id in kept]
    # A task that has no event, and whose call was answered, is not run any more.
    scopes = {None, *(event.isolation_scope for event in whole.events)}
    assert prompts(short.events, scopes) == prompts(whole.events, scopes)
    asked = said("next", invocation_id="next", seconds=history.clock + 100)
    assert prompts([*short.events, asked], scopes) == prompts([*whole.events, asked], scopes)
    pending = [
        call.id
        for event in whole.events
        for call in event.get_function_calls()
        if call.id in (event.long_running_tool_ids or set())
        and not any(
            response.id == call.id
            for later in whole.events
            if later.author == "user"
            for response in later.get_function_responses()
        )
    ]
    for call_id in pending[:3]:
        late = answers(call_id, author="user", invocation_id="next")
        late.timestamp = asked.timestamp
        assert prompts([*short.events, late], scopes) == prompts([*whole.events, late], scopes)


async def test_it_leaves_out_what_is_covered(service: PsqlpySessionService) -> None:
    """Over such histories as above, much is left out: the test would not pass by reading everything."""
    events = whole = 0
    for seed in range(20):
        session = await service.create_session(app_name="app", user_id="user")
        for event in History(seed).events:
            await service.append_event(session, event)
        short = await service.get_session(
            app_name="app", user_id="user", session_id=session.id, config=CompactedSessionConfig()
        )
        assert short is not None
        events += len(short.events)
        whole += len(session.events)
    assert events < 0.8 * whole


def turns(count: int) -> list[Event]:
    """Turns of question, call, answer and reply, a second each."""
    made = []
    for number in range(count):
        common: dict[str, Any] = {"invocation_id": f"i{number}"}
        made += [
            said(f"question {number}", **common),
            calls(f"fc-{number}", **common),
            answers(f"fc-{number}", **common),
            Event(author="agent", content=text(f"reply {number}"), **common),
        ]
    for place, event in enumerate(made):
        event.id, event.timestamp = f"e{place}", at(place)
    return made


async def test_a_long_conversation(service: PsqlpySessionService) -> None:
    """Of a conversation whose beginning was summarized, the summary and the rest are read."""
    events = turns(50)
    events.append(compaction(events[0], events[179], id="c", timestamp=at(200)))
    whole, short = await stored(service, events)
    assert [event.id for event in short.events] == ["e0", *(f"e{n}" for n in range(179, 200)), "c"]
    assert prompts(short.events, {None}) == prompts(whole.events, {None})
    assert short.state == whole.state
    await service.append_event(short, said("next", id="next"))
    again = await service.get_session(**KEY)
    assert again is not None
    assert len(again.events) == 202


async def test_a_call_that_waits(service: PsqlpySessionService) -> None:
    """A long-running call without the user's answer is read with its whole invocation, however old it is."""
    events = turns(20)
    events[9].long_running_tool_ids = {"fc-2"}
    events.append(compaction(events[0], events[67], id="c", timestamp=at(100)))
    _, short = await stored(service, events)
    assert [event.id for event in short.events][:6] == ["e0", "e8", "e9", "e10", "e11", "e67"]


async def test_an_undone_summary(service: PsqlpySessionService) -> None:
    """A compaction that a rewind undid covers nothing."""
    events = turns(6)
    events.append(compaction(events[0], events[20], id="c", timestamp=at(100), invocation_id="i5"))
    events.append(rewind("i5", id="r", timestamp=at(101)))
    whole, short = await stored(service, events)
    assert short.events == whole.events


async def test_the_overlap(service: PsqlpySessionService) -> None:
    """The newest covered invocations are read as they are, as many as the next summary begins earlier."""
    events = turns(20)
    events.append(compaction(events[0], events[59], id="c", timestamp=at(100)))
    await stored(service, events)
    short = await service.get_session(**KEY, config=CompactedSessionConfig(overlap_size=2))
    assert short is not None
    assert [event.id for event in short.events][:10] == ["e0", *(f"e{number}" for number in range(52, 61))]


@pytest.mark.parametrize("events", [turns(0), turns(3)], ids=["none", "some"])
async def test_without_compactions(service: PsqlpySessionService, events: list[Event]) -> None:
    """A session without a compaction is read as it is; one that is not there is None."""
    assert await service.get_session(**KEY, config=CompactedSessionConfig()) is None
    whole, short = await stored(service, events)
    assert short == whole


async def test_a_run_config_takes_it() -> None:
    """ADK hands the configuration on as it is."""
    config = RunConfig(get_session_config=CompactedSessionConfig(overlap_size=1))
    assert isinstance(config.get_session_config, CompactedSessionConfig)
    assert isinstance(config.get_session_config, GetSessionConfig)
    assert config.get_session_config.overlap_size == 1


@pytest.mark.parametrize(
    "fields",
    [{"num_recent_events": 5}, {"after_timestamp": 1.0}, {"overlap_size": -1}, {"overlap_size": "x"}],
)
def test_bad_configurations(fields: dict[str, Any]) -> None:
    """It is not combined with cuts, and the overlap is a number of invocations."""
    with pytest.raises(ValidationError, match=next(iter(fields))):
        CompactedSessionConfig(**fields)
