"""The router as a process of its own: `infermux serve`, or hypercorn with the ASGI application. Ended by its pid."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.e2e._forks import ROOT as ROOT
from tests.e2e._forks import Forked, can_fork, the_forge

STARTS_WITHIN = 20.0
ENDS_WITHIN = 15.0
LISTENS = re.compile(r"(?:listens on|Running on) https?://127\.0\.0\.1:(\d+)")
_MANAGED = re.compile(r"management is on https?://127\.0\.0\.1:(\d+)")


@attrs.define(eq=False)
class Process:
    """A started process. `stdout` and `stderr` grow while it runs; `started_at` and `ready_at` on trio's clock."""

    process: trio.Process | Forked
    started_at: float
    ready_at: float = 0.0
    port: int = 0
    stdout: str = ""
    stderr: str = ""
    _news: trio.Event = attrs.field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def management_url(self) -> str:
        found = _MANAGED.search(self.stdout)
        assert found is not None, self.stdout
        return f"http://127.0.0.1:{found[1]}"

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def ended(self) -> int:
        """Its exit code, within fifteen seconds."""
        with trio.move_on_after(ENDS_WITHIN):
            return await self.process.wait()
        raise AssertionError(f"it did not end:\n{self.output}")

    async def says(self, what: str | re.Pattern[str], *, within: float = STARTS_WITHIN) -> re.Match[str]:
        """Wait until its output has `what`."""
        pattern = re.compile(re.escape(what)) if isinstance(what, str) else what
        with trio.move_on_after(within):
            while True:
                found = pattern.search(self.stdout) or pattern.search(self.stderr)
                if found is not None:
                    return found
                if self.process.poll() is not None:
                    break
                self._news = trio.Event()
                with trio.move_on_after(0.2):
                    await self._news.wait()
        raise AssertionError(
            f"it did not say {pattern.pattern!r} (exit code {self.process.returncode}):\n{self.output}"
        )

    async def collect(self, stream: trio.abc.ReceiveStream, name: str) -> None:
        """Keep what comes by `stream` in the attribute `name`."""
        async for data in stream:
            setattr(self, name, getattr(self, name) + data.decode())
            self._news.set()


def minimal_environ(home: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a process needs, and `environ`. It runs this checkout, whichever one is installed."""
    return {"PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **environ}


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it has ended


async def _opened(
    command: Sequence[str], environ: Mapping[str, str], cwd: str
) -> tuple[trio.Process, trio.abc.ReceiveStream, trio.abc.ReceiveStream]:
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        start_new_session=True,  # so that a worker process of its own ends with it
        env=environ,
    )
    assert process.stdout is not None, "a pipe"
    assert process.stderr is not None, "a pipe"
    return process, process.stdout, process.stderr


def _forked(
    command: Sequence[str], environ: Mapping[str, str], cwd: str
) -> tuple[Forked, trio.abc.ReceiveStream, trio.abc.ReceiveStream]:
    (stdout, out), (stderr, err) = os.pipe(), os.pipe()
    process = the_forge().fork(command, environ=environ, cwd=cwd, out=out, err=err)
    os.close(out)
    os.close(err)
    return process, trio.lowlevel.FdStream(stdout), trio.lowlevel.FdStream(stderr)


@asynccontextmanager
async def running(
    command: Sequence[str], *, environ: Mapping[str, str], cwd: str, fresh: bool = True
) -> AsyncGenerator[Process]:
    """Run `command` with nothing but `environ` (and a PATH and a HOME); what is left of it at the end is killed.

    Not `fresh`: if it is one of our programs, it is forked from a process that has imported it (`tests.e2e._forks`).
    """
    env = minimal_environ(cwd, environ)
    process: trio.Process | Forked
    if fresh or not can_fork(command, env):
        process, stdout, stderr = await _opened(command, env, cwd)
    else:
        process, stdout, stderr = _forked(command, env, cwd)
    started = Process(process, trio.current_time())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(started.collect, stdout, "stdout")
            nursery.start_soon(started.collect, stderr, "stderr")
            try:
                yield started
            finally:
                _kill_group(process.pid)
    finally:
        with trio.CancelScope(shield=True):
            await process.wait()
            await stdout.aclose()
            await stderr.aclose()


@asynccontextmanager
async def serving(
    *providers: dict[str, Any],
    way: str = "serve",
    environ: Mapping[str, str] | None = None,
    ready: bool = True,
    fresh: bool = False,
    **config: Any,
) -> AsyncGenerator[Process]:
    """`infermux serve -c FILE`, or hypercorn; `config`: more sections of the file. If `ready`, it listens already.

    It is forked from a process that has imported it, unless it shall be started `fresh`, from nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "infermux.yml")
        text = json.dumps({"listen": "127.0.0.1:0", "providers": providers, **config})
        path.write_text(text)  # noqa: ASYNC240 - a few bytes
        command = [sys.executable, "-m", "infermux", "serve", "-c", str(path)]
        if way == "asgi":
            command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-b", "127.0.0.1:0", "infermux.http.asgi:app"]
        env = {"INFERMUX_CONFIG": str(path), **(environ or {})}
        async with running(command, environ=env, cwd=folder, fresh=fresh) as process:
            if ready:
                process.port = int((await process.says(LISTENS))[1])
                process.ready_at = trio.current_time()
            yield process
