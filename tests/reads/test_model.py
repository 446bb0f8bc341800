"""Anything, in any order: what is read through kept histories is what is stored."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from contract.events import at, said, varied

from .conftest import Reads, observed_reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.adk.events.event import Event

    from servers import Database


KEYS = [("app", "user", "a"), ("app", "user", "b"), ("app", "other", "a")]
TEXT = '\'{"parts": [{"text": "%d"}]}\''


class Model:
    """Somebody who appends, edits and reads at random."""

    def __init__(self, reads: Reads, seed: int) -> None:
        self.reads = reads
        self.dice = random.Random(seed)
        self.kinds = list(varied().values())
        self.numbers = iter(range(1 << 30))
        self.steps: list[str] = []

    async def step(self) -> None:
        """One change, or some reads."""
        kinds: list[tuple[int, Callable[[], object]]] = [
            (12, self.read),
            (8, self.append),
            (2, self.append_many),
            (6, self.edit),
            (2, self.edit_by_range),
            (2, self.delete_some),
            (1, self.insert),
            (1, self.exchange),
            (1, self.recreate),
            (1, self.maintain),
            (1, self.change_columns),
            (1, self.state),
        ]
        (chosen,) = self.dice.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
        key = self.dice.choice(KEYS)
        self.steps.append(f"{chosen.__name__} {key}")
        await chosen(key)  # type: ignore[call-arg, misc]

    async def read(self, key: tuple[str, str, str]) -> None:
        for _ in range(self.dice.choice((1, 1, 2, 3))):
            found = await self.reads.read(key)
            if found is not None and found.events and self.dice.random() < 0.3:
                event = self.dice.choice(found.events)
                event.author = "spoiled"
                event.actions.state_delta["spoiled"] = found
                event.model_fields_set.add("branch")
        newest = {"limit": self.dice.choice((1, 3, 30, 130, 300))}
        for filters in (newest, {"after_timestamp": at(self.dice.randrange(300))}):
            store, plain = self.reads.store, self.reads.plain
            found = await store.get_session(*key, **filters)
            assert found == await plain.get_session(*key, **filters)
            if found is not None and found.events and self.dice.random() < 0.3:
                found.events[0].author = "spoiled"

    def event(self) -> Event:
        number = next(self.numbers)
        if self.dice.random() < 0.3:
            kind = self.dice.choice(self.kinds)
            return kind.model_copy(update={"id": f"event-{number}"}, deep=True)
        return said(f"text {number}", seconds=number, id=f"event-{number}")

    async def append(self, key: tuple[str, str, str], count: int = 1) -> None:
        store = self.dice.choice((self.reads.store, self.reads.plain))
        last = await store.last_event(*key)
        if last is None:
            assert await store.create_session(*key) is not None
            last = await store.last_event(*key)
            assert last is not None
        version = last[0]
        for number in range(count):
            expected = type(version)(version.revision + number, version.create_time)
            assert await store.append_event(*key, self.event(), expected=expected)

    async def append_many(self, key: tuple[str, str, str]) -> None:
        await self.append(key, self.dice.choice((5, 40, 150)))

    def where(self, key: tuple[str, str, str]) -> str:
        return f"(app_name, user_id, session_id) = {key}"

    async def edit(self, key: tuple[str, str, str]) -> None:
        seq = f"(SELECT seq FROM adk_events WHERE {self.where(key)} ORDER BY random() LIMIT 1)"
        change = self.dice.choice(
            (
                f"content = {TEXT % next(self.numbers)}",
                "content = NULL",
                f"author = '{next(self.numbers)}'",
                "error_message = 'x'",
                "author = author",
                "extra = NULL",
            )
        )
        edit = f"UPDATE adk_events SET {change} WHERE {self.where(key)} AND seq = {seq}"
        around = self.dice.choice(("", "", "savepoint", "rollback"))
        if around == "savepoint":
            self.reads.sql("BEGIN", "SAVEPOINT a", edit, "RELEASE a", edit, "COMMIT")
        elif around == "rollback":
            self.reads.sql("BEGIN", edit, "ROLLBACK")
        else:
            self.reads.sql(edit)

    def some(self, key: tuple[str, str, str]) -> str:
        first = self.dice.randrange(400)
        return f"{self.where(key)} AND seq BETWEEN {first} AND {first + self.dice.choice((2, 50, 200))}"

    async def edit_by_range(self, key: tuple[str, str, str]) -> None:
        self.reads.sql(f"UPDATE adk_events SET author = '{next(self.numbers)}' WHERE {self.some(key)}")

    async def delete_some(self, key: tuple[str, str, str]) -> None:
        self.reads.sql(f"DELETE FROM adk_events WHERE {self.some(key)}")

    async def insert(self, key: tuple[str, str, str]) -> None:
        """A row between others, with a `seq` whose event was deleted."""
        seq = self.dice.randrange(1, 300)
        self.reads.sql(
            "INSERT INTO adk_events (id, session_id, app_name, user_id, seq, actions, author, invocation_id)"
            f" SELECT 'sql-{next(self.numbers)}', id, app_name, user_id, {seq}, '{{}}', 'sql', 'i'"
            f" FROM adk_sessions WHERE (app_name, user_id, id) = {key}"
            f" AND revision >= {seq} AND NOT EXISTS"
            f" (SELECT FROM adk_events WHERE {self.where(key)} AND seq = {seq})"
        )

    async def exchange(self, key: tuple[str, str, str]) -> None:
        """The contents of two events, in one statement."""
        self.reads.sql(
            "UPDATE adk_events AS e SET content = o.content FROM adk_events AS o"
            " WHERE (o.app_name, o.user_id, o.session_id) = (e.app_name, e.user_id, e.session_id)"
            f" AND (e.app_name, e.user_id, e.session_id) = {key} AND e.seq IN (1, 2) AND o.seq = 3 - e.seq"
        )

    async def recreate(self, key: tuple[str, str, str]) -> None:
        """Deleted, by one of the stores or with SQL; made again with as many events, or left away."""
        count = (await self.reads.plain.get_session(*key) or None) and self.dice.choice((0, 1, 20))
        if self.dice.random() < 0.5:
            await self.dice.choice((self.reads.store, self.reads.plain)).delete_session(*key)
        else:
            self.reads.sql(f"DELETE FROM adk_sessions WHERE (app_name, user_id, id) = {key}")
        if count:
            await self.append(key, count)

    async def maintain(self, _: tuple[str, str, str]) -> None:
        self.reads.sql(
            self.dice.choice(
                (
                    "VACUUM adk_events",
                    "VACUUM (FREEZE) adk_events",
                    "VACUUM FULL adk_events",
                    "CLUSTER adk_events USING adk_events_pkey",
                    "ANALYZE",
                )
            )
        )

    async def change_columns(self, _: tuple[str, str, str]) -> None:
        """DDL that changes what rows say without writing them; and a dump and restore within the server."""
        self.reads.sql(
            *self.dice.choice(
                (
                    [
                        "ALTER TABLE adk_events DROP COLUMN error_message,"
                        " ADD COLUMN error_message varchar(1024) DEFAULT 'new'"
                    ],
                    [
                        "ALTER TABLE adk_events RENAME branch TO x",
                        "ALTER TABLE adk_events RENAME error_code TO branch",
                        "ALTER TABLE adk_events RENAME x TO error_code",
                    ],
                    [
                        "CREATE TABLE saved AS SELECT * FROM adk_events",
                        "TRUNCATE adk_events",
                        "INSERT INTO adk_events SELECT * FROM saved ORDER BY random()",
                        "DROP TABLE saved",
                    ],
                )
            )
        )

    async def state(self, key: tuple[str, str, str]) -> None:
        if await self.reads.plain.last_event(*key) is not None:
            await self.reads.plain.update_session_state(*key, {"n": next(self.numbers), "app:n": 1})


@pytest.mark.parametrize(
    ("seed", "steps"),
    [(1, 120), (2, 120), *(pytest.param(seed, 3_000, marks=pytest.mark.torture) for seed in (3, 4, 5))],
)
@pytest.mark.parametrize("max_bytes", [60_000, 1 << 26])
async def test_random_changes(
    config: PsqlpyConfig, database: Database, seed: int, steps: int, max_bytes: int
) -> None:
    """With room for all, and with room for so little that sessions come and go."""
    plain = PsqlpyADKStore(config, history_cache_bytes=0)
    await plain.create_tables()
    store = PsqlpyADKStore(config, history_cache_bytes=max_bytes)
    await store.create_tables()
    reads = observed_reads(store, plain, database.dsn)
    model = Model(reads, seed)
    try:
        for _ in range(steps):
            await model.step()
            histories = reads.store._histories
            assert histories.nbytes <= max_bytes
        for key in KEYS:
            await model.read(key)
    except AssertionError as failure:
        raise AssertionError("after " + "; ".join(model.steps[-20:])) from failure
    kept = sum(kept for kept, _ in reads.counted)
    enough = sum(sent for _, sent in reads.counted) / (4 if max_bytes > 1 << 20 else 40)
    assert kept > enough, "hardly anything was kept: this proves little"
