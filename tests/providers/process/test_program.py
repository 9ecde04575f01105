"""A provider's program as it is started: what it prints, where it listens, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ECHO = ROOT / "examples" / "echo" / "provider.py"

pytestmark = pytest.mark.slow

SLOW = """
import time
from infermux.providers.process import Model, serve
class Slow:
    models = [Model(id="m")]
    def invoke(self, request):
        yield "one"
        time.sleep(0.3)
        yield "two"
serve(Slow())
"""


@contextmanager
def started(*command: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True
    ) as child:
        assert child.stdout is not None
        try:
            yield child, Path(child.stdout.readline().strip())
        finally:
            child.kill()


def invoke(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(str(path))
    body = {"messages": [{"role": "user", "content": "hi there"}]}
    asked = {"type": "invoke", "endpoint": "/chat/completions", "model": "m", "stream": True, "body": body}
    sock.sendall(json.dumps(asked).encode() + b"\n")
    return sock


def heard(sock: socket.socket) -> list[str]:
    """The types of what it says, to the end of the answer."""
    found: list[str] = []
    with sock, sock.makefile() as lines:
        for line in lines:
            found.append(json.loads(line)["type"])
            if found[-1] in ("end", "error"):
                break
    return found


def test_a_program_is_under_thirty_lines_and_prints_the_path_of_its_socket() -> None:
    assert len(ECHO.read_text(encoding="utf-8").splitlines()) < 30
    with started(str(ECHO)) as (child, path):
        assert path.is_socket()
        assert heard(invoke(path)) == ["started", "chunk", "chunk", "end"]
        child.terminate()
        assert child.wait(5) == 0
        assert not path.parent.exists()


def test_it_finishes_what_runs_when_it_is_told_to_end() -> None:
    with started("-c", SLOW) as (child, path):
        sock = invoke(path)
        assert json.loads(sock.makefile().readline())["type"] == "started"
        child.terminate()
        assert heard(sock)[-1] == "end"
        assert child.wait(5) == 0


@pytest.mark.parametrize("running", [False, True])
def test_it_ends_when_whoever_started_it_is_gone(running: bool) -> None:
    with started("-c", SLOW) as (child, path):
        sock = invoke(path) if running else None
        if sock is not None:
            sock.recv(10)
            sock.close()
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(5) == 0
        assert not path.exists()


def test_a_second_signal_ends_it_at_once() -> None:
    with started("-c", SLOW.replace("0.3", "60")) as (child, path):
        sock = invoke(path)
        sock.recv(10)
        child.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        child.send_signal(signal.SIGTERM)
        sock.close()
        child.wait(5)
        assert not path.exists()


def test_an_author_s_process_imports_nothing_that_is_heavy() -> None:
    heavy = "httpx quart hypercorn yaml cattrs sqlalchemy structlog click rich infermux.actors infermux.config"
    code = f"import sys, infermux.providers.process; print(*[n for n in '{heavy}'.split() if n in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
