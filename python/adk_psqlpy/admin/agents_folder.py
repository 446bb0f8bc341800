"""The file by which ADK learns of this package's URIs."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Final

# What makes a folder an agent's own, by ADK's rules.
_AGENT_FILES: Final = ("agent.py", "root_agent.yaml")


def write_services(directory: str | Path, *, as_yaml: bool = False) -> Path:
    """Write `services.py` into the folder that is given to `adk web`; give its path.

    Args:
        directory: the agents' folder; for `adk run`, the agent's own.
        as_yaml: `services.yaml` in its place.

    Raises:
        NotADirectoryError: there is no such folder.
        FileExistsError: the file is there already, and was left as it is; the message says what to add to it.
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
    """The commands to run then, with an embedded server and with one's own, as lines."""
    agent = shlex.quote(str(folder / "AGENT"))
    where = shlex.quote(str(folder))
    services = " ".join(f'--{kind}_service_uri "$URI"' for kind in ("session", "memory", "artifact"))
    single = any((folder / name).is_file() for name in _AGENT_FILES)
    lines = [
        "Your own server (keys of pool_config stand in the query), or an embedded one and its data:",
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
            "adk run looks into the agent's own folder:",
            "",
            f"  adk-psqlpy init {agent}",
            f"  adk run {services} {agent}",
        ]
    return "\n".join(lines)
