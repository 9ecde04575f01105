"""The process's end of the protocol: `serve` makes a program of a provider. See docs/provider-protocol.md."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from infermux.processes.socket_path import OWN_FOLDER

from ..wire import SocketWire, Wire, WireBroken
from .hosting import AuthorHost, Host, error_for
from .lines import LineBuffer, LineTooLong
from .messages import (
    BROKEN_JSON,
    REUSE,
    VERSIONS,
    Asked,
    Cancel,
    Error,
    Greeting,
    Hello,
    Invoke,
    ListModels,
    Models,
    Ping,
    Pong,
    Said,
    encode,
    read_asked,
)

log = logging.getLogger("infermux.provider")

LONGEST_PATH: Final = 100  # bytes; the address of a Unix socket has room for 107 on Linux, for 103 elsewhere
BACKLOG: Final = 1024
_ACCEPT_PAUSE: Final = 0.1  # seconds, when no more files can be opened


def serve(provider: Any) -> None:
    """Serve `provider` until told to end: the whole of a provider's program.

    `provider` is a `Provider`, or an adapter of infermux (`providers.interface.Adapter`). Prints the path of its socket
    as the first line of stdout. Ends on SIGTERM and when stdin is closed, after what is running then; the socket and
    its folder are removed. A second SIGTERM ends it at once.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    trio.run(_serve, host_of(provider))


def host_of(provider: Any) -> Host:
    """`provider` as the server sees it."""
    if hasattr(provider, "send"):
        from .wrapping import AdapterHost  # only here: it brings the dialects

        return AdapterHost(provider)
    return AuthorHost(provider)


async def _serve(host: Host) -> None:
    server = Server(host)
    with listening() as (listener, path):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drain_on_signal, server, nursery.cancel_scope)
                nursery.start_soon(_drain_with_stdin, server)
                print(path, flush=True)  # noqa: T201 - that is how it is found
                await server.serve(listener)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await host.aclose()


