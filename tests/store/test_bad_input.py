"""Bad input, one table a kind: which error, what it says, and that nothing came of it.

A bad argument is a ValueError that names it, raised before a connection is even opened; what goes wrong on
the way to the server or in it is an error of the driver's that says what to do. Neither leaves a connection
checked out, or a row half written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import string
import traceback
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psqlpy
import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import Session
from google.adk.sessions.base_session_service import GetSessionConfig
from psqlpy.exceptions import BaseConnectionPoolError, DatabaseError
from pydantic import BaseModel

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.sessions.stored import Version
from contract import backends
from contract.events import delta, said
from servers import BinaryServer, Database, free_port, run_sql, wheel_binaries, with_database
from where import changes_tables, makes_tables

from .support import KEY, all_back, contents, store_at, version

Store, Service = PsqlpyADKStore, PsqlpySessionService
Call = Callable[[Any, Any], Awaitable[object]]
HELD = Version(0, 1.0)
APP = {"app_name": "app", "user_id": "user"}


@pytest.fixture(scope="module")
def beside(module_database: Database) -> Database:
    """A database with our tables, which the tests of this module share."""

    async def make() -> None:
        async with store_at(module_database.dsn):
            pass

    asyncio.run(make())
    return module_database


@pytest.fixture
def refused(beside: Database) -> Refused:
    """Checks that a call is refused before anything is sent."""
    return Refused(beside)


class Refused:
    """Makes calls on a store whose pool has opened no connection, and sees that it stays so."""

    def __init__(self, database: Database) -> None:
        """Take the database that would be connected to."""
        self._dsn = database.dsn

    async def __call__(self, call: Callable[[Store], Awaitable[object]], message: str) -> None:
        """Await a call that must raise a ValueError with this in its text."""
        async with PsqlpyConfig(pool_config={"dsn": self._dsn}) as config:
            with pytest.raises(ValueError, match=message):
                await call(PsqlpyADKStore(config))
            assert (await config.create_pool()).status().size == 0, "a connection was opened"


# Identifiers.

METHODS: dict[str, tuple[tuple[str, ...], Call]] = {
    "create_session": (("app_name", "user_id", "session_id"), lambda s, a: s.create_session(*a)),
    "get_session": (("app_name", "user_id", "session_id"), lambda s, a: s.get_session(*a)),
    "get_events": (("app_name", "user_id", "session_id"), lambda s, a: s.get_events(*a)),
    "get_event": (("app_name", "user_id", "session_id", "event_id"), lambda s, a: s.get_event(*a)),
    "delete_session": (("app_name", "user_id", "session_id"), lambda s, a: s.delete_session(*a)),
    "update_session_state": (
        ("app_name", "user_id", "session_id"),
        lambda s, a: s.update_session_state(*a, {"k": 1}),
    ),
    "append_event": (
        ("app_name", "user_id", "session_id"),
        lambda s, a: s.append_event(*a, said("hi"), expected=HELD),
    ),
    "append_outcome": (("app_name", "user_id", "session_id", "event_id"), lambda s, a: s.append_outcome(*a)),
    "last_event": (("app_name", "user_id", "session_id"), lambda s, a: s.last_event(*a)),
    "list_sessions": (("app_name", "user_id"), lambda s, a: s.list_sessions(*a)),
    "get_app_state": (("app_name",), lambda s, a: s.get_app_state(*a)),
    "get_user_state": (("app_name", "user_id"), lambda s, a: s.get_user_state(*a)),
}
BAD_IDS: dict[str, tuple[Any, str]] = {
    "none": (None, "must be a str, not NoneType"),
    "int": (5, "must be a str, not int"),
    "bool": (True, "must be a str, not bool"),
    "bytes": (b"id", "must be a str, not bytes"),
    "list": (["id"], "must be a str, not list"),
    "too long": ("x" * 129, r"has 129 characters, and at most 128 .*PsqlpyADKStore\(key_length"),
    "too long, not ascii": ("é" * 129, r"has 129 characters, and at most 128 .*PsqlpyADKStore\(key_length"),
    "nul": ("a\0b", r"U\+0000"),
    "surrogate": ("a\ud800", "lone surrogate"),
}


def bad_identifiers() -> Iterator[Any]:
    """Every method, with each of its identifiers in turn being each of the bad ones."""
    for method, (names, _) in METHODS.items():
        for name in names:
            for kind in BAD_IDS:
                if (method, name, kind) == ("list_sessions", "user_id", "none"):  # all users
                    continue
                yield pytest.param(method, name, kind, id=f"{method}-{name}-{kind}")


@pytest.mark.parametrize(("method", "name", "kind"), list(bad_identifiers()))
async def test_identifiers(refused: Refused, method: str, name: str, kind: str) -> None:
    """What cannot be an identifier is refused by every method that takes one, by the argument's name."""
    names, call = METHODS[method]
    value, message = BAD_IDS[kind]
    arguments = [value if each == name else "x" for each in names]
    await refused(lambda store: call(store, arguments), f"^{name} .*{message}")


