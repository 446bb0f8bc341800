"""The suites on each version of Python that is here: `make test-pythons`.

    python tools/test_pythons.py                          # all that are found
    PYTHONS="python3.12 /opt/python/bin/python3" ...      # these
    python tools/test_pythons.py -k append                # what pytest takes

Found are pyenv's versions and `python3.x` on PATH, of each version the newest patch release. Each gets an
environment and a build of its own in .make/pythons, which the next run goes on with. The last lines are a
table; the exit code is 1 if a suite failed somewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".make" / "pythons"
SUITES = ["tests/contract", "tests/fidelity", "tests/lanes", "tests/reads", "tests/unit"]
ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3], 'free-threading' in sys.version)"


@dataclass(frozen=True)
class Interpreter:
    """A Python, its version, and whether it is a build without the GIL."""

    path: str
    version: tuple[int, ...]
    free_threaded: bool

    @property
    def name(self) -> str:
        """As in 3.13 or 3.13t."""
        return f"{self.version[0]}.{self.version[1]}{'t' if self.free_threaded else ''}"


def asked(path: str) -> Interpreter | None:
    """What the interpreter says of itself; nothing where it does not start."""
    try:
        said = subprocess.run([path, "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    if said.returncode != 0:  # pyenv's shims of versions that are not chosen
        return None
    version, free_threaded = said.stdout.split()
    return Interpreter(path, tuple(map(int, version.split("."))), free_threaded == "True")


def found() -> list[Interpreter]:
    """One interpreter for each version that the package admits; of PYTHONS, all of them."""
    named = os.environ.get("PYTHONS", "").split()
    if named:
        every = []
        for name in named:
            interpreter = asked(name)
            if interpreter is None:
                sys.exit(f"PYTHONS: {name} is no Python that starts")
            every.append(interpreter)
        return every
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    admitted = {
        tuple(map(int, each.split("."))) for each in re.findall(r":: (3\.\d+)", str(project["classifiers"]))
    }
    places = sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))
    commands = [shutil.which(f"python3.{minor}{kind}") for _, minor in sorted(admitted) for kind in ("", "t")]
    newest: dict[str, Interpreter] = {}
    for path in [*map(str, places), *filter(None, commands)]:
        interpreter = asked(path)
        if interpreter is None or interpreter.version[:2] not in admitted:
            continue
        before = newest.get(interpreter.name)
        if before is None or before.version < interpreter.version:
            newest[interpreter.name] = interpreter
    return sorted(newest.values(), key=lambda each: (each.version, each.free_threaded))


def prepared(interpreter: Interpreter) -> Path:
    """The interpreter of an environment with the package, built for it, and what the tests need."""
    home = ENVIRONMENTS / interpreter.name
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([interpreter.path, "-m", "venv", home], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    subprocess.run([*pip, "--group", "build", "--group", "test"], cwd=ROOT, check=True)
    # A target directory of its own: the crate is built for one version of Python.
    environment = os.environ | {"VIRTUAL_ENV": str(home), "CARGO_TARGET_DIR": str(home / "target")}
    environment["PATH"] = f"{home / 'bin'}{os.pathsep}{environment['PATH']}"
    wheels = home / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    build = ["maturin", "build", "--release", "--quiet", "--interpreter", python, "--out", wheels]
    subprocess.run(build, cwd=ROOT, env=environment, check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, f"{wheel}[embedded]"], check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", wheel], check=True)
    return python


def tested(interpreter: Interpreter, arguments: list[str]) -> tuple[bool, str, float]:
    """Whether the suites passed, pytest's last line, and the seconds that they took."""
    if interpreter.free_threaded:
        return True, "not run: the package refuses to be imported without the GIL", 0.0
    print(f"== {interpreter.name}: {interpreter.path}", flush=True)
    try:
        python = prepared(interpreter)
    except subprocess.CalledProcessError as error:
        return False, f"not built: {error}", 0.0
    begin = time.monotonic()
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or SUITES)]
    # The package as installed, not the sources beside it: those have the extension module of another version.
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    last = ""
    assert running.stdout is not None
    for line in running.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    code = running.wait()
    return code == 0, last.strip("= "), time.monotonic() - begin


def main(arguments: list[str]) -> int:
    """Run all, then print the table."""
    interpreters = found()
    if not interpreters:
        print("no Python that this package admits: name one in PYTHONS")
        return 1
    rows = [(each, *tested(each, arguments)) for each in interpreters]
    print(f"\n{'Python':<10} {'':<7} {'seconds':>7}  pytest")
    for interpreter, passed, said, seconds in rows:
        version = ".".join(map(str, interpreter.version)) + ("t" if interpreter.free_threaded else "")
        print(f"{version:<10} {'passed' if passed else 'FAILED':<7} {seconds:>7.0f}  {said}")
    return 0 if all(passed for _, passed, *_ in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
