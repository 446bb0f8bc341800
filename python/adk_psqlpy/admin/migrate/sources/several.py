"""Several sources as one: the folder of agents that `adk web` keeps sessions and artifacts in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from typing_extensions import Self, override

from adk_psqlpy.admin.migrate.records import Counts, Record
from adk_psqlpy.admin.migrate.sources.adk_files import FileArtifactSource
from adk_psqlpy.admin.migrate.sources.adk_sqlite import SqliteSource
from adk_psqlpy.admin.migrate.sources.base import Source

DOT_ADK: Final = ".adk"
_DEPTH: Final = 6
"""How deep to look for agents: an app name with dots is a path of folders."""

_NOT_AGENTS: Final = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})


class SeveralSources(Source):
    """Reads one source after another."""

    def __init__(self, description: str, sources: Sequence[Source]) -> None:
        super().__init__()
        self.description = description
        self._sources = sources
        self._stack = AsyncExitStack()

    @override
    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for source in self._sources:
                await stack.enter_async_context(source)
            self._stack = stack.pop_all()
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @override
    async def count(self) -> Counts:
        total = Counts()
        for source in self._sources:
            total += await source.count()
        return total

    @override
    async def read(self) -> AsyncIterator[Record]:
        for source in self._sources:
            async for record in source.read():
                yield record
            self.differences += [each for each in source.differences if each not in self.differences]


def agents_folder(root: Path) -> SeveralSources | None:
    """What `adk web` has stored for the agents in a folder, and for the folder itself; `None` if there is
    nothing.

    ADK keeps sessions in `<agent>/.adk/session.db` and artifacts in `<agent>/.adk/artifacts`. The data of
    ADK's own agents, and what older releases wrote, is in `<folder>/.adk`.
    """
    sources: list[Source] = []
    for folder in _dot_adk(root):
        if (folder / "session.db").is_file():
            sources.append(SqliteSource(folder / "session.db"))
        if (folder / "artifacts").is_dir():
            sources.append(FileArtifactSource(folder / "artifacts"))
    if not sources:
        return None
    return SeveralSources(
        f"the local storage of adk web, {root} ({len(sources)} of databases and folders)", sources
    )


def _dot_adk(root: Path) -> Iterator[Path]:
    if root.name == DOT_ADK:
        yield root
        return
    for at, folders, _ in os.walk(root):
        here = Path(at)
        if DOT_ADK in folders:
            yield here / DOT_ADK
        depth = len(here.relative_to(root).parts)
        folders[:] = sorted(
            name
            for name in folders
            if depth < _DEPTH and not name.startswith(".") and name not in _NOT_AGENTS
        )