@pytest.mark.parametrize("name", ["app_name", "user_id", "session_id"])
async def test_empty_identifiers_at_creation(refused: Refused, name: str) -> None:
    """A session needs an app, a user and an id."""
    key = {"app_name": "app", "user_id": "user", "session_id": "s"} | {name: ""}
    await refused(lambda store: store.create_session(*key.values()), f"^{name} must not be empty")
    if name != "session_id":  # the service makes one
        await refused(lambda store: Service(store).create_session(**key), f"^{name} must not be empty")


@pytest.mark.parametrize("character", ["x", "é", "語", "\U0001f600"], ids=ascii)
async def test_identifiers_at_the_limit(store: Store, service: Service, character: str) -> None:
    """128 characters, of any size in bytes, are an identifier in every place; more are not."""
    full = character * 128
    session = await service.create_session(app_name=full, user_id=full, session_id=full, state={"user:u": 1})
    event = said("hi", id=full)
    await service.append_event(session, event)
    assert await service.get_session(app_name=full, user_id=full, session_id=full) == session
    assert await store.get_event(full, full, full, full) == event
    assert await store.get_user_state(full, full) == {"u": 1}
    with pytest.raises(ValueError, match="id: has 129 characters, and at most 128"):
        await service.append_event(session, said("hi", id=full + character))


@makes_tables
async def test_keys_longer_than_an_index_takes(database: Database) -> None:
    """With key_length raised, keys that together pass the 2,704 bytes of an index entry write nothing."""
    chance = random.Random(3)

    def key() -> str:  # that does not compress
        return "".join(chance.choices(string.ascii_letters + string.digits, k=1024))

    async with store_at(database.dsn, key_length=1024) as store:
        before = contents(database.dsn)
        with pytest.raises(psqlpy.Error, match="2704"):
            await store.create_session(key(), key(), key(), {"app:a": 1, "user:u": 1})
        assert contents(database.dsn) == before
        await all_back(store.config)
        assert await store.create_session("app", key(), "s") is not None


SERVICE_METHODS: dict[str, Callable[[Service, dict[str, Any]], Awaitable[object]]] = {
    "create_session": lambda s, a: s.create_session(**a),
    "get_session": lambda s, a: s.get_session(**a),
    "delete_session": lambda s, a: s.delete_session(**a),
}


def bad_service_identifiers() -> Iterator[Any]:
    """The methods of ADK's contract that take a session's key."""
    for method in SERVICE_METHODS:
        for name in ("app_name", "user_id", "session_id"):
            for kind, (value, _) in BAD_IDS.items():
                if (method, name, value) == ("create_session", "session_id", None):  # an id is made
                    continue
                yield pytest.param(method, name, kind, id=f"{method}-{name}-{kind}")


@pytest.mark.parametrize(("method", "name", "kind"), list(bad_service_identifiers()))
async def test_identifiers_at_the_service(refused: Refused, method: str, name: str, kind: str) -> None:
    """The service says the same of them as the store."""
    value, message = BAD_IDS[kind]
    arguments = {**APP, "session_id": "s"} | {name: value}
    await refused(lambda store: SERVICE_METHODS[method](Service(store), arguments), f"^{name} .*{message}")


@pytest.mark.parametrize("kind", ["too long", "nul", "surrogate"])
@pytest.mark.parametrize("name", ["app_name", "user_id", "session_id"])
async def test_appending_to_a_session_made_by_hand(refused: Refused, name: str, kind: str) -> None:
    """A session object whose key cannot be stored is refused by name, not looked up."""
    value, message = BAD_IDS[kind]
    key = {**APP, "session_id": "s"} | {name: value}
    session = Session(app_name=key["app_name"], user_id=key["user_id"], id=key["session_id"])
    await refused(lambda store: Service(store).append_event(session, said("hi")), f"^{name} .*{message}")


# Numbers and times.


