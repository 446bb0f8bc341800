"""Taking apart the URIs of ADK's services.

    psqlpy://user:password@host:port/db?max_db_pool_size=20&session_table=agents.sessions
    psqlpy+embedded:///path/to/data?application_name=notebook

The query holds keys of `pool_config` and the options in `OPTIONS`. No message quotes text that can be part of
a password: a password with an unescaped `@`, `/`, `?` or `#` can end up in any part of the URI.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from urllib.request import url2pathname

from adk_psqlpy.connections.dsn import Secret, parse_dsn
from adk_psqlpy.connections.keys import KEYS, PUBLIC_KEYS, TARGET_KEYS, close_to
from adk_psqlpy.connections.libpq import read_parameters

SCHEME: Final = "psqlpy"
EMBEDDED_SCHEME: Final = "psqlpy+embedded"

OPTIONS: Final = {
    "session_table": "table of the sessions",
    "events_table": "table of the events",
    "memory_table": "table of the memories",
    "artifact_table": "table of the artifacts' versions",
    "key_length": "longest app name, user, session or event id, for all three services",
    "history_cache_bytes": "memory for the events of sessions that were read, 0 for none",
    "language": "text search configuration of the memories",
    "stale_policy": "'raise' or 'merge'",
}
"""Options of the services, beside the keys of `pool_config`. Each service reads its own ones."""

_KNOWN: Final = (*(name for name in PUBLIC_KEYS if name != "dsn"), *OPTIONS)
_FLAGS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_ESCAPE: Final = (
    "write special characters of the user and the password percent-encoded "
    "(@ %40, / %2F, : %3A, ? %3F, # %23)"
)


@dataclass(frozen=True)
class ServiceUri:
    """The content of a URI: where the server is, how to connect, and the services' own options.

    `pool_config` can be given to `PsqlpyConfig`. It may hold a password, so it is not shown. With `embedded`,
    `data_dir` is the folder of the embedded server's data; `None` is the default folder.
    """

    embedded: bool
    data_dir: Path | None
    pool_config: Mapping[str, Any] = field(repr=False)
    options: Mapping[str, Any]

    @property
    def pool_key(self) -> Hashable:
        """A key that is equal for URIs that may share a pool. The services' options make no difference."""
        settings = (
            (name, tuple(it) if isinstance(it, list) else it) for name, it in self.pool_config.items()
        )
        return (self.embedded, self.data_dir, frozenset(settings))

    def chosen(self, *names: str) -> dict[str, Any]:
        """Those of the named options that are given."""
        return {name: self.options[name] for name in names if name in self.options}


def parse(uri: str) -> ServiceUri:
    """Take a URI apart. Values are converted to the types of their keys; `PsqlpyConfig` checks everything
    else.

    Raises:
        ValueError: a part is wrong. The message names it and says what to write; it never shows a password.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        raise _wrong(f"it begins with neither {SCHEME}:// nor {EMBEDDED_SCHEME}://")
    scheme = scheme.lower()
    if scheme not in (SCHEME, EMBEDDED_SCHEME):
        raise _wrong(
            f"the scheme {scheme!r} is not known: write {SCHEME}://user:password@host:port/db, or "
            f"{EMBEDDED_SCHEME}:///path for the embedded server"
        )
    if re.search(r"[\0-\x20\x7f]", rest):
        raise _wrong("a space, line break or control character is in it: write it percent-encoded (%20)")
    if "#" in rest:
        raise _wrong(f"a fragment (what follows #) has no meaning here; {_ESCAPE}")
    location, _, query = rest.partition("?")
    if "@" in query:
        raise _wrong(f"an '@' after the '?'; {_ESCAPE}")
    embedded = scheme == EMBEDDED_SCHEME
    pool_config: dict[str, Any] = {}
    data_dir = None
    if embedded:
        data_dir = _data_dir(location)
    else:
        pool_config = _located(location)
    options: dict[str, Any] = {}
    for name, text in _pairs(query).items():
        if name in OPTIONS:
            options[name] = _whole(name, text) if name in ("key_length", "history_cache_bytes") else text
        elif embedded and name in TARGET_KEYS:
            raise _wrong(f"{name}: an embedded server is at its path, and asks for no user: leave it out")
        elif name in _taken(pool_config):
            raise _wrong(f"{name}: given before the '?' and after it; leave one of them out")
        else:
            pool_config[name] = _value(name, text)
    return ServiceUri(embedded, data_dir, pool_config, options)


def _located(location: str) -> dict[str, Any]:
    """`user:password@host:port/db` as keys of `pool_config`; several hosts are separated by commas."""
    try:
        found = read_parameters(parse_dsn(f"postgresql://{location}"), "the part before the '?'")
    except ValueError as error:
        raise _wrong(str(error).removeprefix("dsn: ")) from None
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in found.items()}


def _taken(located: Mapping[str, Any]) -> set[str]:
    """The keys that are given twice. `host` and `hosts` count as one key."""
    taken = set(located)
    for one, many in (("host", "hosts"), ("port", "ports")):
        if one in taken or many in taken:
            taken |= {one, many}
    return taken


def _data_dir(location: str) -> Path | None:
    """The path of `psqlpy+embedded:///path`; `None` if there is none."""
    authority, _, path = location.partition("/")
    if "@" in authority:
        raise _wrong("an embedded server asks for no user and no password: leave out what is before the '@'")
    if authority:
        raise _wrong(
            f"what follows '//' is a host, and an embedded server has none: write three slashes and an "
            f"absolute path, {EMBEDDED_SCHEME}:///path/to/data"
        )
    return Path(url2pathname(f"/{path}")) if path else None


def _pairs(query: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, text = pair.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise _wrong(
                f"a name of an option is letters and underscores, as in max_db_pool_size=20; {_ESCAPE}"
            )
        if name not in _KNOWN:
            raise _wrong(f"unknown option {name!r}{close_to(name, _KNOWN)}. Known: {', '.join(_KNOWN)}")
        if not equals:
            raise _wrong(f"{name}: no '=' and value follow")
        if name in pairs:
            raise _wrong(f"{name}: given twice")
        pairs[name] = _decoded(name, text)
    return pairs


def _decoded(name: str, text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        # from None: the error's own text would show the bytes.
        raise _wrong(f"{name}: percent-encoded bytes that are not UTF-8") from None


def _value(name: str, text: str) -> Any:
    """The text as the type of its key."""
    kind = KEYS[name].kind
    if kind == "whole":
        return _whole(name, text)
    if kind == "wholes":
        return [_whole(name, part) for part in text.split(",")]
    if kind == "texts":
        return text.split(",")
    if kind == "seconds":
        if not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
            raise _wrong(f"{name}: a number of seconds is wanted, got {text!r}")
        return float(text)
    if kind == "flag":
        if text.lower() not in _FLAGS:
            raise _wrong(f"{name}: true or false is wanted, got {text!r}")
        return _FLAGS[text.lower()]
    return text


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        raise _wrong(f"{name}: a whole number is wanted, got {text!r}")
    return int(text)


def _wrong(what: str) -> ValueError:
    return ValueError(f"{SCHEME} URI: {what}")
