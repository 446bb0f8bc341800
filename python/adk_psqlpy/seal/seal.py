"""What is sealed, with which keys, and how long keys are remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from adk_psqlpy import _native
from adk_psqlpy.errors import MissingKeyError
from adk_psqlpy.seal.rings import KEY_BYTES, KeyRing

_T = TypeVar("_T")
_REMEMBERED: Final = 10_000
# With a very small `cache_sec`, a key may be forgotten between two tries.
_TRIES: Final = 5


class Seal:
    """Seals what a store or a service writes, and opens what it reads.

    The same object may be given to any number of stores and services.

    Args:
        keys: where the keys come from.
        state: patterns of the state keys whose values are sealed. Keys are matched with their prefixes, and
            `*` stands for any characters: `("user:*", "card_number")`. The default seals all values.
        plain_state: patterns of keys that match `state` but stay readable in SQL.
        cache_sec: for how many seconds the seal remembers keys, and which key is current. A key that was
            deleted from its ring still opens values during that time.

    Names of state keys, identifiers and timestamps are never sealed.
    """

    def __init__(
        self,
        keys: KeyRing,
        *,
        state: Collection[str] = ("*",),
        plain_state: Collection[str] = (),
        cache_sec: float = 300.0,
    ) -> None:
        if not isinstance(keys, KeyRing):
            raise ValueError(
                f"keys must be a key ring, with async methods key and current, not {type(keys).__name__}: "
                "EnvironmentKeys(), FileKeys(path) or UserKeys(config, master=...)"
            )
        if isinstance(cache_sec, bool) or not isinstance(cache_sec, (int, float)) or not cache_sec >= 0:
            raise ValueError(f"cache_sec must be seconds from 0 on, not {cache_sec!r}")
        self.ring = keys
        self.state_patterns = _patterns("state", state)
        self.plain_state_patterns = _patterns("plain_state", plain_state)
        self.cache_sec = cache_sec
        self.keys: Final = _native.Keys()
        """The keys that are remembered, for the crate."""
        # For each key id, the time at which to forget it. The dict is in the order of these times, since all
        # keys are remembered equally long.
        self._until: dict[str, float] = {}
        self._current: dict[tuple[str, str], tuple[str, float]] = {}

    def __repr__(self) -> str:
        return f"Seal({self.ring!r})"

    async def current(self, app_name: str, user_id: str) -> str:
        """The id of the key to seal with. The call puts that key into `keys`.

        Raises:
            MissingKeyError: the ring names a key that it does not have.
            ValueError: the ring returned something that is not a key or not an id.
        """
        now = time.monotonic()
        self._forget(now)
        scope = (app_name, user_id)
        key_id, until = self._current.get(scope, ("", 0.0))
        if until <= now:
            key_id = await self.ring.current(app_name, user_id)
            self._current.pop(scope, None)
            if len(self._current) >= _REMEMBERED:
                del self._current[next(iter(self._current))]
            self._current[scope] = (key_id, now + self.cache_sec)
        if key_id not in self.keys:
            await self._fetch(key_id)
        return key_id

    async def searched(self, app_name: str, user_id: str) -> list[str]:
        """The ids of the keys that a user's search words may be hashed with. The call puts them into `keys`.

        Raises:
            MissingKeyError: the ring names a key that it does not have.
        """
        await self.current(app_name, user_id)
        key_ids = await self.ring.key_ids(app_name, user_id)
        for key_id in key_ids:
            if key_id not in self.keys:
                await self._fetch(key_id)
        return key_ids

    async def opening(self, read: Callable[[], _T]) -> _T:
        """Call `read`, which opens values with `keys`, until all keys that it needs are there.

        Raises:
            MissingKeyError: the ring lacks one of these keys. The message names the value that needs it.
        """
        self._forget(time.monotonic())
        for _ in range(_TRIES):
            try:
                return read()
            except _native.UnknownKeysError as unknown:
                missing: dict[str, str] = unknown.args[0]
            for key_id, place in missing.items():
                await self._fetch_for(place, key_id)
        raise MissingKeyError(
            f"the keys {', '.join(missing)} were dropped from memory while they were being used, because "
            f"cache_sec={self.cache_sec} is over: give the Seal a larger cache_sec"
        )

    def forget(self) -> None:
        """Forget all keys, so that the next call asks the ring. Use it after a rotation or an erasure."""
        for key_id in self._until:
            self.keys.discard(key_id)
        self._until.clear()
        self._current.clear()

    async def _fetch_for(self, place: str, key_id: str) -> None:
        try:
            await self._fetch(key_id)
        except MissingKeyError as error:
            raise MissingKeyError(
                f"{place}: sealed with the key {key_id!r}, which is missing: {error}"
            ) from error

    async def _fetch(self, key_id: str) -> None:
        key = await self.ring.key(key_id)
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            raise ValueError(
                f"the key {key_id!r} of {self.ring!r} is not {KEY_BYTES} bytes: adk_psqlpy.seal.new_key "
                "makes one"
            )
        self.keys.add(key_id, key)
        self._until.pop(key_id, None)
        self._until[key_id] = time.monotonic() + self.cache_sec

    def _forget(self, now: float) -> None:
        while self._until:
            key_id, until = next(iter(self._until.items()))
            if until > now and len(self._until) <= _REMEMBERED:
                return
            del self._until[key_id]
            self.keys.discard(key_id)


def checked_seal(seal: Seal | None) -> Seal | None:
    """Return the argument if it is a `Seal` or `None`.

    Raises:
        ValueError: it is something else. The message names its type.
    """
    if seal is not None and not isinstance(seal, Seal):
        raise ValueError(f"seal must be a Seal, not {type(seal).__name__}: Seal(EnvironmentKeys())")
    return seal


def _patterns(name: str, given: Collection[str]) -> list[str]:
    if isinstance(given, str) or not all(isinstance(pattern, str) for pattern in given):
        raise ValueError(f"{name} must be a collection of patterns, such as ('user:*',), not {given!r}")
    return list(given)