@pytest.mark.parametrize(
    "limit",
    [-1, True, False, "3", 2.0, math.nan, b"3", [3], 2**63, 2**64],
    ids=repr,
)
async def test_limits(refused: Refused, limit: Any) -> None:
    """A limit is an integer that a bigint holds, 0 or more."""
    for call in (
        lambda store: store.get_session(*KEY, limit=limit),
        lambda store: store.get_events(*KEY, limit=limit),
        lambda store: store.list_sessions("app", limit=limit),
        lambda store: Service(store).list_sessions(app_name="app", limit=limit),
    ):
        await refused(call, r"^limit must be an integer from 0 to 2\*\*63 - 1, not ")


async def test_the_largest_limit(store: Store) -> None:
    """What a bigint holds at most is a limit like any other."""
    await store.create_session(*KEY)
    event = said("hi", seconds=0)
    await store.append_event(*KEY, event, expected=await version(store))
    assert await store.get_events(*KEY, limit=2**63 - 1) == [event]
    assert await store.get_events(*KEY, after_timestamp=0, limit=2**63 - 1) == [event]
    assert [s.id for s in await store.list_sessions("app", limit=2**63 - 1)] == ["s"]


async def test_num_recent_events(refused: Refused) -> None:
    """A negative number of recent events is refused too, where ADK has let it pass."""
    config = GetSessionConfig.model_construct(num_recent_events=-1, after_timestamp=None)
    await refused(
        lambda store: Service(store).get_session(**APP, session_id="s", config=config),
        r"must be an integer from 0 to 2\*\*63 - 1, not -1",
    )


END = 9_223_372_000_000.0
"""The first second that is not kept: past 63 bits of microseconds since 1970, which end here but for some."""
START = -210_866_803_200.0

OUTSIDE: list[float] = [
    *(math.nan, math.inf, -math.inf, 1e300, -1e300),
    *(END, int(END), END + 36_854.0, 9_224_318_015_999.0, 9_224_318_016_000.0, 10**400),
    *(START - 1, math.nextafter(START, -math.inf), int(START) - 1),
]
NO_TIMES = [True, "1", "2026-01-01", datetime(2026, 1, 1, tzinfo=timezone.utc), Decimal(1), b"1", [1]]


@pytest.mark.parametrize("moment", OUTSIDE, ids=lambda value: f"{value!r:.21}")
async def test_times_outside(refused: Refused, moment: float) -> None:
    """Times that are not kept are refused, not cut: in a filter, a place, a version, an event."""
    outside = r"is outside what is kept \(4713 BC to 294246 AD\)"
    await refused(
        lambda store: store.get_session(*KEY, after_timestamp=moment), f"^after_timestamp .*{outside}"
    )
    await refused(
        lambda store: store.list_sessions("app", after=(moment, "user", "s")),
        f"^the update_time in after .*{outside}",
    )
    held = Version(0, moment)
    await refused(
        lambda store: store.append_event(*KEY, said("hi"), expected=held), f"^create_time .*{outside}"
    )
    if isinstance(moment, float):
        event = said("hi", timestamp=moment)
        await refused(lambda store: store.append_event(*KEY, event, expected=HELD), f"timestamp: .*{outside}")


@pytest.mark.parametrize("moment", NO_TIMES, ids=lambda value: type(value).__name__)
async def test_what_is_no_time(refused: Refused, moment: Any) -> None:
    """Only a number of seconds is a time."""
    message = "must be seconds since the Unix epoch, not"
    await refused(
        lambda store: store.get_session(*KEY, after_timestamp=moment), f"^after_timestamp {message}"
    )
    await refused(
        lambda store: store.list_sessions("app", after=(moment, "u", "s")),
        f"^the update_time in after {message}",
    )


@pytest.mark.parametrize(
    "moment", [START, -1, 0, 253_402_300_800.5, END - 1, math.nextafter(END, 0)], ids=repr
)
async def test_times_at_the_limits(store: Store, service: Service, database: Database, moment: float) -> None:
    """What is kept is stored to the microsecond, read back and found."""
    session = await service.create_session(**APP, session_id="s")
    await service.append_event(session, said("hi", timestamp=moment))
    assert await service.get_session(**APP, session_id="s") == session
    assert [e.timestamp for e in await store.get_events(*KEY, after_timestamp=moment)] == [moment]
    assert [s.update_time for s in await store.list_sessions("app")] == [moment]
    at = "(extract(epoch FROM timestamp) * 1000000)::bigint AS micros"
    assert run_sql(database.dsn, f"SELECT {at} FROM adk_events") == [[{"micros": round(moment * 1e6)}]]


