"""Checking that existing tables fit this server, this package, and this service's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from psqlpy.exceptions import NotSupportedError

OLDEST_SERVER: Final = 150000
"""The oldest PostgreSQL the package is tested on, as `server_version_num`."""


def check_server(version_num: int) -> None:
    """Refuse a server that is too old.

    Raises:
        psqlpy.exceptions.NotSupportedError: it is older than PostgreSQL 15.
    """
    if version_num < OLDEST_SERVER:
        number = f"{version_num // 10000}.{version_num % 10000}"
        raise NotSupportedError(f"the server is PostgreSQL {number}; adk-psqlpy needs 15 or newer")


def recorded_version(recorded: Mapping[str, str], known: int, tables: str) -> int:
    """The recorded version of the tables; 0 if nothing is recorded.

    Raises:
        psqlpy.exceptions.NotSupportedError: it is newer than `known`, the newest of this package.
    """
    version = int(recorded.get("schema_version", 0))
    if version > known:
        raise NotSupportedError(
            f"the tables beside {tables} have schema version {version}, and this adk-psqlpy knows versions "
            f"up to {known}: upgrade the package"
        )
    return version


def read_metadata(metadata: str) -> str:
    """What a table of metadata, quoted, says: keys and values."""
    return f"SELECT key, value FROM {metadata}"


def check_sealed(recorded: Mapping[str, str], *, sealing: bool, tables: str) -> None:
    """Refuse to write plain rows beside those that a store or service has sealed.

    Raises:
        ValueError: the tables are recorded as sealed, and there is no seal.
    """
    if "sealed" in recorded and not sealing:
        raise ValueError(
            f"{tables} is recorded as sealed, and no keys are given, so plain rows would be written beside "
            "sealed ones: give the keys (--keys, or seal= in Python). Nothing was written"
        )


def check_made_with(
    recorded: Mapping[str, str], given: Mapping[str, str], tables: str, otherwise: str
) -> None:
    """Compare the settings of a service with the recorded settings of its tables.

    Raises:
        ValueError: they differ; `otherwise` says what to do if that is meant.
    """
    for name, value in given.items():
        if recorded.get(name, value) != value:
            raise ValueError(
                f"{tables} belongs to tables made with {name}={recorded[name]!r}, and this service has "
                f"{name}={value!r}: use the same, or {otherwise}"
            )
