"""The file that tells ADK about this package's URIs."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Final

# ADK takes a folder with one of these files for an agent's own folder.
_AGENT_FILES: Final = ("agent.py", "root_agent.yaml")


def write_services(directory: str | Path, *, as_yaml: bool = False) -> Path:
    """Write `services.py` into the folder that `adk web` is started with, and return the file's path.

    Args:
        directory: the agents' folder; for `adk run`, the agent's own.
        as_yaml: `services.yaml` in its place.

    Raises:
        NotADirectoryError: there is no such folder.
        FileExistsError: the file exists. It was not changed; the message says what to add to it.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {directory}: give the one that holds the agents")
    name = "services.yaml" if as_yaml else "services.py"
    text = (files("adk_psqlpy.admin") / "templates" / name).read_text(encoding="utf-8")
    target = folder / name
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FileExistsError(f"{target} is there and was left as it is; add to it:\n\n{text}") from None
    return target


def how_to_run(folder: Path) -> str:
    """The commands to run next, as lines: with an embedded server, and with a server of one's own."""
    agent = shlex.quote(str(folder / "AGENT"))
    where = shlex.quote(str(folder))
    services = " ".join(f'--{kind}_service_uri "$URI"' for kind in ("session", "memory", "artifact"))
    single = any((folder / name).is_file() for name in _AGENT_FILES)
    lines = [
        "Your own server (the query takes keys of pool_config), or an embedded one with its data folder:",
        "",
        "  URI='psqlpy://user:password@localhost:5432/mydb?max_db_pool_size=20'",
        "  URI='psqlpy+embedded:///path/to/data'",
        "",
        "One URI for three services, which then share its connections:",
        "",
        f"  adk web {services} {where}",
        f"  adk api_server {services} {where}",
    ]
    if single:
        lines.append(f"  adk run {services} {where}")
    else:
        lines += [
            "",
            "adk run looks for services.py in the agent's own folder:",
            "",
            f"  adk-psqlpy init {agent}",
            f"  adk run {services} {agent}",
        ]
    return "\n".join(lines)
