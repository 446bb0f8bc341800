"""Random histories against a model in plain Python: appends, changes of state, forks, rewinds, deletes."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import Event, EventActions

from adk_psqlpy.errors import NoSuchPointError
from contract.events import delta

from .test_points import read

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpySessionService

State = dict[str, Any]
KEYS = "abcdef"


@dataclass
class Model:
    """A session: for each revision its event, if it was one, and the state after it."""

    past: list[tuple[Event | None, State]] = field(default_factory=list)

    def change(self, event: Event | None, change: State) -> None:
        self.past.append((event, {**self.past[-1][1], **copy.deepcopy(change)}))

    def events(self, seq: int) -> list[Event]:
        return [event for event, _ in self.past[: seq + 1] if event is not None]

    def fork(self, seq: int) -> Model:
        return Model(self.past[: seq + 1])

    def before(self, invocation: str) -> int | None:
        """The revision before an invocation's first event."""
        for seq, (event, _) in enumerate(self.past):
            if event is not None and event.invocation_id == invocation:
                return seq - 1
        return None


def changed(dice: random.Random) -> State:
    values: list[Any] = [None, 0, 1.5, "x", [1, {"y": None}], {}]
    return {key: copy.deepcopy(dice.choice(values)) for key in KEYS if dice.random() < 0.3}


@pytest.mark.parametrize("seed", range(12))
async def test_random_histories(service: PsqlpySessionService, seed: int) -> None:
    """Whatever is done to sessions and their forks, each of their points is what the model says it is."""
    dice = random.Random(seed)
    models: dict[str, Model] = {}
    origins: dict[str, tuple[str, int]] = {}
    for step in range(70):
        if not models or dice.random() < 0.05:
            first = changed(dice)
            await service.create_session(app_name="app", user_id="user", session_id=f"s{step}", state=first)
            models[f"s{step}"] = Model([(None, first)])
            continue
        name = dice.choice(sorted(models))
        model, session = models[name], await read(service, name)
        match dice.choices(["append", "update", "fork", "rewind", "delete", "clash"], [10, 3, 4, 2, 1, 1])[0]:
            case "append":
                change = changed(dice)
                event = await service.append_event(
                    session, delta(change, id=f"e{step}", invocation_id=f"i{step // 5}")
                )
                model.change(event, change)
            case "update":
                change = changed(dice)
                await service.store.update_session_state("app", "user", name, change)
                model.change(None, change)
            case "fork":
                seq = dice.randrange(len(model.past))
                await service.fork_session(session, at_seq=seq, session_id=f"f{step}")
                models[f"f{step}"], origins[f"f{step}"] = model.fork(seq), (name, seq)
            case "rewind":
                invocation = f"i{dice.randrange(step // 5 + 1)}"
                seq_before = model.before(invocation)
                event = Event(
                    id=f"r{step}",
                    author="user",
                    invocation_id=f"r{step}",
                    actions=EventActions(rewind_before_invocation_id=invocation, state_delta={}),
                )
                await service.append_event(session, event)
                current = model.past[-1][1]
                then = current if seq_before is None else model.past[seq_before][1]
                nothing = {} if seq_before is None else dict.fromkeys(current)
                model.change(event, nothing | then)
            case "delete":
                await service.delete_session(app_name="app", user_id="user", session_id=name)
                del models[name]
                origins.pop(name, None)
            case "clash":
                with pytest.raises(AlreadyExistsError):
                    await service.fork_session(session, session_id=dice.choice(sorted(models)))
    await agree(service, models, origins)


async def agree(
    service: PsqlpySessionService, models: dict[str, Model], origins: dict[str, tuple[str, int]]
) -> None:
    """Every point of every session, and where they come from."""
    listed = (await service.list_sessions(app_name="app", user_id="user")).sessions
    assert {session.id for session in listed} == set(models)
    for name, model in models.items():
        session, newest = await read(service, name), len(model.past) - 1
        assert session.events == model.events(newest)
        for seq, (event, state) in enumerate(model.past):
            then = await service.get_session_at(session, at_seq=seq)
            assert (then.state, then.events) == (state, model.events(seq)), (name, seq)
            if event is not None:
                assert await service.state_at(session, at_event=event) == state
                first = model.before(event.invocation_id)
                assert first is not None
                before = await service.state_at(session, before_invocation_id=event.invocation_id)
                assert before == model.past[first][1]
        with pytest.raises(NoSuchPointError):
            await service.state_at(session, at_seq=newest + 1)
        origin = await service.get_origin(session)
        found = None if origin is None else (origin.origin_id, origin.origin_revision)
        assert found == origins.get(name)
        assert {fork.session_id for fork in await service.list_forks(session)} == {
            fork for fork, (of, _) in origins.items() if of == name
        }