@pytest.mark.parametrize("moment", [math.nextafter(START, -math.inf), END, 9_224_318_015_999.0], ids=repr)
async def test_times_past_the_limits(
    store: Store, service: Service, database: Database, moment: float
) -> None:
    """Past them the service refuses the event, and neither the tables nor the object change."""
    session = await service.create_session(**APP, session_id="s", state={"k": 1})
    before, copy = contents(database.dsn), session.model_copy(deep=True)
    with pytest.raises(ValueError, match=r"timestamp: .*is outside what is kept"):
        await service.append_event(session, delta({"k": 2, "app:a": 1}, timestamp=moment))
    assert contents(database.dsn) == before
    assert session == copy
    await service.append_event(session, said("hi"))
    assert await service.get_session(**APP, session_id="s") == session


# Objects.

NO_EVENTS = [None, 5, "hi", b"hi", {"author": "user"}, [], Event, EventActions(), Session(id="s", **APP)]


@pytest.mark.parametrize("event", NO_EVENTS, ids=lambda value: type(value).__name__)
async def test_what_is_no_event(refused: Refused, event: Any) -> None:
    """Only an Event can be appended."""
    session, kind = Session(id="s", **APP), type(event).__name__
    await refused(
        lambda store: store.append_event(*KEY, event, expected=HELD), f"^event must be an Event, not {kind}$"
    )
    await refused(
        lambda store: Service(store).append_event(session, event), f"^event must be an Event, not {kind}$"
    )


def test_what_is_no_store() -> None:
    """The other services take a configuration, so this one is given it as well at times."""
    config = PsqlpyConfig(pool_config={"dsn": "postgresql://nowhere"})
    with pytest.raises(
        ValueError, match=r"^store must be a PsqlpyADKStore, not PsqlpyConfig: .*\(config\)\)$"
    ):
        Service(config)  # type: ignore[arg-type]


BAD_FIELDS: dict[str, tuple[str, Any, str]] = {
    "no time": ("last_update_time", None, "must be seconds since the Unix epoch, not None"),
    "time of text": ("last_update_time", "1.0", "must be seconds since the Unix epoch, not '1.0'"),
    "time of bool": ("last_update_time", True, "must be seconds since the Unix epoch, not True"),
    "nan": ("last_update_time", math.nan, "must be seconds since the Unix epoch, not nan"),
    "infinite": ("last_update_time", math.inf, "must be seconds since the Unix epoch, not inf"),
    "no state": ("state", None, "must be a dict, not NoneType"),
    "no events": ("events", None, "must be a list, not NoneType"),
}


@pytest.mark.parametrize("policy", ["raise", "merge"])
@pytest.mark.parametrize("kind", BAD_FIELDS)
async def test_what_was_set_in_a_session(refused: Refused, kind: str, policy: Any) -> None:
    """What an append reads of the object is looked at first: pydantic lets any value be assigned."""
    name, value, message = BAD_FIELDS[kind]
    session, event = Session(id="s", **APP), said("hi")
    setattr(session, name, value)
    await refused(
        lambda store: Service(store, stale_policy=policy).append_event(session, event),
        f"^session.{name} {message}",
    )


BAD_EVENTS: dict[str, tuple[dict[str, Any], str]] = {
    "empty id": ({"id": ""}, "id: .*empty"),
    "id with nul": ({"id": "a\0"}, "id: "),
    "id with surrogate": ({"id": "\udfff"}, "id: "),
}


@pytest.mark.parametrize("kind", BAD_EVENTS)
async def test_events_that_cannot_be_stored(refused: Refused, kind: str) -> None:
    """An event's own id must be one that can be stored; the message names the field."""
    changes, message = BAD_EVENTS[kind]
    event = said("hi").model_copy(update=changes)
    await refused(lambda store: store.append_event(*KEY, event, expected=HELD), message)


@pytest.mark.parametrize("session", [None, 5, "s", {"id": "s"}], ids=repr)
async def test_what_is_no_session(refused: Refused, session: Any) -> None:
    """Only a Session can be appended to."""
    await refused(
        lambda store: Service(store).append_event(session, said("hi")), "^session must be a Session, not "
    )


@pytest.mark.parametrize("after", [5, "s", {"id": "s"}, (1.0, "user", "s")], ids=repr)
async def test_what_is_no_last_session(refused: Refused, after: Any) -> None:
    """The service's `after` is the session that ended the page before."""
    await refused(
        lambda store: Service(store).list_sessions(app_name="app", after=after),
        "^after must be a Session, not ",
    )


@pytest.mark.parametrize("config", [5, "x", {"num_recent_events": 1}], ids=repr)
async def test_what_is_no_config(refused: Refused, config: Any) -> None:
    """A configuration of a read is a GetSessionConfig."""
    await refused(
        lambda store: Service(store).get_session(**APP, session_id="s", config=config),
        "^config must be a GetSessionConfig, not ",
    )


