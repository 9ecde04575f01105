"""The mock behind `processes`: the same chat completions over HTTP and over the provider protocol, from one process.

Run as a program: prints the port and the path of the socket, and ends with its stdin. Answers are made once: what is
measured is who asks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import trio

from infermux.providers.process.messages import Chunk, End, Hello, Model, Models, Started, Tokens, encode

TEXT = "A sentence of an answer that is about as long as they are, so that the bodies have an ordinary size. "
_COMMON = {"id": "chatcmpl-bench", "created": 1, "model": "bench"}


def whole_body() -> bytes:
    """A completion of about 1.5 KB."""
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT * 12}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 300, "completion_tokens": 250, "total_tokens": 550}
    return msgspec.json.encode({**_COMMON, "object": "chat.completion", "choices": [choice], "usage": usage})


def chunk_body(*, last: bool = False) -> bytes:
    choice = {"index": 0, "delta": {} if last else {"content": " word"}, "finish_reason": "stop" if last else None}
    return msgspec.json.encode({**_COMMON, "object": "chat.completion.chunk", "choices": [choice]})


class Sender:
    """Says one answer over a connection: at once, or token by token."""

    def __init__(self, tokens: int, interval: float) -> None:
        self.tokens = tokens
        self.interval = interval

    async def say(self, stream: trio.SocketStream, begin: bytes, event: bytes, end: bytes) -> None:
        await stream.send_all(begin)
        for _ in range(self.tokens):
            await trio.sleep(self.interval)
            await stream.send_all(event)
        await stream.send_all(end)


Wire = Callable[[trio.SocketStream, Sender], Awaitable[None]]


def line_of(data: bytes) -> bytes:
    return encode(Chunk(data=msgspec.Raw(data)))


async def over_lines(stream: trio.SocketStream, sender: Sender) -> None:
    """The provider protocol, as far as the router asks."""
    used = Tokens(prompt_tokens=300, completion_tokens=250)
    whole = encode(Started()) + line_of(whole_body()) + encode(End(stop_reason="stop", usage=used))
    begin, event = encode(Started()), line_of(chunk_body())
    end = line_of(chunk_body(last=True)) + encode(End(stop_reason="stop", usage=used))
    async for line in _lines(stream):
        if b'"invoke"' in line[:32]:
            if b'"stream":true' in line:
                await sender.say(stream, begin, event, end)
            else:
                await stream.send_all(whole)
        elif b'"list_models"' in line:
            await stream.send_all(encode(Models(models=(Model(id="bench"),))))
        else:
            await stream.send_all(encode(Hello(version=1, capabilities=("reuse",))))


async def over_http(stream: trio.SocketStream, sender: Sender) -> None:
    """HTTP/1.1, as far as the adapter of the type openai asks; bodies come with a length."""
    body = whole_body()
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    begin = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    usage = msgspec.json.encode(
        {**_COMMON, "choices": [], "usage": {"prompt_tokens": 300, "completion_tokens": 250, "total_tokens": 550}}
    )
    end = _chunked(b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (chunk_body(last=True), usage)) + b"0\r\n\r\n"
    event = _chunked(b"data: %b\n\n" % chunk_body())
    async for request in _requests(stream):
        if b'"stream":true' in request or b'"stream": true' in request:
            await sender.say(stream, begin, event, end)
        else:
            await stream.send_all(whole)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _lines(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    held = b""
    while data := await stream.receive_some(65536):
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            yield line


async def _requests(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    held = b""
    while data := await stream.receive_some(65536):
        held += data
        while (at := held.find(b"\r\n\r\n")) >= 0:
            length = int(held[:at].lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            if len(held) < at + 4 + length:
                break
            request, held = held[: at + 4 + length], held[at + 4 + length :]
            yield request


async def _main(sender: Sender) -> None:
    with tempfile.TemporaryDirectory(prefix="infermux-bench-") as folder:
        path = str(Path(folder) / "s")
        http = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(path)
        sock.listen(1024)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, _served(over_http, sender), [http])
            nursery.start_soon(trio.serve_listeners, _served(over_lines, sender), [trio.SocketListener(sock)])
            print(http.socket.getsockname()[1], path, flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()


def _served(wire: Wire, sender: Sender) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await wire(stream, sender)
        except trio.BrokenResourceError:
            pass  # whoever asked has left

    return serve


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--interval-ms", type=float, default=20.0)
    options = parser.parse_args()
    trio.run(_main, Sender(options.tokens, options.interval_ms / 1000))
