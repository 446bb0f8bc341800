"""Each module of following may be the first that a program imports."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["following", "following.follower", "following.following", "streaming", "sessions"]
)
def test_first(module: str) -> None:
    command = [sys.executable, "-c", f"import adk_psqlpy.{module}"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
