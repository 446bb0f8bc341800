"""What a URI may say, and how one that is wrong is refused: by the part, and without the password."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.service_registry.uri import OPTIONS, ServiceUri, parse

PASSWORD = "hush-hush"

GOOD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "all parts": (
        "psqlpy://user:pw@db.example:6432/app?max_db_pool_size=20",
        {
            "username": "user",
            "password": "pw",
            "host": "db.example",
            "port": 6432,
            "db_name": "app",
            "max_db_pool_size": 20,
        },
        {},
    ),
    "nothing but a database": ("psqlpy:///app", {"db_name": "app"}, {}),
    "the environment's server": ("psqlpy://?max_db_pool_size=5", {"max_db_pool_size": 5}, {}),
    "a scheme in capitals": ("PSQLPY://h/d", {"host": "h", "db_name": "d"}, {}),
    "percent-encoding": (
        "psqlpy://us%40er:p%40%2F%3A%3F%23w@h/d%20b?application_name=a%26b",
        {
            "username": "us@er",
            "password": "p@/:?#w",
            "host": "h",
            "db_name": "d b",
            "application_name": "a&b",
        },
        {},
    ),
    "a plus is a plus": ("psqlpy://h/d?application_name=a+b", {"application_name": "a+b"}, {}),
    "several hosts": (
        "psqlpy://u@a:1,b:2/d?target_session_attrs=read-write",
        {"hosts": ["a", "b"], "ports": [1, 2], "target_session_attrs": "read-write"},
        {},
    ),
    "several hosts in the query": (
        "psqlpy://u@/d?hosts=a,b&ports=1,2",
        {"hosts": ["a", "b"], "ports": [1, 2], "username": "u", "db_name": "d"},
        {},
    ),
    "a Unix socket": ("psqlpy://u@/d?host=/run/pg&port=5433", {"host": "/run/pg", "port": 5433}, {}),
    "a socket in the host": ("psqlpy://u@%2Frun%2Fpg/d", {"host": "/run/pg"}, {}),
    "IPv6": ("psqlpy://u@[::1]:5432/d", {"host": "::1", "port": 5432}, {}),
    "a password in the query": ("psqlpy://u@h/d?password=pw", {"password": "pw", "username": "u"}, {}),
    "seconds": (
        "psqlpy://h/d?read_timeout_sec=2.5&retry_sec=0",
        {"read_timeout_sec": 2.5, "retry_sec": 0},
        {},
    ),
    "a flag": ("psqlpy://h/d?keepalives=False", {"keepalives": False}, {}),
    "server options": (
        "psqlpy://h/d?options=-c%20search_path%3Dagents",
        {"options": "-c search_path=agents"},
        {},
    ),
    "the services' options": (
        "psqlpy://h/d?session_table=a.s&events_table=a.e&memory_table=a.m&artifact_table=a.f"
        "&key_length=512&language=english&stale_policy=merge",
        {"host": "h", "db_name": "d"},
        {
            "session_table": "a.s",
            "events_table": "a.e",
            "memory_table": "a.m",
            "artifact_table": "a.f",
            "key_length": 512,
            "language": "english",
            "stale_policy": "merge",
        },
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    uri, wanted, options = GOOD[name]
    parsed = parse(uri)
    assert not parsed.embedded
    assert wanted.items() <= parsed.pool_config.items()
    assert dict(parsed.options) == options
    assert set(options) <= set(OPTIONS)
    if "hosts" not in wanted:
        assert set(parsed.pool_config) - {"username", "password", "host", "port", "db_name"} <= set(wanted)
    if parsed.pool_config.keys() & {"host", "hosts", "db_name"}:
        PsqlpyConfig(parsed.pool_config)


@pytest.mark.parametrize(
    ("uri", "data_dir", "pool_config"),
    [
        ("psqlpy+embedded:///srv/agents/data", Path("/srv/agents/data"), {}),
        ("psqlpy+embedded:///srv/a%20b", Path("/srv/a b"), {}),
        ("psqlpy+embedded:///data?max_db_pool_size=3", Path("/data"), {"max_db_pool_size": 3}),
        ("psqlpy+embedded://", None, {}),
        ("psqlpy+embedded:///", None, {}),
        ("PSQLPY+Embedded:///data", Path("/data"), {}),
    ],
)
def test_embedded(uri: str, data_dir: Path | None, pool_config: dict[str, Any]) -> None:
    assert parse(uri) == ServiceUri(True, data_dir, pool_config, {})


BAD = {
    "no scheme": (f"user:{PASSWORD}@h/d", r"neither psqlpy:// nor psqlpy\+embedded://"),
    "no slashes": (f"psqlpy:user:{PASSWORD}@h/d", r"neither psqlpy:// nor psqlpy\+embedded://"),
    "a scheme part": (
        f"psqlpy+foo://user:{PASSWORD}@h/d",
        r"scheme 'psqlpy\+foo' is not known: write psqlpy://",
    ),
    "a driver's scheme": (f"postgresql+psqlpy://u:{PASSWORD}@h/d", r"'postgresql\+psqlpy' is not known"),
    "a fragment": ("psqlpy://h/d#sessions", r"fragment \(what follows #\).*# %23"),
    "a password with #": (f"psqlpy://u:a#{PASSWORD}@h/d", r"# %23"),
    "a password with ?": (f"psqlpy://u:a?{PASSWORD}@h/d", r"'@' after the '\?'.*\? %3F"),
    "a password with /": (f"psqlpy://u:1/{PASSWORD}@h/d", r"'@' after the host.*/ %2F"),
    "a space": ("psqlpy://h/my db", r"space.*%20"),
    "a line break": ("psqlpy://h/d\n", r"line break.*percent-encoded"),
    "a port in letters": (f"psqlpy://h:{PASSWORD}/d", "the port is not a number"),
    "a port out of range": ("psqlpy://h:70000/d", "port: 1 to 65535"),
    "bytes": (f"psqlpy://u:{PASSWORD}%ff@h/d", "not UTF-8"),
    "bytes in an option": ("psqlpy://h/d?application_name=%ff", "application_name: .*not UTF-8"),
    "an unknown option": ("psqlpy://h/d?max_pool_size=5", "'max_pool_size'; did you mean 'max_db_pool_size'"),
    "an unknown option unlike any": ("psqlpy://h/d?zzz=5", r"'zzz'\. Known: host, port.*session_table"),
    "libpq's name": ("psqlpy://h/d?sslmode=require", "unknown option 'sslmode'; did you mean 'ssl_mode'"),
    "a service's option misspelt": ("psqlpy://h/d?sessions_table=a", "did you mean 'session_table'"),
    "dsn": ("psqlpy://?dsn=postgresql%3A%2F%2Fh%2Fd", "unknown option 'dsn'"),
    "what is no name": (f"psqlpy://u?{PASSWORD}=1", "a name of an option.*max_db_pool_size=20"),
    "no value": ("psqlpy://h/d?ssl_mode", "ssl_mode: no '='"),
    "an empty value": ("psqlpy://h/d?application_name=", "application_name: a str, not empty"),
    "twice": ("psqlpy://h/d?retry_sec=1&retry_sec=2", "retry_sec: given twice"),
    "two hosts": ("psqlpy://h/d?host=g", r"host: given before the '\?' and after it"),
    "a host and hosts": ("psqlpy://h/d?hosts=g", r"hosts: given before the '\?' and after it"),
    "two passwords": (f"psqlpy://u:pw@h/d?password={PASSWORD}", r"password: given before the '\?'"),
    "no whole number": ("psqlpy://h/d?max_db_pool_size=many", "max_db_pool_size: a whole number.*'many'"),
    "half a number": ("psqlpy://h/d?max_db_pool_size=2.5", "max_db_pool_size: a whole number.*'2.5'"),
    "no number of seconds": ("psqlpy://h/d?retry_sec=1m", "retry_sec: a number of seconds.*'1m'"),
    "no flag": ("psqlpy://h/d?keepalives=maybe", "keepalives: true or false.*'maybe'"),
    "no choice": ("psqlpy://h/d?ssl_mode=maybe", "ssl_mode: one of 'disable'"),
    "a pool of one": ("psqlpy://h/d?max_db_pool_size=1", "max_db_pool_size: 2 to"),
    "a client certificate": ("psqlpy://h/d?sslcert=/c.pem", "sslcert: psqlpy 0.13 cannot"),
    "no root certificate": ("psqlpy://h/d?ssl_mode=verify-full", "'verify-full' needs ca_file"),
    "no key length": ("psqlpy://h/d?key_length=long", "key_length: a whole number.*'long'"),
    "an embedded host": ("psqlpy+embedded://data/pg", "three slashes and an absolute path"),
    "an embedded user": (f"psqlpy+embedded://u:{PASSWORD}@/data", "no user and no password"),
    "an embedded user in the query": ("psqlpy+embedded:///d?username=u", "username: an embedded server"),
    "an embedded fragment": ("psqlpy+embedded:///d#x", "fragment"),
    "an embedded unknown option": ("psqlpy+embedded:///d?max_pool_siz=3", "did you mean 'max_db_pool_size'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    uri, said = BAD[name]
    with pytest.raises(ValueError, match=said) as refused:
        PsqlpyConfig(parse(uri).pool_config)
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


def test_every_refusal_of_the_syntax_says_what_it_is_about() -> None:
    with pytest.raises(ValueError, match=r"^psqlpy URI: "):
        parse("psqlpy://h/d?zzz=1")


def test_a_parsed_uri_shows_no_password() -> None:
    assert PASSWORD not in repr(parse(f"psqlpy://u:{PASSWORD}@h/d"))


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("psqlpy://u@h/d", "psqlpy://u@h/d?session_table=other", True),
        (
            "psqlpy://u@h/d?retry_sec=1&max_db_pool_size=3",
            "psqlpy://u@h/d?max_db_pool_size=3&retry_sec=1",
            True,
        ),
        ("psqlpy://u@/d?host=h", "psqlpy://u@h/d", True),
        ("psqlpy://u@a,b/d", "psqlpy://u@a,b/d?language=german", True),
        ("psqlpy+embedded:///data", "psqlpy+embedded:///data?key_length=64", True),
        ("psqlpy://u@h/d", "psqlpy://u@h/e", False),
        ("psqlpy://u:a@h/d", "psqlpy://u:b@h/d", False),
        ("psqlpy://u@h/d", "psqlpy://u@h/d?max_db_pool_size=3", False),
        ("psqlpy+embedded:///data", "psqlpy+embedded:///other", False),
    ],
)
def test_which_uris_share_a_pool(one: str, other: str, shared: bool) -> None:
    assert (parse(one).pool_key == parse(other).pool_key) is shared
