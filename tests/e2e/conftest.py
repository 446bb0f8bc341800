"""`adk web` on the agents of `examples/adk_web`, and a headless Chromium that gets no further than it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from servers import START_LIMIT_SEC, free_port

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

AGENTS = str(Path(__file__).parents[2] / "examples" / "adk_web")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
WINDOW = {"width": 1280, "height": 800}

# Only `make e2e` installs it.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


class AdkWeb:
    """`adk web` as a process of its own: one address, one data directory, any number of starts."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "pg"
        self.address = f"http://127.0.0.1:{free_port()}"
        self._log = folder / "adk-web.log"
        self._home = folder / "home"
        # The question whether usage data may be collected would stand before the page.
        (self._home / ".adk").mkdir(parents=True)
        (self._home / ".adk" / "config.json").write_text('{"telemetry": false}')
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the processes printed."""
        return self._log.read_text()

    def start(self) -> None:
        """Start, and return once it answers."""
        uri = f"psqlpy+embedded://{self.data_dir}"
        services = [f"--{service}_service_uri={uri}" for service in ("session", "artifact", "memory")]
        port = self.address.rpartition(":")[2]
        # Nothing else of the environment: no key of a model, no DSN.
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HOME": str(self._home),
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "google.adk.cli", "web", *services, f"--port={port}", AGENTS],
                cwd=self._home,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_LIMIT_SEC
        while not self._answers():
            assert self._process.poll() is None, f"adk web ended:\n{self.log}"
            assert time.monotonic() < deadline, f"adk web does not answer:\n{self.log}"
            time.sleep(0.1)  # between two looks at the condition

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send the process a signal and wait for its end; harmless without a process."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(START_LIMIT_SEC)
            finally:
                self._process.kill()
                self._process = None

    def end_postgres(self) -> None:
        """End the database's server if it is still there, as after `stop(SIGKILL)`."""
        pid_file = self.data_dir / "postmaster.pid"
        deadline = time.monotonic() + START_LIMIT_SEC
        if pid_file.exists():
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)
        while pid_file.exists():
            assert time.monotonic() < deadline, f"PostgreSQL does not end on {self.data_dir}"
            time.sleep(0.1)  # between two looks at the condition

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.address}/list-apps", timeout=1) as answer:
                return bool(answer.status == 200)
        except (URLError, TimeoutError, ConnectionError):
            return False


@pytest.fixture
def adk_web() -> Iterator[AdkWeb]:
    """The server, started, on an empty data directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="adk-web-") as folder:
        web = AdkWeb(Path(folder))
        try:
            web.start()
            yield web
        finally:
            web.stop()
            web.end_postgres()
        # ADK goes on after many an error, and only its log has it.
        assert "Traceback" not in web.log, web.log


@pytest.fixture
def browser(adk_web: AdkWeb) -> Iterator[BrowserContext]:
    """An empty Chromium; `docs/adk-web.png` gets its size from here."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)

    def only_adk_web(route: Route) -> None:
        if route.request.url.startswith(f"{adk_web.address}/"):
            route.continue_()
        elif "/material" in route.request.url:
            # Icons are ligatures of Google's fonts; without the font their names stand in their places.
            route.fulfill(path=_icons(), headers={"access-control-allow-origin": "*"})
        else:
            route.abort()

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        with chromium.new_context(viewport=WINDOW, locale="en-GB") as context:
            context.route("**/*", only_adk_web)
            yield context
        chromium.close()


@pytest.fixture
def page(browser: BrowserContext, adk_web: AdkWeb) -> Page:
    """The café in the browser, without a session."""
    page = browser.new_page()
    page.goto(f"{adk_web.address}/dev-ui/?app=cafe")
    return page


def _icons() -> Path:
    """Material Symbols, out of a wheel that no code is used of."""
    package = find_spec("qtmaterialsymbols")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "resources" / "MaterialSymbolsOutlined.ttf"
