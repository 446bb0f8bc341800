"""Checks of arguments that all services take, before anything is sent: identifiers, numbers, seconds."""

from __future__ import annotations

import re
from typing import Final

LONGEST_KEY: Final = 1_024
"""The largest `key_length`, in characters."""

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""Characters that PostgreSQL's text cannot hold (manual, 8.3 and 24.3): U+0000 and lone surrogates."""


def whole(name: str, value: int, most: int) -> int:
    """Refuse anything but an integer from 1 to `most`.

    Raises:
        ValueError: it is not; the message names it and the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name} must be an integer from 1 to {most}, not {value!r}")
    return value


def positive_seconds(name: str, value: float) -> float:
    """Refuse anything but a positive number of seconds, at most a day.

    Raises:
        ValueError: it is not; the message names it and the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86_400:
        raise ValueError(f"{name} must be a number of seconds above 0 and at most 86,400, not {value!r}")
    return value


def check_names(**names: object) -> None:
    """Refuse names of apps and ids of users that are empty, or that no table's keys can hold.

    Raises:
        ValueError: the message says which, and why.
    """
    for name, value in names.items():
        check_identifier(name, value, LONGEST_KEY, "PsqlpyADKStore")
        if not value:
            raise ValueError(f"{name} must not be empty")


def check_identifier(
    name: str, value: object, key_length: int, owner: str, *, refusal: type[ValueError] = ValueError
) -> None:
    """Refuse a value that a key column of `key_length` characters cannot hold.

    `owner` is the class whose argument `key_length` is, for the message.

    Raises:
        refusal: it is not a str, is too long, or contains U+0000 or a lone surrogate.
    """
    if not isinstance(value, str):
        raise refusal(f"{name} must be a str, not {type(value).__name__}")
    if len(value) > key_length:
        raise refusal(
            f"{name} has {len(value):,} characters, and at most {key_length:,} are kept "
            f"(a larger {owner}(key_length=...) allows more)"
        )
    if UNSTORABLE.search(value):
        raise refusal(f"{name} holds U+0000 or a lone surrogate, which PostgreSQL's text cannot hold")