NO_PLACE = r"after must be \(update_time, user_id, id\) of a session, not "
BAD_PLACES: dict[str, tuple[Any, str]] = {
    "int": (5, NO_PLACE),
    "str": ("abc", NO_PLACE),
    "list": ([1.0, "user", "s"], NO_PLACE),
    "short": ((1.0, "user"), NO_PLACE),
    "long": ((1.0, "user", "s", "x"), NO_PLACE),
    "empty": ((), NO_PLACE),
    "session": (Session(id="s", **APP), NO_PLACE),
    "no user": ((1.0, None, "s"), "the user_id in after must be a str, not NoneType"),
    "no id": ((1.0, "user", 5), "the id in after must be a str, not int"),
    "list for an id": ((1.0, "user", ["s"]), "the id in after must be a str, not list"),
    "nul": ((1.0, "user", "a\0"), r"the id in after holds U\+0000"),
    "surrogate": ((1.0, "\ud800", "s"), "the user_id in after holds .* a lone surrogate"),
    "too long": ((1.0, "u" * 129, "s"), "the user_id in after has 129 characters"),
}


@pytest.mark.parametrize("kind", BAD_PLACES)
async def test_places_in_a_list(refused: Refused, kind: str) -> None:
    """A place in a list is a time, a user and an id; anything else is refused by name."""
    after, message = BAD_PLACES[kind]
    await refused(lambda store: store.list_sessions("app", limit=3, after=after), f"^{message}")


