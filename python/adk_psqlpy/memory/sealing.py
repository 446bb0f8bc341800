"""Sealing memories before they are stored, opening them, and searching them."""

from __future__ import annotations

import re
from typing import Final

from adk_psqlpy import _native
from adk_psqlpy.connections.lanes import Row
from adk_psqlpy.memory.entries import Stored
from adk_psqlpy.memory.words import LONGEST_TEXT, beginnings, words
from adk_psqlpy.seal.seal import Seal

HASH: Final = 16
"""Letters of a hashed word: 64 bits. The probability that two of a million words have the same hash is 1 in
37 million.
"""

_WORDS_BYTES: Final = 2 * LONGEST_TEXT
"""The most bytes of hashed words that are indexed for one memory: 30,000 words, which fit into a tsvector's 1
MiB.
"""

_TERM: Final = re.compile("'([^']*)'(:\\*)?")


class Sealing:
    """Seals and opens the memories of one service. Without a seal it changes nothing, and refuses sealed
    memories.
    """

    def __init__(self, seal: Seal | None) -> None:
        self._seal = seal

    async def rows(self, scope: list[str], rows: list[Stored]) -> None:
        """Seal rows before they are written: content, metadata and the text of the time. Words become keyed
        hashes.
        """
        if (seal := self._seal) is None:
            return
        app_name, user_id, session_id = scope
        key_id = await seal.current(app_name, user_id)

        def sealed(row: Stored, column: str, value: bytes, form: str = "jsonb") -> bytes:
            place = _place(app_name, user_id, session_id, row.id, column)
            return _native.seal_value(value, seal.keys, key_id, place, form=form)

        for row in rows:
            found = words(row.text).split()
            if characters := beginnings(row.text):
                # They follow a word that no text contains, so that no phrase can match across the border.
                found += ["", *characters]
            row.words = " ".join(self._hashed(seal, key_id, app_name, user_id, found))[:_WORDS_BYTES]
            if len(row.words) == _WORDS_BYTES:
                row.words = row.words.rpartition(" ")[0]

            row.content = sealed(row, "content", row.content)
            row.metadata = sealed(row, "custom_metadata", row.metadata)
            if row.time_text:
                text = row.time_text.encode("utf-8", "surrogatepass")
                row.time_text = sealed(row, "timestamp_text", text, "text").decode()

    async def opened(self, scope: list[str], row: Row) -> Row:
        """Open a found row of `MemoryStatements.search`: undo `rows`."""
        app_name, user_id = scope
        identity, author, seconds, time_text, content, metadata, session_id = row
        told = f"memory {identity!r} of session {session_id!r} of user {user_id!r} in app {app_name!r}"

        async def opened(column: str, value: bytes, form: str) -> bytes:
            place = _place(app_name, user_id, session_id, identity, column)
            where = f"{told}, column {column}"
            if (seal := self._seal) is None:
                return _native.open_value(value, None, place, form=form, told=where)
            return await seal.opening(
                lambda: _native.open_value(value, seal.keys, place, form=form, told=where)
            )

        if time_text:
            time_text = (await opened("timestamp_text", time_text.encode(), "text")).decode(
                "utf-8", "surrogatepass"
            )
        content = await opened("content", content, "jsonb")
        metadata = await opened("custom_metadata", metadata, "jsonb")
        return (identity, author, seconds, time_text, content, metadata)

    async def terms(self, scope: list[str], terms: list[str]) -> list[str]:
        """Translate a query's terms (in the syntax of `to_tsquery`) for the words that `rows` wrote.

        Each term looks for its words as hashed with any of the user's keys.
        """
        if (seal := self._seal) is None:
            return terms
        app_name, user_id = scope
        key_ids = await seal.searched(app_name, user_id)

        def hashed(term: str, key_id: str) -> str:
            found = _TERM.findall(term)
            names = self._hashed(seal, key_id, app_name, user_id, [word for word, _ in found])
            return " <-> ".join(f"'{name}'" for name in names)

        return [" | ".join(f"({hashed(term, key_id)})" for key_id in key_ids) for term in terms]

    @staticmethod
    def _hashed(seal: Seal, key_id: str, app_name: str, user_id: str, found: list[str]) -> list[str]:
        distinct = list(dict.fromkeys(found))
        hashes = seal.keys.hash_words(key_id, app_name, user_id, distinct)
        by_word = {word: name[:HASH] for word, name in zip(distinct, hashes, strict=True)}
        return [by_word[word] for word in found]


def _place(
    app_name: str, user_id: str, session_id: str, identity: str, column: str
) -> tuple[str, str, str, list[bytes]]:
    return "memory", app_name, user_id, [session_id.encode(), identity.encode(), column.encode()]
