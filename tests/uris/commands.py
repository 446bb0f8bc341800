"""ADK's commands as processes, on a copy of the example agents that `adk-psqlpy init` was run in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx

from adk_psqlpy.cli import main
from servers import START_LIMIT_SEC, free_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "adk_web" / "cafe"


class Commands:
    """`adk` in a folder of its own, with nothing of the surroundings but the path."""

    def __init__(self, folder: Path) -> None:
        self.agents = folder / "agents"
        self._home = folder / "home"
        self._log = folder / "log"
        shutil.copytree(EXAMPLE, self.agents / "cafe", ignore=shutil.ignore_patterns("__pycache__"))
        # The question whether usage data may be collected would be asked first.
        (self._home / ".adk").mkdir(parents=True)
        (self._home / ".adk" / "config.json").write_text('{"telemetry": false}')

    def init(self, *names: str) -> None:
        """Run `adk-psqlpy init` in the agents' folder or in one below it."""
        assert main(["init", str(self.agents.joinpath(*names))]) == 0

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run `adk` to its end."""
        return subprocess.run(
            self._command(arguments),
            env=self._environment(),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_LIMIT_SEC,
        )

    def serve(self, *arguments: str, end: signal.Signals = signal.SIGTERM) -> AbstractContextManager[Serving]:
        """Run `adk api_server` or `adk web` on a free port; at the end send `end` and wait."""
        port = free_port()
        return self._serving(self._command([*arguments, f"--port={port}", str(self.agents)]), port, end)

    def serve_program(self, text: str) -> AbstractContextManager[Serving]:
        """Run the `app` of a Python program likewise."""
        port = free_port()
        text += f"\nimport uvicorn; uvicorn.run(app, port={port})"
        return self._serving([sys.executable, "-c", text], port, signal.SIGTERM)

    @contextmanager
    def _serving(self, command: list[str], port: int, end: signal.Signals) -> Iterator[Serving]:
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_at_signals,
            )
        serving = Serving(process, self._log, f"http://127.0.0.1:{port}")
        try:
            serving.wait()
            yield serving
            process.send_signal(end)
            process.wait(START_LIMIT_SEC)
        finally:
            serving.http.close()
            if process.poll() is None:
                process.kill()
                process.wait(START_LIMIT_SEC)

    def _command(self, arguments: tuple[str, ...] | list[str]) -> list[str]:
        return [sys.executable, "-m", "google.adk.cli", *arguments]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONWARNINGS": "ignore",
            "HOME": str(self._home),
            "TMPDIR": str(self._home),  # ADK's log
        }


def _end_at_signals() -> None:
    """As in a terminal. Background jobs of a shell, such as the tests may be, inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Serving:
    """A server process, and requests to it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, address: str) -> None:
        self._process = process
        self._log = log
        self.http = httpx.Client(base_url=address, timeout=START_LIMIT_SEC)

    @property
    def log(self) -> str:
        """What the process printed."""
        return self._log.read_text()

    @property
    def exit_code(self) -> int | None:
        """Of the ended process; negative: the signal that ended it."""
        return self._process.returncode

    def wait(self) -> None:
        """Return once it answers."""
        deadline = time.monotonic() + START_LIMIT_SEC
        while not self._answers():
            assert self._process.poll() is None, f"adk ended:\n{self.log}"
            assert time.monotonic() < deadline, f"adk does not answer:\n{self.log}"
            time.sleep(0.1)  # between two looks at the condition

    def _answers(self) -> bool:
        try:
            return self.http.get("/list-apps").status_code == 200
        except httpx.TransportError:
            return False


def three(uri: str) -> list[str]:
    """One URI for the three services."""
    return [f"--{service}_service_uri={uri}" for service in ("session", "memory", "artifact")]
