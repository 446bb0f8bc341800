"""Key rings: where the keys of a `Seal` come from."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import secrets
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from adk_psqlpy.errors import MissingKeyError

KEY_BYTES: Final = 32
"""AES-256."""

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@runtime_checkable
class KeyRing(Protocol):
    """Gives keys by their ids. A `Seal` remembers the answers for its `cache_sec`."""

    async def key(self, key_id: str) -> bytes:
        """The 32 bytes of a key.

        Raises:
            MissingKeyError: the ring has no such key (any more).
        """
        ...

    async def current(self, app_name: str, user_id: str) -> str:
        """The id of the key that seals new values of this user. `user_id=""` means values of the app itself.

        An id is 1 to 64 ASCII letters, digits, dots, underscores or hyphens. It always names the same key.
        """
        ...

    async def key_ids(self, app_name: str, user_id: str) -> list[str]:
        """The ids of all keys that values of this user may be sealed with, for searching sealed memories."""
        ...


def new_key(key_id: str) -> str:
    """A random key as `EnvironmentKeys` and `FileKeys` read it: `id:base64`."""
    if not _ID.fullmatch(key_id):
        raise ValueError(
            f"a key id must be 1 to 64 ASCII letters, digits, dots, underscores or hyphens, not {key_id!r}"
        )
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


class EnvironmentKeys:
    """Keys in an environment variable, each as `id:base64`, separated by blanks or commas.

    The first key seals new values. The other keys open older values.
    """

    def __init__(self, variable: str = "ADK_PSQLPY_KEYS") -> None:
        self.variable = variable

    def __repr__(self) -> str:
        return f"EnvironmentKeys({self.variable!r})"

    async def key(self, key_id: str) -> bytes:
        """See `KeyRing.key`."""
        return _known(self._read(), key_id, f"the environment variable {self.variable}")

    async def current(self, app_name: str, user_id: str) -> str:  # noqa: ARG002 - as the protocol has it
        """See `KeyRing.current`: the first one."""
        return next(iter(self._read()))

    async def key_ids(self, app_name: str, user_id: str) -> list[str]:  # noqa: ARG002 - as the protocol has it
        """See `KeyRing.key_ids`."""
        return list(self._read())

    def _read(self) -> dict[str, bytes]:
        text = os.environ.get(self.variable, "")
        if not text.strip():
            raise ValueError(
                f"the environment variable {self.variable} is not set, or is empty: it must hold the keys, "
                "as adk_psqlpy.seal.new_key makes them"
            )
        return _parsed(text, f"the environment variable {self.variable}")


class FileKeys:
    """Keys in a file, one `id:base64` a line. Lines that begin with `#` are comments.

    The first key seals new values. The other keys open older values. The file is read again whenever a `Seal`
    asks for a key, so a new first line takes effect within `cache_sec` in every process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"FileKeys({str(self.path)!r})"

    async def key(self, key_id: str) -> bytes:
        """See `KeyRing.key`."""
        return _known(await asyncio.to_thread(self._read), key_id, f"the key file {self.path}")

    async def current(self, app_name: str, user_id: str) -> str:  # noqa: ARG002 - as the protocol has it
        """See `KeyRing.current`: the first one."""
        return next(iter(await asyncio.to_thread(self._read)))

    async def key_ids(self, app_name: str, user_id: str) -> list[str]:  # noqa: ARG002 - as the protocol has it
        """See `KeyRing.key_ids`."""
        return list(await asyncio.to_thread(self._read))

    def _read(self) -> dict[str, bytes]:
        lines = self.path.read_text(encoding="ascii", errors="replace").splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        return _parsed(text, f"the key file {self.path}")


def _known(keys: dict[str, bytes], key_id: str, where: str) -> bytes:
    found = keys.get(key_id)
    if found is None:
        raise MissingKeyError(f"{where} has no key {key_id!r}")
    return found


def _parsed(text: str, where: str) -> dict[str, bytes]:
    """Keys by id, in their order. An error gives an entry's number, since its text may be part of a key."""
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(re.split(r"[\s,]+", text.strip()), start=1):
        key_id, colon, encoded = entry.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not colon or not _ID.fullmatch(key_id) or len(key) != KEY_BYTES:
            raise ValueError(
                f"entry {number} of {where} is no key: write id:base64 with {KEY_BYTES} bytes in base64, as "
                "adk_psqlpy.seal.new_key makes it"
            )
        if key_id in keys:
            raise ValueError(f"{where} has two keys with the id {key_id!r}")
        keys[key_id] = key
    return keys