NO_VERSION = "expected must be a Version, not "
NO_REVISION = r"expected.revision must be an integer from 0 to 2\*\*63 - 1, not "
BAD_VERSIONS: dict[str, tuple[Any, str]] = {
    "none": (None, NO_VERSION),
    "int": (0, NO_VERSION),
    "tuple": ((0, 1.0), NO_VERSION),
    "revision of text": (Version("0", 1.0), NO_REVISION),  # type: ignore[arg-type]
    "revision of none": (Version(None, 1.0), NO_REVISION),  # type: ignore[arg-type]
    "revision of bool": (Version(True, 1.0), NO_REVISION),
    "revision of float": (Version(0.0, 1.0), NO_REVISION),  # type: ignore[arg-type]
    "revision of list": (Version([0], 1.0), NO_REVISION),  # type: ignore[arg-type]
    "revision below 0": (Version(-1, 1.0), NO_REVISION),
    "revision past 63 bits": (Version(2**63, 1.0), NO_REVISION),
    "time of text": (Version(0, "1"), "create_time must be seconds"),  # type: ignore[arg-type]
    "time of none": (Version(0, None), "create_time must be seconds"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", BAD_VERSIONS)
async def test_expected_versions(refused: Refused, kind: str) -> None:
    """The expected version is a Version with an integer revision, and seconds for its time."""
    held, message = BAD_VERSIONS[kind]
    await refused(lambda store: store.append_event(*KEY, said("hi"), expected=held), f"^{message}")


# State.

STATES: dict[str, tuple[Any, str]] = {
    "int": (5, "{} must be a dict, not int"),
    "str": ("k", "{} must be a dict, not str"),
    "list": (["k"], "{} must be a dict, not list"),
    "empty list": ([], "{} must be a dict, not list"),
    "pairs": ([("k", 1)], "{} must be a dict, not list"),
    "int key": ({1: 2}, "keys of {} must be str, not int: 1"),
    "none key": ({"k": 1, None: 2}, "keys of {} must be str, not NoneType: None"),
    "tuple key": ({("a", "b"): 2}, r"keys of {} must be str, not tuple: \('a', 'b'\)"),
}


@pytest.mark.parametrize("kind", STATES)
async def test_what_is_no_state(refused: Refused, kind: str) -> None:
    """State is a mapping with text for keys, in every call that takes it."""
    state, message = STATES[kind]
    of_state, of_delta = f"^{message.format('state')}$", f"^{message.format('delta')}$"
    await refused(lambda store: store.create_session(*KEY, state), of_state)
    await refused(lambda store: store.update_session_state(*KEY, state), of_delta)
    await refused(lambda store: Service(store).create_session(**APP, state=state), of_state)


async def test_no_delta(refused: Refused) -> None:
    """An update needs a delta."""
    await refused(
        lambda store: store.update_session_state(*KEY, None),  # type: ignore[arg-type]
        "^delta must be a dict, not NoneType$",
    )


def deep() -> list[Any]:
    """600 lists, each in the next."""
    value: list[Any] = []
    for _ in range(600):
        value = [value]
    return value


def cyclic() -> dict[str, Any]:
    """A dict that holds itself."""
    value: dict[str, Any] = {}
    value["again"] = value
    return value


@pytest.mark.parametrize("build", [deep, cyclic])
@pytest.mark.parametrize("scope", ["", "app:", "user:"])
async def test_state_without_end(refused: Refused, build: Callable[[], Any], scope: str) -> None:
    """State that nests too deep, or holds itself, is refused by its key."""
    state = {f"{scope}key": build(), "other": 1}
    message = "key.*nested deeper than 512 levels, or holding itself"
    await refused(lambda store: store.create_session(*KEY, state), message)
    await refused(lambda store: store.update_session_state(*KEY, state), message)
    event = said("hi", actions=EventActions(state_delta=state)) if build is deep else None
    if event is not None:
        await refused(
            lambda store: store.append_event(*KEY, event, expected=HELD),
            "nested deeper than 512 levels, or holding itself",
        )


class Point(BaseModel):
    """A model, with a default and a None."""

    x: int = 1
    label: str | None = None
    at: datetime = datetime(2026, 1, 2, tzinfo=timezone.utc)


class Opaque:
    """What nothing can serialize."""

    def __repr__(self) -> str:
        return "<opaque>"


def tool() -> None:
    """A function."""


# By name: the value, and whether ADK warns of it.
NOT_JSON: dict[str, tuple[Any, bool]] = {
    "datetime": (datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc), False),
    "date": (date(2026, 1, 2), False),
    "timedelta": (timedelta(hours=1), False),
    "decimal": (Decimal("1.50"), False),
    "set": ({"one"}, False),
    "tuple": ((1, (2,)), False),
    "bytes": ("wörld".encode(), False),
    "model": (Point(), False),
    "models within": ({"list": [Point(x=2)], "t": (Point(),)}, False),
    "int keys": ({1: {2: 3}}, False),
    "none key": ({None: 1}, False),
    "exception": (ValueError("bad"), True),
    "object": (Opaque(), True),
    "function": (tool, True),
    "class": (Opaque, True),
    "mixed": ([tool, datetime(2026, 1, 2, tzinfo=timezone.utc), {1}, b"x", Point(), (1,), Decimal(1)], True),
    "mixed keys": ({1: tool, "d": {2: date(2026, 1, 2)}}, True),
    "range": (range(3), True),
}


@pytest.mark.parametrize("kind", NOT_JSON)
async def test_state_that_is_not_json(beside: Database, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """It is stored as ADK's database service stores it, with its warning, by creation and by update."""
    value, warned = NOT_JSON[kind]
    state = {scope + "k": value for scope in ("", "app:", "user:")} | {"plain": 1.5}
    key = {"app_name": kind, "user_id": "user", "session_id": "s"}

    def warnings() -> int:
        found = [r for r in caplog.records if "Failed to serialize session state" in r.message]
        assert all(r.levelno == logging.WARNING for r in found)
        caplog.clear()
        return len(found)

    async with backends.database(beside.dsn).open() as adk:
        created = await adk.create_session(**key, state=state)
        expected = await adk.get_session(**key)
        assert expected is not None
    assert bool(warnings()) == warned

    async with store_at(beside.dsn, create=False) as store:
        ours = Service(store)
        created = await ours.create_session(**key, state=state)
        assert created.state == expected.state
        assert warnings() == warned
        assert await store.update_session_state(*key.values(), state) == 1
        assert warnings() == warned
        found = await ours.get_session(**key)
        assert found is not None
        assert found.state == expected.state
        await all_back(store.config)


@pytest.mark.parametrize("scope", ["", "app:", "user:"])
async def test_bytes_that_are_no_text(beside: Database, refused: Refused, scope: str) -> None:
    """Bytes can be stored only where they are UTF-8; others are a ValueError, ADK's as well as ours."""
    state = {scope + "k": b"\xff"}
    async with backends.database(beside.dsn).open() as adk:
        with pytest.raises(ValueError, match="utf-8"):
            await adk.create_session(**APP, state=state)
    await refused(lambda store: store.create_session(*KEY, state), "utf-8")
    await refused(lambda store: store.update_session_state(*KEY, state), "utf-8")


# What is not there.

# What every kind of operation does first, by name; `held` is what an append expects.
OPERATIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "create": lambda store: store.create_session("app", "user", "new", {"k": 1, "app:a": 1, "user:u": 1}),
    "get": lambda store: store.get_session(*KEY),
    "get newest": lambda store: store.get_session(*KEY, limit=1),
    "list": lambda store: store.list_sessions("app"),
    "update": lambda store: store.update_session_state(*KEY, {"k": 1, "app:a": 1, "user:u": 1}),
    "delete": lambda store: store.delete_session(*KEY),
    "append": lambda store: store.append_event(*KEY, delta({"k": 1, "app:a": 1}), expected=HELD),
    "outcome": lambda store: store.append_outcome(*KEY, "e"),
    "events": lambda store: store.get_events(*KEY),
    "event": lambda store: store.get_event(*KEY, "e"),
    "last event": lambda store: store.last_event(*KEY),
    "app state": lambda store: store.get_app_state("app"),
    "user state": lambda store: store.get_user_state("app", "user"),
}


async def failures(
    store: Store, kind: type[BaseException], operations: dict[str, Callable[[Store], Awaitable[object]]]
) -> dict[str, str]:
    """What each of the operations says when it fails, which it must; all connections back afterwards."""
    texts = {}
    for name, operation in operations.items():
        with pytest.raises(kind) as raised:
            await operation(store)
        texts[name] = str(raised.value)
        await all_back(store.config)
    return texts


WITH_TABLES = {**OPERATIONS, "create tables": lambda store: store.create_tables()}


@makes_tables
async def test_missing_tables(database: Database) -> None:
    """Every operation says which table is missing and what makes it, and works once it is made."""
    async with store_at(database.dsn, create=False) as store:
        for name, text in (await failures(store, DatabaseError, OPERATIONS)).items():
            assert "no table" in text, name
            assert "adk_sessions" in text, name
            assert "create_tables()" in text, name
        await store.create_tables()
        for name, operation in OPERATIONS.items():
            if name != "update":
                await operation(store)
        with pytest.raises(SessionNotFoundError):
            await OPERATIONS["update"](store)


@makes_tables
async def test_a_table_under_another_name(database: Database) -> None:
    """The message names the table that this store wants, with its schema."""
    async with store_at(database.dsn), store_at(database.dsn, "agents.chats", "turns", create=False) as store:
        texts = await failures(store, DatabaseError, OPERATIONS)
        assert all('"agents"."chats"' in text for text in texts.values())


@changes_tables
@pytest.mark.parametrize("table", ["adk_events", "adk_app_states", "adk_user_states"])
async def test_one_table_gone(store: Store, database: Database, table: str) -> None:
    """A table that was dropped beside the sessions is named, and nothing is half written."""
    await store.create_session(*KEY)
    held = await version(store)
    operations: dict[str, Callable[[Store], Awaitable[object]]] = {
        "append": lambda store: store.append_event(
            *KEY, delta({"k": 1, "app:a": 1, "user:u": 1}), expected=held
        )
    }
    if table != "adk_events":
        operations |= {name: OPERATIONS[name] for name in ("create", "update", "get", "list")}
    rows = "SELECT to_jsonb(s)::text AS row FROM adk_sessions AS s"
    before = run_sql(database.dsn, rows, f"DROP TABLE {table} CASCADE")[0]
    texts = await failures(store, psqlpy.Error, operations)
    assert all(table in text for text in texts.values())
    assert run_sql(database.dsn, rows)[0] == before


async def test_rights_that_are_missing(store: Store, database: Database) -> None:
    """A role that may not read the tables is told so, not that they are missing."""
    run_sql(
        database.dsn,
        "DROP ROLE IF EXISTS adk_stranger",
        "CREATE ROLE adk_stranger LOGIN PASSWORD 'stranger'",
    )
    await store.create_session(*KEY, {"k": 1})
    before = contents(database.dsn)
    dsn = with_database(database.dsn, database.name, user="adk_stranger", password="stranger")
    async with store_at(dsn, create=False) as stranger:
        for name, text in (await failures(stranger, psqlpy.Error, OPERATIONS)).items():
            assert "permission denied for table" in text, name
    assert contents(database.dsn) == before
    run_sql(database.dsn, "DROP ROLE adk_stranger")


async def test_no_server() -> None:
    """Where nobody listens, every operation says where it tried and what to look at."""
    port = free_port()
    given = {"host": "127.0.0.1", "port": port, "username": "u", "password": "sesame", "db_name": "d"}
    async with PsqlpyConfig(given) as config:
        texts = await failures(PsqlpyADKStore(config), BaseConnectionPoolError, WITH_TABLES)
    for name, text in texts.items():
        assert f"127.0.0.1:{port}" in text, name
        assert "Check that the server is running" in text, name
        assert "sesame" not in text, name


async def test_no_such_database(database: Database) -> None:
    """A database that does not exist is named."""
    async with store_at(database.server.database_dsn("adk_nothing"), create=False) as store:
        for name, text in (await failures(store, BaseConnectionPoolError, WITH_TABLES)).items():
            assert 'database "adk_nothing" does not exist' in text, name
            assert "Check that" in text, name


@pytest.fixture(scope="module")
def guarded() -> Iterator[BinaryServer]:
    """A server that asks everybody but its superuser for a password."""
    rules = "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n"
    with BinaryServer(wheel_binaries(), hba=rules) as server:
        run_sql(server.dsn, "CREATE ROLE alice LOGIN PASSWORD 'right'")
        yield server


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"username": "alice", "password": "open sesame"}, 'password authentication failed for user "alice"'),
        (
            {"username": "nobody", "password": "open sesame"},
            'password authentication failed for user "nobody"',
        ),
        ({"username": "alice"}, "password"),
    ],
    ids=["wrong password", "wrong user", "no password"],
)
async def test_wrong_password(
    guarded: BinaryServer, caplog: pytest.LogCaptureFixture, given: dict[str, str], said: str
) -> None:
    """The error names the user, and neither it, nor what it came from, nor the log shows the password."""
    caplog.set_level(logging.DEBUG)
    place = {"host": "127.0.0.1", "port": guarded.port, "db_name": "postgres"}
    async with PsqlpyConfig(place | given) as config:
        store = PsqlpyADKStore(config)
        texts = await failures(store, BaseConnectionPoolError, WITH_TABLES)
        assert all(said in text for text in texts.values())
        with pytest.raises(BaseConnectionPoolError) as raised:
            await Service(store).create_session(**APP)
        shown = "".join(traceback.format_exception(raised.value)) + repr(config) + repr(store.config)
        assert "sesame" not in shown + caplog.text + "".join(texts.values())


