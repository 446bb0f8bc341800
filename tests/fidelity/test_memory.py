"""Nothing is left behind: not a reference, not a block, however many events are converted or refused.

200,000 events each way in an ordinary run; `ADK_PSQLPY_PROOF_EVENTS=1000000` for the proof.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EVENTS = int(os.environ.get("ADK_PSQLPY_PROOF_EVENTS", "200000"))
TESTS = Path(__file__).parents[1]
# A leak of one object in ten thousand conversions would be past these. What the measuring itself leaves: a
# few references, and an int for each count.
FEW_REFERENCES = 10
FEW_BLOCKS = 1000
FEW_BYTES = 4 << 20


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """What a process that does nothing else tells of itself."""
    done = subprocess.run(
        [sys.executable, "-m", "fidelity.memory", str(EVENTS)],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, map(str, [*sys.path, TESTS])))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("phase", ["converted", "malformed"])
def test_nothing_is_left(measured: dict[str, Any], phase: str) -> None:
    """References to None, names and classes, allocated blocks and resident memory stay where they are."""
    left = measured[phase]
    assert {name: moved for name, moved in left["references"].items() if abs(moved) > FEW_REFERENCES} == {}
    assert abs(left["blocks"]) < FEW_BLOCKS
    assert left["resident"] < FEW_BYTES


def test_most_of_the_malformed_were_refused(measured: dict[str, Any]) -> None:
    """The second phase walked the paths it is about."""
    decoded, encoded = measured["refused"]
    assert decoded > 10_000
    assert encoded > 10_000
