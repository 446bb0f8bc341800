"""Keys for tests."""

from __future__ import annotations

import hashlib
from typing import Any

from adk_psqlpy.errors import MissingKeyError
from adk_psqlpy.seal import Seal


class TestKeys:
    """A key ring in memory: keys made from their ids, the last one current; `lost` ones are missing."""

    __test__ = False

    def __init__(self, *key_ids: str) -> None:
        self.ids = list(key_ids) or ["test-1"]
        self.lost: set[str] = set()
        self.asked: list[str] = []

    async def key(self, key_id: str) -> bytes:
        self.asked.append(key_id)
        if key_id in self.lost or key_id not in self.ids:
            raise MissingKeyError(f"the test has no key {key_id!r}")
        return hashlib.sha256(key_id.encode()).digest()

    async def current(self, app_name: str, user_id: str) -> str:
        return self.ids[-1]

    async def key_ids(self, app_name: str, user_id: str) -> list[str]:
        return [key_id for key_id in self.ids if key_id not in self.lost]


def fresh_seal(*key_ids: str, **settings: Any) -> Seal:
    """A seal with nothing remembered."""
    return Seal(TestKeys(*key_ids), **settings)
