"""A whole turn of ADK's Runner with a scripted model, and the share of it that the session service takes.

    python benches/turn.py                          # on the embedded server
    python benches/turn.py --dsn postgresql://...   # on yours: a database is made, and dropped
    python benches/turn.py --quick                  # a look
    python benches/turn.py --write-docs             # docs/turn.json, which the README's picture is drawn from

A turn is `runner.run_async` with a message of the user: the Runner reads the session and appends the message,
the agent asks the model, and the answer is appended. The model is a script, so what is left is ADK, the
session service, and PostgreSQL. Before a turn the session has 0, 100 or 1,000 events. What a turn appended is
deleted with SQL after it, so that all turns meet the same history; kept histories have that edit to notice.

In every round each service has a turn, in a random order. How many contents the model was shown, and
what the Runner gave, is compared before anything counts: with each service they are the same. The time in the
session service is the time of the awaits of its methods. The passes of the collector and the freeing of the
session before fall where they fall, so the whole turn is the number to look at.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import platform
import random
import sys
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python")]

from google.adk.agents import LlmAgent  # noqa: E402
from google.adk.events.event import Event  # noqa: E402
from google.adk.models.base_llm import BaseLlm  # noqa: E402
from google.adk.models.llm_request import LlmRequest  # noqa: E402
from google.adk.models.llm_response import LlmResponse  # noqa: E402
from google.adk.runners import Runner  # noqa: E402
from google.genai import types  # noqa: E402
from pydantic import Field  # noqa: E402

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService  # noqa: E402
from comparison import services  # noqa: E402
from comparison.report import number, summary  # noqa: E402
from comparison.services import ADK, APP, BASE_EVENTS, OURS, SQLSPEC_ASYNCPG, USER, Opened, run_sql  # noqa: E402

HISTORIES = (0, 100, 1_000)
FULL = "ours_full"
LABELS = services.LABELS | {FULL: "adk-psqlpy, history_cache_bytes=0"}
METHODS = ("get_session", "append_event", "create_session", "get_user_state", "flush")
ANSWER = "It is sunny in Paris, 21.5 degrees."


class Script(BaseLlm):
    """A model that has its answer ready, and counts what it is shown."""

    asked: list[int] = Field(default_factory=list)

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002 - the base class has it
    ) -> AsyncGenerator[LlmResponse, None]:
        """One answer."""
        self.asked.append(len(llm_request.contents))
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=ANSWER)]))


@dataclass
class Subject:
    """A service, its Runner, and the seconds that the calls of the service took in the turn that runs."""

    key: str
    opened: Opened
    runner: Runner
    model: Script
    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, key: str, opened: Opened) -> Subject:
        """A Runner on the service, whose methods are timed from now on."""
        model = Script(model="script")
        agent = LlmAgent(name="agent", model=model, instruction="Answer.")
        runner = Runner(app_name=APP, agent=agent, session_service=opened.service)
        subject = cls(key, opened, runner, model)
        for name in METHODS:
            if hasattr(opened.service, name):
                setattr(opened.service, name, subject._timed(name, getattr(opened.service, name)))
        return subject

    def _timed(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(method)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return await method(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
                self.calls[name] = self.calls.get(name, 0) + 1

        return timed

    async def turn(self, session_id: str) -> tuple[float, list[str]]:
        """Seconds of a turn, and what it gave."""
        message = types.Content(role="user", parts=[types.Part(text="What is the weather like in Paris?")])
        self.seconds, self.calls = {}, {}
        self.model.asked.clear()
        start = time.perf_counter()
        running = self.runner.run_async(user_id=USER, session_id=session_id, new_message=message)
        given = [event async for event in running]
        return time.perf_counter() - start, [_said(event) for event in given]

    async def undo(self, session_id: str, history: int) -> None:
        """Delete what a turn appended: the events that `fill` did not make."""
        peer = self.opened.peer
        names = f"id LIKE '{session_id}-%'"
        await run_sql(
            self.opened.dsn, f"DELETE FROM {peer.events} WHERE session_id = '{session_id}' AND NOT ({names})"
        )
        if peer.key == OURS:
            await run_sql(
                self.opened.dsn,
                f"UPDATE {peer.sessions} SET revision = {history} WHERE id = '{session_id}'",
            )


def _said(event: Event) -> str:
    """An event without what is made anew each time."""
    parts = event.content.parts if event.content and event.content.parts else []
    return f"{event.author}: {', '.join(str(part.text) for part in parts)}"


async def main(options: argparse.Namespace) -> int:
    """Run what was asked for."""
    results: dict[str, Any] = {"about": {}, "unit": "ms", "labels": {}, "histories": []}
    async with AsyncExitStack() as stack:
        dsn, where = options.dsn, "given"
        if dsn is None:
            from adk_psqlpy import EmbeddedServer

            dsn, where = stack.enter_context(EmbeddedServer(temporary=True)).dsn, "embedded, Unix socket"
        name = f"adk_psqlpy_turn_{os.getpid()}"
        database = await stack.enter_async_context(services.temporary_database(dsn, name))
        subjects = await _open(database, stack)
        results["about"] = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "server": (await run_sql(database, "SHOW server_version"))[0]["server_version"],
            "where": where,
            "versions": {
                package: version(package) for package in ("google-adk", "sqlspec", "asyncpg", "psqlpy")
            },
            "rounds": options.rounds,
            "turn": "the user's message and the model's answer: 1 read and 2 appends",
        }
        results["labels"] = {subject.key: LABELS[subject.key] for subject in subjects}
        for history in options.histories:
            results["histories"].append(await _measure(subjects, history, options.rounds))
            _show(results["histories"][-1])
    target = ROOT / "docs/turn.json" if options.write_docs else options.json
    if target is not None:
        target.write_text(json.dumps(results, indent=1) + "\n")
    if options.write_docs:
        import draw_turn

        draw_turn.write_docs()
    return 0


async def _open(database: str, stack: AsyncExitStack) -> list[Subject]:
    subjects = []
    for key in (OURS, ADK, SQLSPEC_ASYNCPG):
        opened, close = await services.open_peer(key, database)
        stack.push_async_callback(close)
        await services.make_base(opened)
        if key == OURS:
            # `open_peer` has the service that reads everything at each read.
            subjects.append(Subject.of(FULL, opened))
            config = PsqlpyConfig(pool_config={"dsn": database, "max_db_pool_size": services.POOL})
            stack.push_async_callback(config.close_pool)
            opened = Opened(opened.peer, PsqlpySessionService(PsqlpyADKStore(config)), database)
        subjects.append(Subject.of(key, opened))
    return sorted(subjects, key=lambda subject: (OURS, FULL, ADK, SQLSPEC_ASYNCPG).index(subject.key))


async def _measure(subjects: list[Subject], history: int, rounds: int) -> dict[str, Any]:
    session_id = f"turn_{history}"
    for subject in subjects:
        if subject.key != FULL:  # on the tables of `OURS`
            await services.fill(subject.opened, session_id, history)
    expected: tuple[list[str], list[int]] | None = None
    samples: dict[str, list[tuple[float, float, float]]] = {subject.key: [] for subject in subjects}
    # At random: whoever always came after a turn on the same driver would find it warm.
    dice = random.Random(history)
    for turn in range(-2, rounds):
        for subject in dice.sample(subjects, len(subjects)):
            gc.collect()
            whole, said = await subject.turn(session_id)
            found = (said, list(subject.model.asked))
            expected = expected or found
            assert found == expected, f"{subject.key} gives {found}, another {expected}"
            assert subject.calls["get_session"] == 1, subject.calls
            assert subject.calls["append_event"] == 2, subject.calls
            await subject.undo(session_id, history)
            if turn >= 0:  # the first ones fill caches of all kinds
                inside, read = sum(subject.seconds.values()), subject.seconds["get_session"]
                samples[subject.key].append((whole * 1e3, inside * 1e3, read * 1e3))
    assert expected is not None
    assert expected[1][0] >= min(history, 1), "the model was not shown the history"
    peers = {}
    for key, taken in samples.items():
        whole, inside, read = ([each[place] for each in taken] for place in range(3))
        peers[key] = {
            "turn": summary(whole),
            "service": summary(inside),
            "read": summary(read),
            "share_percent": summary([100 * within / all_of_it for all_of_it, within, _ in taken]),
        }
    return {"history": history, "peers": peers}


def _show(measured: dict[str, Any]) -> None:
    print(f"\nhistory of {measured['history']} events, median ms")
    print(f"  {'':36} {'turn':>8} {'service':>8} {'of it read':>10} {'share':>7}")
    for key, of in measured["peers"].items():
        turn, service, read, share = (
            of[name]["median"] for name in ("turn", "service", "read", "share_percent")
        )
        cells = f"{number(turn):>8} {number(service):>8} {number(read):>10} {share:6.1f}%"
        print(f"  {LABELS[key]:36} {cells}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="a server whose role may create databases; else the embedded one")
    parser.add_argument("--rounds", type=int, help="rounds (20; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--histories", help=f"events before the turn, by commas {HISTORIES}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--write-docs", action="store_true", help="write docs/turn.json")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 20)
    given = options.histories
    options.histories = [int(each) for each in given.split(",")] if given else HISTORIES
    assert all(each <= BASE_EVENTS for each in options.histories)
    return options


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.exit(asyncio.run(main(arguments())))
