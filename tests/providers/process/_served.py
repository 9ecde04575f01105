"""Providers served over a socket in the test's own trio loop, and the adapter of the type `process` before them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from infermux.config.settings import ProviderSettings
from infermux.processes import ProcessUnavailable
from infermux.providers.interface import Adapter
from infermux.providers.process.adapter import Process
from infermux.providers.process.serving import Server, host_of
from infermux.providers.translated import translating

NAME = "mine"


@attrs.define(eq=False)
class Stage:
    """A `Place` that a test moves: a socket that somebody listens on, or none."""

    path: Path | None
    generation: int = 1
    why: str = "it exited with code 1"
    settled: bool = False
    asked: int = 0
    retried: int = 0
    ended: bool = False
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def ready(self) -> Path:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.path is None:
            raise ProcessUnavailable(self.why, settled=self.settled)
        return self.path

    async def changed(self) -> None:
        await self._changed.wait()

    async def run(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.ended = True

    def move(self, path: Path | None, *, again: bool = False) -> None:
        """It is there now, or nowhere; `again`: it has been started once more."""
        self.path = path
        self.generation += again
        self._changed.set()
        self._changed = trio.Event()

    def retry(self) -> None:
        self.retried += 1

    def statistics(self) -> Mapping[str, Any]:
        return {"state": "ready" if self.path else "failed"}


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    listener.setblocking(False)
    return listener


def process(path: Path, **fields: Any) -> Process:
    """The bare adapter of a process that listens at `path`."""
    return Process(ProviderSettings(name=NAME, type="process", command=("x",), **fields), Stage(path))


def serving(nursery: trio.Nursery, folder: Path, provider: Any) -> Path:
    """The socket that `provider` is served on from now on."""
    path = folder / f"{len(list(folder.iterdir()))}.sock"
    nursery.start_soon(Server(host_of(provider)).serve, listen(path))
    return path


def outside(nursery: trio.Nursery, folder: Path) -> Callable[[Adapter], Adapter]:
    """Puts an adapter into a process, and the adapter of that process in its place."""

    def put(adapter: Adapter) -> Adapter:
        declared = ProviderSettings(name="p", type="process", command=("x",))
        return translating(Process(declared, Stage(serving(nursery, folder, adapter))), declared)

    return put
