"""Programs that are forked from a process which has imported them, instead of each importing everything anew.

To import what a router needs takes longer than all that most tests do with one: 1.6 s of CPU, where a fork takes some
hundredths. What is forked is a process of its own all the same, with its own session, folder, environment and output,
and ends as Python ends. That the programs also start from nothing is for the tests that start them `fresh`.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = frozenset({"infermux", "hypercorn"})
IMPORTED: Final = (
    "genai_prices",
    "hypercorn.trio.run",
    "infermux.chat.terminal",
    "infermux.cli.root",
    "infermux.database.store",
    "infermux.serving",
)
_LONGEST = 1 << 20  # bytes of a request: arguments and an environment


@attrs.define(eq=False)
class Forked:
    """A forked program, with what tests use of `trio.Process`."""

    pid: int
    _pidfd: int
    _forge: Forge
    returncode: int | None = None

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended. Whoever is cancelled may wait again."""
        if self.returncode is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        return self._ended()

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._pidfd], [], [], 0)[0]:
            self._ended()
        return self.returncode

    def reaped(self, within: float) -> int:
        """Its exit code, for those who cannot wait by trio. AssertionError: it does not end within so many seconds."""
        if self.returncode is None:
            assert select.select([self._pidfd], [], [], within)[0], "it did not end"
        return self._ended()

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _ended(self) -> int:
        if self.returncode is None:
            self.returncode = self._forge.ask({"reap": self.pid})
            os.close(self._pidfd)
        return self.returncode


class Forge:
    """The process that forks. It ends when this one does."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e._forks", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def fork(
        self, command: Sequence[str], *, environ: Mapping[str, str], cwd: str, out: int, err: int, tty: bool = False
    ) -> Forked:
        """Run `command`, which `can_fork`, with these descriptors as its stdout and stderr.

        With `tty` they are a terminal, which is its stdin too and where its signals come from.
        """
        asked = {"argv": list(command[2:]), "environ": dict(environ), "cwd": cwd, "tty": tty}
        pid = self.ask(asked, out, err)
        return Forked(pid, os.pidfd_open(pid), self)

    def ask(self, what: Any, *descriptors: int) -> int:
        socket.send_fds(self._ours, [json.dumps(what).encode()], descriptors)
        answer = self._ours.recv(_LONGEST)
        assert answer, "the process that forks has ended: its stderr says why"
        return int(answer)

    def close(self) -> None:
        self._ours.close()
        self._process.wait()


the_forge = functools.cache(Forge)


def can_fork(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether it is one of our programs, to be run by this Python as it is."""
    own = command[:2] == [sys.executable, "-m"] and command[2] in PROGRAMS
    return own and {name for name in environ if name.startswith("PYTHON")} == {"PYTHONPATH"}


def _serve(asked: socket.socket) -> list[str] | None:
    """Answer one request after the other. None at the end; in a child the arguments of its program."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(asked, _LONGEST, 2)
        if not data:
            return None
        request = json.loads(data)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                asked.close()
                return _become(request, *descriptors)
            for each in descriptors:
                os.close(each)
        asked.send(str(answer).encode())


def _become(request: Any, out: int, err: int) -> list[str]:
    os.setsid()
    os.chdir(request["cwd"])
    if request["tty"]:
        fcntl.ioctl(out, termios.TIOCSCTTY, 0)
        os.dup2(out, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    if request["tty"]:  # those there were know of what they were opened for, which can be sought in
        sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(request["environ"])
    arguments: list[str] = request["argv"]
    return arguments


def _main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    arguments = _serve(socket.socket(fileno=int(sys.argv[1])))
    if arguments is not None:
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
