"""Calls between the process that leads and one worker, in both directions, over a socket that only these two have.

A frame is its length (4 bytes, big-endian) and a pickled `Call` or `Return`. Pickle is right here and nowhere else:
both ends are the same program and user, and nobody else can reach a socket pair that was inherited.
"""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import trio

log = logging.getLogger("infermux.workers")

_LONGEST = 64 * 1024 * 1024  # bytes of a frame: a whole configuration


class LinkLost(Exception):
    """The other process is gone."""


class Refused(Exception):
    """What a handler raises for who asked. Has to pickle, and to come out as it was: `args` are what it is made of."""


class Failed(Exception):
    """A handler over there raised what nobody foresaw, named by its type: the log has the rest."""


@attrs.frozen
class Call:
    """A message that is answered by the `Return` of the same number."""

    number: int
    message: Any


@attrs.frozen
class Return:
    """`value`, or the `error` that was raised for the call."""

    number: int
    value: Any = None
    error: Refused | Failed | None = None


Handler = Callable[[Any], Awaitable[Any]]
"""Answers a message of the other side. What it raises is raised there: `Refused` as it is, all else as `Failed`."""


class _Slot:
    """Where an asker waits."""

    __slots__ = ("event", "result")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.result: Return | None = None


class Link:
    """One end. `run` has to run for anything to be answered; when it ends, the other process is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._sending = trio.Lock()
        self._waiting: dict[int, _Slot] = {}
        self._number = 0
        self.lost = trio.Event()

    async def ask(self, message: Any) -> Any:
        """The other side's answer to `message`. Raises the Refused that it raised, Failed, LinkLost."""
        if self.lost.is_set():
            raise LinkLost
        self._number += 1
        number, slot = self._number, _Slot()
        self._waiting[number] = slot
        try:
            await self._send(pickle.dumps(Call(number, message)))
            await slot.event.wait()
        finally:
            del self._waiting[number]
        if slot.result is None:
            raise LinkLost
        if slot.result.error is not None:
            raise slot.result.error
        return slot.result.value

    async def run(self, handler: Handler) -> None:
        """Take what comes until the other process ends."""
        try:
            async with trio.open_nursery() as nursery:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    while (frame := await self._receive()) is not None:
                        if isinstance(frame, Return):
                            self._returned(frame)
                        else:
                            nursery.start_soon(self._answer, handler, frame)
                nursery.cancel_scope.cancel()
        finally:
            self.lost.set()
            for slot in self._waiting.values():
                slot.event.set()
            await trio.aclose_forcefully(self._stream)

    def _returned(self, frame: Return) -> None:
        slot = self._waiting.get(frame.number)
        if slot is not None:
            slot.result = frame
            slot.event.set()

    async def _answer(self, handler: Handler, call: Call) -> None:
        try:
            data = pickle.dumps(Return(call.number, await handler(call.message)))
        except Refused as refused:
            data = pickle.dumps(Return(call.number, error=refused))
        except Exception as error:  # it is for who asked
            name = type(error).__name__
            log.exception("%s could not be answered: %s", type(call.message).__name__, name)
            data = pickle.dumps(Return(call.number, error=Failed(name)))
        with suppress(LinkLost):
            await self._send(data)

    async def _send(self, data: bytes) -> None:
        # A frame that was begun has to be ended, or nobody could tell where the next one begins.
        with trio.CancelScope(shield=True):
            async with self._sending:
                try:
                    await self._stream.send_all(len(data).to_bytes(4, "big") + data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise LinkLost from None

    async def _receive(self) -> Call | Return | None:
        head = await self._exactly(4)
        if head is None:
            return None
        length = int.from_bytes(head, "big")
        if length > _LONGEST:
            raise trio.BrokenResourceError(f"a frame of {length} bytes")
        body = await self._exactly(length)
        return None if body is None else pickle.loads(body)  # noqa: S301 - see above

    async def _exactly(self, count: int) -> bytes | None:
        data = bytearray()
        while len(data) < count:
            more = await self._stream.receive_some(count - len(data))
            if not more:
                return None
            data += more
        return bytes(data)