async def _drain_on_signal(server: Server, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if server.draining:
                scope.cancel()
            server.drain()


async def _drain_with_stdin(server: Server) -> None:
    """Whoever started us holds the other end of stdin: when it is closed they are gone, however that came about.

    A terminal or /dev/null has no other end.
    """
    try:
        mode = os.fstat(0).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return
        stdin = trio.lowlevel.FdStream(os.dup(0))
    except OSError:
        return
    async with stdin:
        try:
            while await stdin.receive_some(4096):
                pass
        except trio.BrokenResourceError:
            pass
    server.drain()


@contextmanager
def listening() -> Generator[tuple[socket.socket, Path]]:
    """A listening socket in a folder of its own that only we may enter; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=OWN_FOLDER, dir=_base()))  # with mode 0700
    path = folder / "provider.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener, path
    finally:
        listener.close()
        path.unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:
            pass  # somebody put something there, or took it away


def _base() -> str:
    given = os.environ.get("XDG_RUNTIME_DIR")
    for base in (given, tempfile.gettempdir()):
        fits = base and len(os.fsencode(base)) + len(f"/{OWN_FOLDER}12345678/provider.sock") <= LONGEST_PATH
        if base and fits and os.access(base, os.W_OK | os.X_OK):
            return base
    return "/tmp"  # noqa: S108 - the folder in it is private


@attrs.define(eq=False)
class Server:
    """Serves `host` to whoever connects. `serve` returns when it has drained."""

    host: Host
    draining: bool = False
    _idle: dict[int, Wire] = attrs.field(factory=dict[int, Wire])  # connections without a request, by number
    _connections: int = 0
    _drained: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def __repr__(self) -> str:
        return f"<Server of {self.host.name!r}, {self._connections} connections, draining={self.draining}>"

    def drain(self) -> None:
        """Take no more connections and requests; what is running goes on."""
        self.draining = True
        self._drained.cancel()
        for wire in tuple(self._idle.values()):
            wire.close()

    async def serve(self, listener: socket.socket) -> None:
        async with trio.open_nursery() as nursery:
            with self._drained:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    if not self._accept(listener, nursery):
                        await trio.sleep(_ACCEPT_PAUSE)
            listener.close()

    def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> bool:
        """Take all that wait; False when it has to be tried again later."""
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                log.warning("no connection could be accepted: %s", error)
                return False
            nursery.start_soon(self.converse, SocketWire(sock))

    async def converse(self, wire: Wire) -> None:
        """One connection, until either side closes it. Whoever closes it cancels what is running on it."""
        self._connections += 1
        number = self._connections
        session = _Session(self, wire, number)
        try:
            await session.run()
        except* WireBroken:
            pass
        finally:
            self._idle.pop(number, None)
            wire.close()

    def settle(self, number: int, wire: Wire | None) -> None:
        """A connection has a request now (None), or none any more."""
        if wire is None:
            self._idle.pop(number, None)
        elif self.draining:
            wire.close()
        else:
            self._idle[number] = wire


@attrs.define(eq=False)
class _Session:
    server: Server
    wire: Wire
    number: int
    running: trio.CancelScope | None = None

    async def run(self) -> None:
        self.server.settle(self.number, self.wire)
        lines = LineBuffer()
        async with trio.open_nursery() as nursery:
            while data := await self.wire.receive():
                try:
                    found = lines.feed(data)
                except LineTooLong as error:
                    await self._say(Error(code="too_large", message=f"sent {error}", retryable=False, status=413))
                    break
                for line in found:
                    if line.strip():
                        await self._take(line, nursery)
            nursery.cancel_scope.cancel()

    async def _take(self, line: bytes, nursery: trio.Nursery) -> None:
        try:
            asked = read_asked(line)
        except BROKEN_JSON as error:
            message = f"no message of the provider protocol: {error}"
            await self._say(Error(code="unsupported", message=message, retryable=False))
            return
        await self._do(asked, nursery)

    async def _do(self, asked: Asked, nursery: trio.Nursery) -> None:
        match asked:
            case Invoke() if self.running is not None:
                message = "the connection has a request already: send the next one after its end, or on another"
                await self._say(Error(code="invalid_request", message=message, retryable=False))
            case Invoke():
                self.running = trio.CancelScope()
                self.server.settle(self.number, None)
                nursery.start_soon(self._invoke, asked, self.running)
            case Cancel():
                if self.running is not None:
                    self.running.cancel()
            case Ping():
                await self._say(Pong())
            case ListModels():
                await self._list()
            case Greeting():
                await self._say(self._hello(asked))

    def _hello(self, greeting: Greeting) -> Said:
        version = next((version for version in VERSIONS if version in greeting.versions), None)
        if version is None:
            spoken = ", ".join(map(str, VERSIONS))
            return Error(code="unsupported_version", message=f"this process speaks {spoken}", retryable=False)
        host = self.server.host
        return Hello(version=version, capabilities=(REUSE,), endpoints=tuple(host.endpoints), name=host.name)

    async def _list(self) -> None:
        try:
            models = await self.server.host.models()
        except Exception as error:
            await self._say(error_for(error))
            return
        await self._say(Models(models=models))

    async def _invoke(self, asked: Invoke, scope: trio.CancelScope) -> None:
        last: Error | None = None
        with scope:
            last = await self._answer(asked)
        if scope.cancelled_caught:
            last = Error(code="cancelled", message="the request was cancelled", retryable=False)
        self.running = None
        if last is not None:
            await self._say(last)
        self.server.settle(self.number, self.wire)

    async def _answer(self, asked: Invoke) -> Error | None:
        """Answer; the error it ended with, if it did."""
        host = self.server.host
        if asked.endpoint not in host.endpoints:
            message = f"this provider has no /v1{asked.endpoint[:64]}"
            return Error(code="unsupported", message=message, retryable=False, status=404)
        try:
            await host.answer(asked, self.wire.send)
        except WireBroken:
            raise  # nobody is there to be told
        except Exception as error:
            return error_for(error)
        return None

    async def _say(self, message: Said) -> None:
        await self.wire.send(encode(message))
