"""Processes that exist in memory only, for virtual time: each life is written as a coroutine."""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio
import trio.testing

from infermux.processes.launch import Life
from infermux.processes.spec import NotLaunched, Spec


@attrs.define(eq=False)
class ScriptedLife:
    """A `Life`. `asked_to_end` is set by SIGTERM; `end` waits for what the script makes of it."""

    pid: int
    stdout: trio.abc.ReceiveStream
    stderr: trio.abc.ReceiveStream
    out: trio.abc.SendStream
    err: trio.abc.SendStream
    asked_to_end: trio.Event = attrs.field(factory=trio.Event)
    protected: list[Path] = attrs.field(factory=list[Path])
    graces: list[float] = attrs.field(factory=list[float])
    code: int | None = None
    _exit: trio.Event = attrs.field(factory=trio.Event)

    async def exited(self) -> int:
        await self._exit.wait()
        assert self.code is not None
        return self.code

    async def protect(self, socket: Path) -> None:
        self.protected.append(socket)

    async def end(self, grace: float) -> bool:
        self.graces.append(grace)
        self.asked_to_end.set()
        with trio.move_on_after(grace) as waiting:
            await self.exited()
        await self.exit(-9)
        return not waiting.cancelled_caught

    async def exit(self, code: int) -> None:
        if self.code is None:
            self.code = code
            await self.out.aclose()
            await self.err.aclose()
            self._exit.set()


Play = Callable[[ScriptedLife], Awaitable[None]]


@attrs.define(eq=False)
class Launcher:
    """Starts a life per script, the last one again and again; a text in place of one: it cannot be started."""

    nursery: trio.Nursery
    scripts: list[Play | str]
    lives: list[ScriptedLife] = attrs.field(factory=list[ScriptedLife])
    started_at: list[float] = attrs.field(factory=list[float])

    async def __call__(self, spec: Spec) -> Life:
        self.started_at.append(round(trio.current_time(), 3))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        await trio.lowlevel.checkpoint()
        if isinstance(script, str):
            raise NotLaunched(script)
        out, stdout = trio.testing.memory_stream_one_way_pair()
        err, stderr = trio.testing.memory_stream_one_way_pair()
        life = ScriptedLife(1000 + len(self.lives), stdout, stderr, out, err)
        self.lives.append(life)
        self.nursery.start_soon(script, life)
        return life


def crashing(after: float = 0.0, words: bytes = b"") -> Play:
    """Ends with code 1, before it is ready."""

    async def play(life: ScriptedLife) -> None:
        await life.err.send_all(words)
        await trio.sleep(after)
        await life.exit(1)

    return play


def bind(path: Path) -> None:
    """Leave a socket at `path`, as if somebody listened."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def serving(path: Path, lasting: float = math.inf, after: float = 0.0, before: bytes = b"") -> Play:
    """Prints `before` at once, and `path` after a while; ends by itself after `lasting`, or at SIGTERM."""

    async def play(life: ScriptedLife) -> None:
        await life.out.send_all(before)
        await trio.sleep(after)
        bind(path)
        await life.out.send_all(bytes(path) + b"\n")
        with trio.move_on_after(lasting):
            await life.asked_to_end.wait()
        await life.exit(0)

    return play


def silent(*said: bytes) -> Play:
    """Prints something but no path, and ignores SIGTERM."""

    async def play(life: ScriptedLife) -> None:
        for each in said:
            await life.out.send_all(each)

    return play
