"""What callers of every service give, refused before anything is sent: identifiers, numbers, seconds."""

from __future__ import annotations

import re
from typing import Final

LONGEST_KEY: Final = 1_024
"""The most that `key_length` may be, in characters."""

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL's text cannot hold (manual, 8.3 and 24.3): U+0000, and what UTF-8 has no bytes for."""


def whole(name: str, value: int, most: int) -> int:
    """Refuse what is no integer from 1 to `most`.

    Raises:
        ValueError: naming it and the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name} must be an integer from 1 to {most}, not {value!r}")
    return value


def positive_seconds(name: str, value: float) -> float:
    """Refuse what is no positive number of seconds, at most a day.

    Raises:
        ValueError: naming it and the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86_400:
        raise ValueError(f"{name} must be a number of seconds above 0 and at most 86,400, not {value!r}")
    return value


def check_identifier(
    name: str, value: object, key_length: int, owner: str, *, refusal: type[ValueError] = ValueError
) -> None:
    """Refuse what a key column of `key_length` characters cannot hold.

    `owner` is the class whose argument `key_length` is, for the message.

    Raises:
        refusal: not a str, too long, or with U+0000 or a lone surrogate in it.
    """
    if not isinstance(value, str):
        raise refusal(f"{name} must be a str, not {type(value).__name__}")
    if len(value) > key_length:
        raise refusal(
            f"{name} has {len(value):,} characters, and at most {key_length:,} are kept "
            f"({owner}(key_length=...) raises that)"
        )
    if UNSTORABLE.search(value):
        raise refusal(f"{name} holds U+0000 or a lone surrogate, which PostgreSQL's text cannot")
