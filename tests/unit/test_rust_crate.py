"""The crate as a dependency of a Rust service: by path, by git, and as `cargo package` would publish it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# The first build compiles serde.
LIMIT_SEC = 600
TARGET = ROOT / "target/bare"
"""Where `make test-rust` has built the same dependencies."""
MAIN = """
use adk_psqlpy::{event::Event, row::COLUMNS};

fn main() {
    let mut row = [None; COLUMNS.len()];
    row[0] = Some(b"event-1".as_slice());
    row[1] = Some([0, 0, 0, 0, 0, 0, 0, 0].as_slice());
    row[3] = Some(b"user".as_slice());
    row[5] = Some(b"\\x01{\\"role\\": \\"user\\", \\"parts\\": [{\\"text\\": \\"Hello\\"}]}".as_slice());
    let event = Event::from_row(&row).unwrap();
    println!("{} {}", event.author, event.parts().next().unwrap()["text"]);
}
"""

pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")


def run(*command: str, cwd: Path, **environment: str) -> str:
    """What a command prints; its errors are the test's."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SEC,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def printed_by_a_service(home: Path, source: str) -> str:
    """Build and run a project outside of the tree whose dependency is the one that docs/rust.md shows."""
    (dependency,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/rust.md").read_text("utf-8"), re.DOTALL)
    assert 'path = "../adk-psqlpy"' in dependency
    home.joinpath("src").mkdir(parents=True)
    home.joinpath("src/main.rs").write_text(MAIN)
    home.joinpath("Cargo.toml").write_text(
        '[package]\nname = "service"\nversion = "0.0.0"\nedition = "2024"\n\n'
        + dependency.replace('path = "../adk-psqlpy"', source)
    )
    # The versions that are here already.
    shutil.copy(ROOT / "Cargo.lock", home / "Cargo.lock")
    return run("cargo", "run", "--quiet", cwd=home, CARGO_TARGET_DIR=str(TARGET))


def test_by_path(tmp_path: Path) -> None:
    assert printed_by_a_service(tmp_path / "service", f'path = "{ROOT}"') == 'user "Hello"\n'


def test_by_git(tmp_path: Path) -> None:
    """Of what is committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    run("git", "clone", "--quiet", "--bare", "--no-hardlinks", str(ROOT), "mirror.git", cwd=tmp_path)
    revision = run("git", "rev-parse", "HEAD", cwd=ROOT).strip()
    source = f'git = "file://{tmp_path}/mirror.git", rev = "{revision}"'
    assert printed_by_a_service(tmp_path / "service", source) == 'user "Hello"\n'


def test_cargo_package(cargo_manifest: dict[str, Any]) -> None:
    """It packs, and what it packs builds without the files that are left out, as docs.rs builds it."""
    docs_rs = cargo_manifest["package"]["metadata"]["docs"]["rs"]
    assert docs_rs == {"no-default-features": True, "features": ["serde", "seal"]}
    features = ["--no-default-features", "--features", "serde,seal"]
    run("cargo", "package", "--quiet", "--allow-dirty", *features, cwd=ROOT, CARGO_TARGET_DIR=str(TARGET))
    (packed,) = (TARGET / "package").glob("adk-psqlpy-*.crate")
    assert packed.stat().st_size < 10_000_000  # what crates.io takes


@pytest.fixture
def cargo_manifest() -> dict[str, Any]:
    """As cargo reads it."""
    said = run("cargo", "metadata", "--no-deps", "--format-version", "1", "--offline", cwd=ROOT)
    (package,) = json.loads(said)["packages"]
    return {"package": package}
