"""Sealing: AES-256-GCM over what agents are told, before it leaves the process."""

from adk_psqlpy.errors import MissingKeyError, SealError
from adk_psqlpy.seal.rings import EnvironmentKeys, FileKeys, KeyRing, new_key
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.seal.user_keys import UserKeys

__all__ = [
    "EnvironmentKeys",
    "FileKeys",
    "KeyRing",
    "MissingKeyError",
    "Seal",
    "SealError",
    "UserKeys",
    "new_key",
]
