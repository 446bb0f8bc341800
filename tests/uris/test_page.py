"""docs/adk-web.md: its options, its URIs, and the application that it shows."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from adk_psqlpy.service_registry.uri import OPTIONS, parse

from .commands import Commands

PAGE = (Path(__file__).parents[2] / "docs" / "adk-web.md").read_text(encoding="utf-8")
PLACEHOLDER = "psqlpy://user:password@localhost:5432/mydb"


def test_every_option_is_in_the_table() -> None:
    cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"\w+", cell)} == set(OPTIONS)


def test_the_uris_are_possible() -> None:
    uris = re.findall(r"psqlpy(?:\+embedded)?://[^\s`'\",]*", PAGE)
    assert len(uris) >= 6
    for uri in uris:
        parse(uri.replace("?option=value", "").replace(":port", ":5432"))


def test_the_application_runs_and_ends(tmp_path: Path, data_dir: Path) -> None:
    """`register` in place of services.py, and `lifespan` stops the embedded server."""
    commands = Commands(tmp_path)
    (text,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert PLACEHOLDER in text
    text = text.replace(PLACEHOLDER, f"psqlpy+embedded://{data_dir}").replace(
        "AGENTS_DIR", str(commands.agents)
    )
    # Without exit handlers, so that it is the lifespan's doing.
    text += "\nimport signal; signal.signal(signal.SIGTERM, signal.SIG_DFL)"
    with commands.serve_program(text) as serving:
        assert serving.http.post("/apps/cafe/users/u/sessions", json={}).status_code == 200
        assert (data_dir / "postmaster.pid").exists()
    assert not (data_dir / "postmaster.pid").exists()
    assert serving.exit_code == -signal.SIGTERM
    assert "Traceback" not in serving.log