# What the service refuses.


async def test_refusals_leave_no_trace(store: Store, service: Service, database: Database) -> None:
    """After each refusal of the contract the tables are as before, and every connection is back."""
    session = await service.create_session(**APP, session_id="s", state={"k": 1, "app:a": 1})
    old = session.model_copy(deep=True)
    await service.append_event(session, said("hi", id="e"))
    other = Session(id="nothing", **APP)
    change = {"k": 2, "app:a": 2, "user:u": 2}
    refusals: list[tuple[type[Exception], Callable[[], Awaitable[object]]]] = [
        (AlreadyExistsError, lambda: service.create_session(**APP, session_id=" s ", state=change)),
        (AlreadyExistsError, lambda: service.append_event(session, delta(change, id="e"))),
        (StaleSessionError, lambda: service.append_event(old, delta(change))),
        (SessionNotFoundError, lambda: service.append_event(other, delta(change))),
        (SessionNotFoundError, lambda: store.update_session_state(*APP.values(), "nothing", change)),
        (ValueError, lambda: service.append_event(session, delta(change, id="x" * 129))),
        (ValueError, lambda: service.append_event(session, delta(change, timestamp=math.nan))),
        (ValueError, lambda: service.append_event(session, delta({**change, "deep": deep()}))),
    ]
    before = contents(database.dsn)
    for kind, call in refusals:
        with pytest.raises(kind):
            await call()
        assert contents(database.dsn) == before
        await all_back(store.config)
    await service.append_event(session, delta(change))
    assert await service.get_session(**APP, session_id="s") == session


