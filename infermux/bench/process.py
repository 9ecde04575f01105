"""Processes that the bench starts: each in a session of its own, pinned, its output in a file, and surely ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import attrs

from .accounting import members
from .machine import pinned

_GRACE = 5.0


class DidNotStart(Exception):
    """A process ended or stayed silent while it should have become ready. The message has its last output."""


@attrs.define(eq=False, kw_only=True)
class Child:
    """A process and everything it starts. Its process id is the id of its session and of its process group."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def session(self) -> int:
        return self.popen.pid

    def last_output(self) -> str:
        """The last lines it wrote, for messages."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])[-600:] or "no output"

    def check_alive(self) -> None:
        if self.popen.poll() is not None:
            raise DidNotStart(f"{self.name} ended with code {self.popen.returncode}: {self.last_output()}")

    def stop(self) -> None:
        """SIGTERM, a grace period, SIGKILL; to all of its session. Returns when all of it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.session, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_GRACE)
        deadline = time.monotonic() + _GRACE
        while (left := members(self.session)) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self.popen.wait()


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    *,
    cpus: frozenset[int],
    scratch: Path,
    env: Mapping[str, str] | None = None,
) -> Generator[Child]:
    """A child process for as long as the block lasts, whatever ends the block. Its output goes to scratch/NAME.log."""
    log = scratch / f"{name}.log"
    with log.open("wb") as output, pinned(cpus):
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean_environment() | dict(env or {}),
            cwd=scratch,
            start_new_session=True,
        )
    child = Child(name=name, popen=popen, log=log)
    try:
        yield child
    finally:
        child.stop()


def clean_environment() -> dict[str, str]:
    """Ours without proxies: everything the bench does stays on loopback."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_line(child: Child, *, seconds: float) -> str:
    """The first line a child writes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        line, newline, _ = child.log.read_text(errors="replace").partition("\n")
        if newline:
            return line
        child.check_alive()
        time.sleep(0.01)
    raise DidNotStart(f"{child.name} wrote nothing within {seconds:g} s")
