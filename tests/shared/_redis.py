"""A Redis of a test's own, on a Unix socket in a folder of its own: killed, paused, restarted and flushed at will.

`INFERMUX_TEST_REDIS` names another program that is like it: valkey-server.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import attrs

from infermux.secret import Secret

PATIENCE = 30.0
PROGRAM = os.environ.get("INFERMUX_TEST_REDIS", "redis-server")


@attrs.define(eq=False)
class RedisServer:
    """Without persistence: what is killed has lost everything. `password`: it asks for one. `options`: more of them."""

    folder: Path
    password: str = ""
    options: tuple[str, ...] = ()
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
        self._process = subprocess.Popen([PROGRAM, *options, *self.options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self.socket.exists():  # it comes after the ports
            assert self._process.poll() is None, f"{PROGRAM} has ended"
            assert time.monotonic() < deadline, f"{PROGRAM} does not start"
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
def redis_server(password: str = "", *options: str) -> Generator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="infermux-redis-") as folder:
        server = RedisServer(Path(folder), password, options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def free_ports(count: int) -> list[int]:
    """Of 127.0.0.1: nobody has them now, and the system gives others to who asks for any soon after."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
