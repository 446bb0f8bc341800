"""What writers began and what they were told, in a file; and the comparison with what is stored.

A file, since writers may be in several processes: each has its own, a JSON object a line.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from google.adk.events.event import Event
from google.adk.sessions import BaseSessionService, Session

from servers import run_sql

Key = tuple[str, str, str]
"""App, user and id of a session."""


@dataclass
class Entry:
    """One event: when its append was begun, and when it was acknowledged (`None`: never)."""

    key: Key
    event_id: str
    text: str
    delta: dict[str, Any]
    begun: float
    acknowledged: float | None = None


class Ledger:
    """Writes entries; `read` gives those of any number of files.

    Times are of the monotonic clock, which all processes of a machine share.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] = path.open("a", buffering=1)

    def begun(self, session: Session, event: Event) -> None:
        """Note an append before its first attempt."""
        assert event.content is not None
        assert event.content.parts is not None
        self._write(
            event.id,
            key=[session.app_name, session.user_id, session.id],
            text=event.content.parts[0].text,
            delta=event.actions.state_delta,
            begun=time.monotonic(),
        )

    def acknowledged(self, event: Event) -> None:
        """Note that an append returned."""
        self._write(event.id, acknowledged=time.monotonic())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event_id: str, **what: Any) -> None:
        self._file.write(json.dumps({"event_id": event_id} | what) + "\n")

    @staticmethod
    def read(*paths: Path) -> dict[str, Entry]:
        """The entries by event id. A line cut off by the end of its process counts as not written."""
        entries: dict[str, Entry] = {}
        for path in paths:
            for line in path.read_text().splitlines(keepends=True):
                if not line.endswith("\n"):
                    continue
                said = json.loads(line)
                if "key" in said:
                    app, user, session = said.pop("key")
                    entries[said["event_id"]] = Entry(key=(app, user, session), **said)
                else:
                    entries[said["event_id"]].acknowledged = said["acknowledged"]
        return entries


@dataclass
class Findings:
    """The comparison's numbers, and what is wrong (empty: nothing)."""

    acknowledged: int = 0
    unacknowledged: int = 0
    of_those_stored: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def sound(self) -> None:
        """Fail where anything is wrong."""
        problems = [f"lost: {each}" for each in self.lost] + [f"doubled: {each}" for each in self.doubled]
        problems += self.wrong
        assert not problems, "\n".join(problems[:20])

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {len(self.lost)} lost, {len(self.doubled)} doubled, "
            f"{len(self.wrong)} otherwise wrong; "
            f"{self.of_those_stored} of {self.unacknowledged} unacknowledged stored"
        )


async def compare(service: BaseSessionService, entries: Mapping[str, Entry], dsn: str) -> Findings:
    """Read every session of the ledger back and hold it against the entries.

    Events: each acknowledged one once, the others at most once, no strangers; in an order that agrees with
    time (what was acknowledged before another was begun comes first); revisions without gaps.
    State: a session's own is its deltas in the order of its events. A shared key that a single session
    writes has the value of that session's last such event; one that several write has the value of an event
    after which no other was begun.
    """
    found = Findings()
    keys = {entry.key for entry in entries.values()}
    for entry in entries.values():
        found.acknowledged += entry.acknowledged is not None
        found.unacknowledged += entry.acknowledged is None
    texts: Counter[str] = Counter()
    stored_of: dict[Key, list[Entry]] = {}
    states: dict[Key, dict[str, Any]] = {}
    for key in keys:
        app, user, identity = key
        session = await service.get_session(app_name=app, user_id=user, session_id=identity)
        if session is None:  # its events are counted below
            continue
        states[key] = session.state
        stored_of[key] = []
        for event in session.events:
            assert event.content is not None
            assert event.content.parts is not None
            texts[event.content.parts[0].text or ""] += 1
            if event.id in entries and entries[event.id].key == key:
                stored_of[key].append(entries[event.id])
            else:
                found.wrong.append(f"{key} holds event {event.id}, which nobody appended there")
        _compare_order(key, stored_of[key], found)
        own = {
            name: value for entry in stored_of[key] for name, value in entry.delta.items() if ":" not in name
        }
        kept = {name: value for name, value in session.state.items() if ":" not in name}
        if own != kept:
            found.wrong.append(f"{key} has state {kept}, its events say {own}")
    for entry in entries.values():
        if texts[entry.text] > 1:
            found.doubled.append(f"{entry.text} in {entry.key}")
        if texts[entry.text] == 0 and entry.acknowledged is not None:
            found.lost.append(f"{entry.text} in {entry.key}")
        found.of_those_stored += entry.acknowledged is None and texts[entry.text] > 0
    _compare_shared(states, stored_of, found)
    _compare_revisions(dsn, found)
    return found


def _compare_order(key: Key, stored: list[Entry], found: Findings) -> None:
    earliest, earliest_text = float("inf"), ""
    for entry in reversed(stored):
        if entry.begun > earliest:
            found.wrong.append(f"{key}: {entry.text} stands before {earliest_text}, acknowledged before it")
        if entry.acknowledged is not None and entry.acknowledged < earliest:
            earliest, earliest_text = entry.acknowledged, entry.text


def _compare_shared(
    states: Mapping[Key, dict[str, Any]], stored_of: Mapping[Key, list[Entry]], found: Findings
) -> None:
    writes: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    last_of_session: dict[tuple[str, str, str, Key], Entry] = {}
    shown: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for key, stored in stored_of.items():
        app, user, _ = key
        for entry in stored:
            for name in entry.delta:
                if name.startswith(("app:", "user:")):
                    scope = (app, "" if name.startswith("app:") else user, name)
                    writes[scope].append(entry)
                    last_of_session[(*scope, key)] = entry
        for name, value in states[key].items():
            if name.startswith(("app:", "user:")):
                shown[(app, "" if name.startswith("app:") else user, name)].append(value)
    for scope, entries in writes.items():
        name = scope[2]
        values = shown.get(scope, [])
        if not values or any(value != values[0] for value in values):
            found.wrong.append(f"{scope}: sessions show {values}")
            continue
        # Within a session the last one in its order; among sessions, one that no other surely followed.
        last = [last_of_session[(*scope, key)] for key in {entry.key for entry in entries}]
        latest_begin = max(entry.begun for entry in entries)
        possible = [
            entry.delta[name]
            for entry in last
            if len(last) == 1 or entry.acknowledged is None or entry.acknowledged >= latest_begin
        ]
        if values[0] not in possible:
            found.wrong.append(f"{scope} is {values[0]!r}; its last writes say {possible}")


def _compare_revisions(dsn: str, found: Findings) -> None:
    """Every write to a session is one event here: its revisions are 1, 2, 3 … and no event is elsewhere."""
    (rows,) = run_sql(
        dsn,
        "SELECT s.id, s.revision, count(e.id) AS events, coalesce(min(e.seq), 1) AS first,"
        " coalesce(max(e.seq), 0) AS last FROM adk_sessions AS s LEFT JOIN adk_events AS e"
        " ON (e.app_name, e.user_id, e.session_id) = (s.app_name, s.user_id, s.id)"
        " GROUP BY s.app_name, s.user_id, s.id",
    )
    found.wrong += [
        f"revisions: {row}"
        for row in rows
        if (row["first"], row["last"], row["revision"]) != (1, row["events"], row["events"])
    ]
