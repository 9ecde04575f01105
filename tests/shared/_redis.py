"""A Redis of a test's own, on a Unix socket in a folder of its own: killed, paused, restarted and flushed at will."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import attrs

from infermux.secret import Secret

PATIENCE = 30.0


@attrs.define(eq=False)
class RedisServer:
    """Without persistence: what is killed has lost everything. `password`: it asks for one."""

    folder: Path
    password: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> Secret:
        return Secret(f"unix://{f':{self.password}@' if self.password else ''}{self.socket}")

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)]
        options += ["--requirepass", self.password] if self.password else []
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self.socket.exists():
            assert time.monotonic() < deadline, "redis-server does not start"
            time.sleep(0.01)

    def kill(self) -> None:
        """At once, without a word."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str) -> str:
        """A command, by redis-cli."""
        done = subprocess.run(
            ["redis-cli", "-s", str(self.socket), *words], capture_output=True, text=True, check=True, timeout=PATIENCE
        )
        return done.stdout.strip()


@contextmanager
def redis_server(password: str = "") -> Generator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="infermux-redis-") as folder:
        server = RedisServer(Path(folder), password)
        server.start()
        try:
            yield server
        finally:
            server.kill()
