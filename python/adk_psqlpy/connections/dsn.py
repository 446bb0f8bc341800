"""Connection strings: read (URL or keyword form), written, and shown without their password.

psqlpy reads a part of libpq's syntax, and drops or misreads the rest. So a DSN is taken apart here, checked
key by key in `options`, and given to psqlpy in the keyword form only. No message of this module quotes a DSN:
a password with an unescaped `/` or `@` can end up in any part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

SCHEMES = ("postgresql", "postgres")

_ESCAPE_HINT = (
    "In a URL, write special characters of the user and the password percent-encoded "
    "(@ %40, / %2F, : %3A, ? %3F)."
)
_SECRETS = ("password", "sslpassword")

# One `keyword = value` of libpq's other form: the value bare or in single quotes, with backslash escapes.
_PAIR = re.compile(
    r"\s*(?P<key>[A-Za-z_]+)\s*=\s*(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<bare>(?:[^\s'\\]|\\.)*))(?=\s|$)"
)


class Secret:
    """A password that no `repr`, `str`, `vars()` or traceback shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Wrap `text`."""
        self._text = text

    def reveal(self) -> str:
        """Return the password itself, for the driver alone."""
        return self._text

    def __repr__(self) -> str:
        """Return three stars, whatever the password is."""
        return "'***'"

    def __eq__(self, other: object) -> bool:
        """Two secrets are equal when their texts are."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        """Hash the text."""
        return hash(self._text)


def parse_dsn(dsn: str) -> dict[str, str]:
    """Take a DSN apart into libpq's parameter names and their texts.

    Args:
        dsn: `postgresql://user:password@host:port/db?key=value` (several hosts separated by commas), or
            `host=... user=...` as libpq writes it.

    Returns:
        libpq name to text. Names are not checked. `host` and `port` hold comma-separated lists if there are
        several.

    Raises:
        ValueError: the text has neither form. The message quotes nothing of it.
    """
    if "\0" in dsn:
        raise ValueError("dsn: a NUL character is not possible in a connection string")
    scheme, separator, rest = dsn.partition("://")
    if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.\-]*", scheme):
        if scheme.lower() in SCHEMES:
            return _parse_url(rest)
        raise ValueError(
            f"dsn: the scheme {scheme!r} is not PostgreSQL's own; "
            "write 'postgresql://...', without a driver's name"
        )
    return _parse_keywords(dsn)


def _parse_url(rest: str) -> dict[str, str]:
    """Parse what follows `postgresql://`."""
    location, _, query = rest.partition("?")
    authority, _, database = location.partition("/")
    user_info, at, hosts = authority.rpartition("@")
    if "@" in database or "@" in query:
        raise ValueError(f"dsn: an '@' after the host. {_ESCAPE_HINT}")
    found: dict[str, str] = {}
    if at:
        user, colon, password = user_info.partition(":")
        if user:
            found["user"] = _decoded(user)
        if colon and password:
            found["password"] = _decoded(password)
    if hosts:
        names, ports = zip(*(_split_host(host) for host in hosts.split(",")), strict=True)
        if any(names):
            found["host"] = ",".join(names)
        if any(ports):
            found["port"] = ",".join(ports)
    if database:
        found["dbname"] = _decoded(database)
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"dsn: a parameter after '?' has no '='. {_ESCAPE_HINT}")
        found[_decoded(key)] = _decoded(value)
    return found


def _split_host(text: str) -> tuple[str, str]:
    """Split `host:port`, `[::1]:port`, `host` or `%2Frun%2Fpg` into host and port ('' where absent)."""
    bracketed = re.fullmatch(r"\[(?P<host>[^\]]*)\](?::(?P<port>.*))?", text)
    if bracketed:
        host, port = bracketed["host"], bracketed["port"] or ""
    else:
        host, _, port = text.partition(":")
    if port and not port.isdecimal():
        raise ValueError(f"dsn: the port is not a number. {_ESCAPE_HINT}")
    return _decoded(host), port


def _decoded(text: str) -> str:
    """Undo percent-encoding; a `+` stays a `+`, as in libpq."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        # from None: the error's own text would show the bytes.
        raise ValueError("dsn: percent-encoded bytes that are not UTF-8") from None


def _parse_keywords(dsn: str) -> dict[str, str]:
    """Parse `key=value key='quoted value'`."""
    return dict(_keyword_pairs(dsn))


def _keyword_pairs(dsn: str) -> Iterator[tuple[str, str]]:
    at = 0
    while dsn[at:].strip():
        match = _PAIR.match(dsn, at)
        if match is None:
            raise ValueError(
                "dsn: neither a URL nor keywords: write 'postgresql://user:password@host:port/db' or "
                "'host=... user=...' (with keywords, quote a value that has spaces: password='a b')"
            )
        value = match["quoted"] if match["quoted"] is not None else match["bare"]
        yield match["key"].lower(), re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = match.end()


def render_dsn(parameters: Mapping[str, str]) -> str:
    """Write parameters in the keyword form, with every value quoted, so that no value can add a parameter."""
    return " ".join(
        "{}='{}'".format(key, value.replace("\\", "\\\\").replace("'", "\\'"))
        for key, value in parameters.items()
    )


def redact(dsn: str) -> str:
    """Return `dsn` in the keyword form with its passwords as `***`; a fixed text if it cannot be read."""
    try:
        parameters = parse_dsn(dsn)
    except ValueError:
        return "<unreadable dsn>"
    return render_dsn({key: "***" if key in _SECRETS else value for key, value in parameters.items()})
