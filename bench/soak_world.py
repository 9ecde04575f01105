"""The two sides of a soak: providers that misbehave at random, and callers of all sorts."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.mocks.openai_upstream import KEY, OpenAIUpstream, Reply

CALLERS = 16
PAUSE = 0.08  # seconds between two requests of a caller, on average
TOKENS = tuple(f" word{number}" for number in range(20))
GOOD = Reply(tokens=TOKENS, interval=0.004)
FAULTS = (
    Reply(status=500),
    Reply(status=503),
    Reply(status=429, headers=(("retry-after-ms", "200"),)),
    Reply(reset=True),
    Reply(tokens=TOKENS, cut_after=8),
    Reply(tokens=TOKENS, reset_after=8),
    Reply(tokens=TOKENS, malformed_after=8),
    Reply(tokens=TOKENS, finish=False, done=False),
    Reply(tokens=TOKENS, stall_after=8),
    Reply(hang=True),
    Reply(tokens=TOKENS, done=False),
    Reply(body=b"<html>", content_type="text/html"),
)
FAULTY = 0.15  # of the answers of a provider that misbehaves


class Misbehaving(OpenAIUpstream):
    """An upstream whose next answer is good, or a fault of chance."""

    def __init__(self, rng: random.Random, share: float) -> None:
        super().__init__(any_model=True, default=GOOD)
        self._rng = rng
        self._share = share

    def next_reply(self) -> Reply:
        self.requests.clear()  # an hour of them is not to be kept
        return self._rng.choice(FAULTS) if self._rng.random() < self._share else GOOD


@asynccontextmanager
async def providers(seed: int, folder: Path) -> AsyncGenerator[tuple[Path, list[OpenAIUpstream]]]:
    """Run the upstreams: the configuration that names them, and they themselves.

    The model `mixed` is served by two that misbehave and one that does not; `steady` by one of its own that never does,
    so that its latency is the router's.
    """
    async with AsyncExitStack() as stack:
        upstreams: list[OpenAIUpstream] = []
        declared: list[dict[str, Any]] = []
        for name, share in (("steady", 0.0), ("good", 0.0), ("bad", FAULTY), ("worse", 2 * FAULTY)):
            upstream = await stack.enter_async_context(Misbehaving(random.Random(f"{seed} {name}"), share))
            upstreams.append(upstream)
            declared.append(_declared(name, upstream, "steady" if name == "steady" else "mixed"))
        path = folder / "infermux.yml"
        file = {
            "listen": "127.0.0.1:0",
            "log": {"level": "error"},
            "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
            "providers": declared,
            "rescue": "continue",
        }
        path.write_text(json.dumps(file))
        yield path, upstreams


def _declared(name: str, upstream: OpenAIUpstream, model: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "openai",
        "api_key": KEY,
        "base_url": upstream.base_url,
        "models": [model],
        "timeout": "1s",
        "timeouts": {"idle": "500ms"},
        "health_check": {"interval": "5s", "timeout": "1s"},
        "circuit_breaker": {"recovery_window": "2s"},
    }


@attrs.define(eq=False)
class Load:
    """What the callers did and saw. `times` are (moment, seconds) of the whole answers of `steady`; `direct` those of
    the same asked without the router, which tell how busy the machine was.
    """

    port: int
    direct_port: int
    seed: int
    seen: Counter[str] = attrs.field(factory=Counter[str])
    times: list[tuple[float, float]] = attrs.field(factory=list[tuple[float, float]])
    direct: list[tuple[float, float]] = attrs.field(factory=list[tuple[float, float]])

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._direct_caller)
            for number in range(CALLERS):
                nursery.start_soon(self._caller, random.Random(f"{self.seed} caller {number}"))

    async def _caller(self, rng: random.Random) -> None:
        ways = (self._whole, self._whole, self._stream, self._stream, self._leaver, self._slow_reader)
        while True:
            await trio.sleep(rng.expovariate(1 / PAUSE))
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                async with stream:
                    await rng.choice(ways)(stream, rng)
            except (trio.BrokenResourceError, OSError):
                self.seen["broken connection"] += 1

    async def _direct_caller(self) -> None:
        while True:
            await trio.sleep(PAUSE)
            began = trio.current_time()
            async with await trio.open_tcp_stream("127.0.0.1", self.direct_port) as stream:
                await stream.send_all(_request("steady", stream=False))
                await _answer(stream)
            self.direct.append((trio.current_time(), trio.current_time() - began))

    async def _whole(self, stream: trio.SocketStream, rng: random.Random) -> None:
        model = "steady" if rng.random() < 0.5 else "mixed"
        began = trio.current_time()
        await stream.send_all(_request(model, stream=False))
        said = await _rest(stream)
        if model == "steady":
            now = trio.current_time()
            self.times.append((now, now - began))
        self._saw(said, b'"finish_reason"')

    async def _stream(self, stream: trio.SocketStream, rng: random.Random) -> None:
        await stream.send_all(_request("mixed", stream=True))
        self._saw(await _rest(stream), b"[DONE]")

    async def _leaver(self, stream: trio.SocketStream, rng: random.Random) -> None:
        await stream.send_all(_request("mixed", stream=rng.random() < 0.7))
        with trio.move_on_after(rng.uniform(0, 0.1)):
            await _rest(stream)
        self.seen["left"] += 1

    async def _slow_reader(self, stream: trio.SocketStream, rng: random.Random) -> None:
        await stream.send_all(_request("mixed", stream=True))
        said = b""
        while data := await stream.receive_some(256):
            said += data
            await trio.sleep(rng.uniform(0, 0.02))
        self._saw(said, b"[DONE]")

    def _saw(self, said: bytes, whole: bytes) -> None:
        if said.startswith(b"HTTP/1.1 200 ") and whole in said:
            self.seen["whole"] += 1
        elif b'"error"' in said:
            self.seen["honest error"] += 1
        else:
            self.seen["truncated"] += 1


def _request(model: str, *, stream: bool) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
    return head % KEY.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def _rest(stream: trio.SocketStream) -> bytes:
    said = bytearray()
    async for data in stream:
        said += data
    return bytes(said)


async def _answer(stream: trio.SocketStream) -> None:
    """Read an answer that says how long it is, whose sender leaves the connection open."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += await _some(stream)
    head, _, body = said.partition(b"\r\n\r\n")
    missing = int(head.lower().partition(b"content-length:")[2].split()[0]) - len(body)
    while missing > 0:
        missing -= len(await _some(stream))


async def _some(stream: trio.SocketStream) -> bytes:
    if not (data := await stream.receive_some()):
        raise trio.BrokenResourceError
    return data
