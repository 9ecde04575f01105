"""A PostgreSQL server of the tests' own, from Debian's package: in a temporary folder, on a Unix socket, no port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from tests.conftest import which

USER = "postgres"
STARTS_WITHIN = 30.0


@attrs.define(eq=False)
class Cluster:
    """A server with its data in `folder`. `start` and `stop` may be called again and again."""

    folder: Path

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def new_database(self, name: str) -> str:
        """An empty one; its URL."""
        self._run("psql", "-h", str(self.folder), "-U", USER, "-d", "postgres", "-qc", f"CREATE DATABASE {name}")
        return self.url(name)

    def run_file(self, url: str, script: Path) -> None:
        """Have psql run it in the database at `url`; fails where one of its statements does."""
        name = urlsplit(url).path.removeprefix("/")
        whole = ["-v", "ON_ERROR_STOP=1", "-q", "-c", script.read_text()]  # its user cannot read every folder
        self._run("psql", "-h", str(self.folder), "-U", USER, "-d", name, *whole)

    def start(self) -> None:
        """Start it and wait until it answers."""
        # Whole files survive the death of processes; only a loss of power would need fsync.
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", "-s", "-w", "-D", str(self.data), "-l", log, "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends it in order, its clients' connections at once."""
        self._run("pg_ctl", "stop", "-s", "-w", "-m", mode, "-D", str(self.data))

    def kill(self) -> None:
        """SIGKILL to all of its processes, as a machine out of memory would."""
        self._signal(signal.SIGKILL)
        deadline = time.monotonic() + STARTS_WITHIN
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.01)

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Inside the block it does nothing, and its connections stay open."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def pids(self) -> list[int]:
        """The server and its children; nothing of another one."""
        try:
            server = int((self.data / "postmaster.pid").read_text().split()[0])
            children = Path(f"/proc/{server}/task/{server}/children").read_text()
        except (OSError, IndexError):
            return []
        return [server, *map(int, children.split())]

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # a worker that has just ended

    def _run(self, program: str, *arguments: str) -> None:
        path = which(program)
        assert path is not None
        # PostgreSQL refuses to run as root, and Debian's package brings a user for it.
        user = USER if os.geteuid() == 0 else None
        done = subprocess.run(
            [path, *arguments],
            user=user,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,  # the server would keep it open
            text=True,
            timeout=STARTS_WITHIN,
            check=False,
        )
        assert done.returncode == 0, (program, done.stderr, self._log())

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    def init(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)
        self._run("initdb", "--no-sync", "-A", "trust", "-U", USER, "-E", "UTF8", "-D", str(self.data))


@contextmanager
def cluster() -> Generator[Cluster]:
    """A server that runs; nothing of it is left afterwards."""
    # Not pytest's folder: the path of a socket has some 100 characters, and root's folders are closed to its user.
    folder = Path(tempfile.mkdtemp(prefix="infermux-pg-"))
    made = Cluster(folder)
    try:
        made.init()
        made.start()
        yield made
    finally:
        if made.pids():
            made.kill()
        shutil.rmtree(folder, ignore_errors=True)
