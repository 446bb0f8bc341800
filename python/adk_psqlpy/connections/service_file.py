"""Connection service files, as libpq reads them (PostgreSQL manual, 32.17)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def read_service(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a service, by libpq's names.

    It is looked for in `PGSERVICEFILE` (or else `~/.pg_service.conf`), then in `pg_service.conf` in
    `PGSYSCONFDIR`. The first file that has the service counts.

    Raises:
        ValueError: no file has the service, or its part of the file cannot be read.
    """
    files = []
    if own := environment.get("PGSERVICEFILE"):
        if not Path(own).is_file():
            raise ValueError(f"service {name!r}: there is no file {own!r} (PGSERVICEFILE)")
        files.append(Path(own))
    else:
        files.append(Path("~/.pg_service.conf").expanduser())
    if system := environment.get("PGSYSCONFDIR"):
        files.append(Path(system, "pg_service.conf"))
    for file in files:
        if file.is_file():
            found = _section(file, name)
            if found is not None:
                return found
    looked = " or ".join(map(os.fspath, files))
    raise ValueError(f"service {name!r}: not found in {looked}")


def _section(file: Path, name: str) -> dict[str, str] | None:
    found: dict[str, str] | None = None
    for number, raw in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if found is not None:
                return found
            if line == f"[{name}]":
                found = {}
            continue
        if found is None:
            continue
        key, equals, value = line.partition("=")
        key = key.strip()
        if not equals or key in ("service", "servicefile") or key.startswith("ldap"):
            raise ValueError(
                f"service {name!r}: line {number} of {file} is no parameter that can be used here"
            )
        found.setdefault(key, value.strip())
    return found
