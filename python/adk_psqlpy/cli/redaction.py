"""Taking passwords out of everything that is printed: messages, usage errors, tracebacks."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final
from urllib.parse import quote

_STARS: Final = "***"
_IN_URL: Final = re.compile(r"://\S*@")
_IN_KEYWORDS: Final = re.compile(r"(?i)\b(ssl)?password=(?!\*\*\*)('(?:[^'\\]|\\.)*'|[^\s&]+)")


class Redaction:
    """Hides the passwords of a command line and of its environment, wherever they turn up."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Find the passwords in the arguments and the environment, which need not be valid."""
        given = {*_passwords(arguments, environment)}
        spelled = sorted({*given, *(quote(each, safe="") for each in given)}, key=len, reverse=True)
        # As whole words: the password `postgres` must not change the word `postgresql`.
        words = "|".join(re.escape(each) for each in spelled)
        self._given = re.compile(rf"(?<!\w)(?:{words})(?!\w)") if words else None

    def hide(self, text: str) -> str:
        """The text, with stars for passwords."""
        if self._given is not None:
            text = self._given.sub(_STARS, text)
        return _IN_KEYWORDS.sub(rf"\1password={_STARS}", _IN_URL.sub(f"://{_STARS}@", text))

    def excepthook(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """What `sys.excepthook` does, without passwords."""
        sys.stderr.write(self.hide("".join(traceback.format_exception(kind, error, trace))))


def _passwords(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    if environment.get("PGPASSWORD"):
        yield environment["PGPASSWORD"]
    for text in (*arguments, environment.get("DATABASE_URL", "")):
        if "://" in text:
            yield from _of_url(text)
        for _, value in _IN_KEYWORDS.findall(text):
            yield value.strip("'")


def _of_url(url: str) -> Iterator[str]:
    """The text between `:` and `@`, as it is written, and decoded."""
    from urllib.parse import unquote

    userinfo, at, _ = url.partition("://")[2].rpartition("@")
    password = userinfo.partition(":")[2]
    if at and password:
        yield password
        yield unquote(password)
