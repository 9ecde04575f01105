"""Callers that behave badly, each in one way, at a moment of chance."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

import attrs
import trio

from tests.e2e._router import HELLO


def request(model: str, *, stream: bool) -> bytes:
    body = json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def reset(stream: trio.SocketStream) -> None:
    """Close with a RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


PATIENCE = 0.5  # seconds: the longest a caller stays; most stay much shorter


@attrs.frozen
class Caller:
    """One connection. `rng` is its own."""

    stream: trio.SocketStream
    rng: random.Random
    model: str

    def request(self) -> bytes:
        return request(self.model, stream=self.rng.random() < 0.5)

    def patience(self) -> float:
        return float(PATIENCE * self.rng.random() ** 3)

    async def read(self, seconds: float) -> bytes:
        """What comes within `seconds`."""
        said = b""
        with trio.move_on_after(seconds):
            async for data in self.stream:
                said += data
        return said


async def leaves(caller: Caller) -> None:
    await caller.stream.send_all(caller.request())
    await caller.read(caller.patience())


async def resets(caller: Caller) -> None:
    await caller.stream.send_all(caller.request())
    await caller.read(caller.patience())
    reset(caller.stream)


async def closes_half(caller: Caller) -> None:
    await caller.stream.send_all(caller.request())
    await caller.read(caller.patience())
    await caller.stream.send_eof()
    await caller.read(caller.patience())


async def pipelines(caller: Caller) -> None:
    await caller.stream.send_all(caller.request() + caller.request() + caller.request())
    await caller.read(caller.patience())


async def reads_slowly(caller: Caller) -> None:
    caller.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await caller.stream.send_all(request(caller.model, stream=True))
    with trio.move_on_after(caller.patience()):
        async for _ in caller.stream:
            await trio.sleep(0.01)


async def writes_slowly(caller: Caller) -> None:
    data = caller.request()
    with trio.move_on_after(caller.patience()):
        for start in range(0, len(data), 10):
            await caller.stream.send_all(data[start : start + 10])
            await trio.sleep(0.005)
        await caller.read(caller.patience())


async def says_a_part(caller: Caller) -> None:
    data = caller.request()
    await caller.stream.send_all(data[: caller.rng.randrange(len(data))])
    await caller.read(caller.patience())
    if caller.rng.random() < 0.5:
        reset(caller.stream)


WAYS: Mapping[str, Callable[[Caller], Awaitable[None]]] = {
    way.__name__: way for way in (leaves, resets, closes_half, pipelines, reads_slowly, writes_slowly, says_a_part)
}


async def misbehave(port: int, number: int, way: Callable[[Caller], Awaitable[None]], model: str) -> None:
    """One caller of this number from its connection to its end. The router's closing on it is no error."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        await way(Caller(stream, random.Random(f"chaos {number}"), model))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)
