"""A process that does as it is told: the steps are a JSON list in its last argument. See `steps` for what they may be.

It is run with `-I -S`, so that twenty of them start quickly.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

HEARD: list[socket.socket] = []


def announce(path: str, how: str) -> None:
    sys.stdout.write(path + ("" if how == "unended" else "\n"))
    sys.stdout.flush()


def listen(path: str, how: str) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    HEARD.append(server)
    announce(path, how)


def say(stream: str, text: str) -> None:
    with open(1 if stream == "out" else 2, "wb", closefd=False) as out:
        out.write(text.encode("latin-1") + b"\n")


def flood(stream: str, size: int) -> None:
    line = b"x" * 99 + b"\n"
    with open(1 if stream == "out" else 2, "wb", closefd=False) as out:
        out.writelines(line for _ in range(size // len(line)))


def child(path: str, how: str) -> None:
    """Start a process of our own, which ignores SIGTERM and stdin. Its pid goes into `path`."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    started = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=how == "escapes"
    )
    assert started.stdout is not None
    started.stdout.readline()
    with open(path, "w") as file:
        file.write(str(started.pid))


def tell(path: str) -> None:
    """What it was started with goes into `path`."""
    with open(path, "w") as file:
        json.dump({"env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv[1:-1], "pid": os.getpid()}, file)


def once(path: str) -> None:
    """Go on with what follows only the first time; from then on end with code 3."""
    if os.path.exists(path):
        os._exit(3)
    with open(path, "w"):
        pass


def play(step: list[Any]) -> None:
    match step:
        case ["listen", path]:
            listen(path, "")
        case ["announce", path, *how]:
            announce(path, *(how or [""]))
        case ["say", stream, text]:
            say(stream, text)
        case ["flood", stream, size]:
            flood(stream, size)
        case ["child", path, *how]:
            child(path, *(how or [""]))
        case ["tell", path]:
            tell(path)
        case ["once", path]:
            once(path)
        case ["ignore", name]:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        case ["sleep", seconds]:
            time.sleep(seconds)
        case ["exit", code]:
            os._exit(code)
        case ["signal", name]:
            os.kill(os.getpid(), getattr(signal, name))
        case ["serve"]:  # as a well-behaved one: until stdin ends
            sys.stdin.buffer.read()
        case ["hang"]:
            while True:
                time.sleep(60)
        case _:
            raise ValueError(step)


if __name__ == "__main__":
    for each in json.loads(sys.argv[-1]):
        play(each)
