"""One value, sealed anew."""

from __future__ import annotations

from adk_psqlpy import _native
from adk_psqlpy.seal.seal import Seal

Place = tuple[str, str, str, list[bytes]]
"""The place that a value is bound to, as `_native.seal_value` takes it."""


async def resealed(seal: Seal, value: bytes, place: Place, form: str, told: str) -> bytes:
    """A value sealed with the current key. If it is sealed with another key, it is opened first."""
    _, app_name, user_id, _ = place
    plain = await seal.opening(lambda: _native.open_value(value, seal.keys, place, form=form, told=told))
    # Ask for the current key after the opening: while that waited for the ring, the key may have been
    # forgotten.
    key_id = await seal.current(app_name, user_id)
    return _native.seal_value(plain, seal.keys, key_id, place, form=form)