async def test_cancelled_calls_give_their_connection_back(store: Store, database: Database) -> None:
    """Calls that are cancelled at any moment leave no connection checked out, and nothing half written."""
    await store.create_session(*KEY)
    tasks = []
    for n in range(40):
        tasks.append(asyncio.create_task(store.update_session_state(*KEY, {"k": n, "app:k": n})))
        for _ in range(n % 4):
            await asyncio.sleep(0)
        if n % 5 == 0:  # time for those before to get further
            await store.get_app_state("app")
        tasks[-1].cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await all_back(store.config)
    found = await store.get_session(*KEY)
    assert found is not None
    assert found.state.get("k") == found.state.get("app:k")


@pytest.mark.parametrize(
    ("field", "value"), [("timestamp", None), ("actions", None), ("actions", {})], ids=repr
)
async def test_fields_assigned_wrongly(beside: Database, field: str, value: object) -> None:
    """Assignment checks nothing, so the store names the field that it cannot do without."""
    async with store_at(beside.dsn, create=False) as store:
        service = PsqlpySessionService(store)
        session = await service.create_session(app_name="assigned", user_id="user")
        event = said("hi", seconds=0)
        setattr(event, field, value)
        before = contents(beside.dsn)
        with pytest.raises(ValueError, match=rf"event\.{field} must be"):
            await store.append_event("assigned", "user", session.id, event, expected=HELD)
        assert contents(beside.dsn) == before
