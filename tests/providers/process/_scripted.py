"""A process that says exactly what a test's script says, whatever it is asked: a Unix socket, one task a connection."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from infermux.config.settings import ProviderSettings
from infermux.providers.interface import Answer, Call, Endpoint, Stream
from infermux.providers.process.adapter import Process
from infermux.providers.process.messages import Hello, Model, Models, encode
from tests.providers.process._served import NAME, Stage, listen

HELLO = encode(Hello(version=1))
REUSING = encode(Hello(version=1, capabilities=("reuse",)))
MODELS = encode(Models(models=(Model(id="m"), Model(id="n"))))
STARTED = b'{"type":"started"}\n'
END = b'{"type":"end","stop_reason":"stop","usage":{"prompt_tokens":3,"completion_tokens":2}}\n'


def chunk(text: str, *, finish: str | None = None, **more: Any) -> bytes:
    """A chunk of a chat."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return json.dumps({"type": "chunk", "data": data}).encode() + b"\n"


def completion(text: str = "hello", **more: Any) -> bytes:
    """A whole chat completion in a chunk."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    data = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}
    return json.dumps({"type": "chunk", "data": data}).encode() + b"\n"


class Talk:
    """The process's end of a connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._held = b""

    async def line(self) -> Any:
        """What the router says next, None when it has left."""
        while b"\n" not in self._held:
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return json.loads(line)

    async def say(self, data: bytes) -> None:
        """Send; a router that has left is not the script's error."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass


Script = Callable[[Talk, Any], Awaitable[None]]


class Scripted:
    """`script` answers what is invoked; `hello` and `models` are what the other messages are answered."""

    def __init__(self, script: Script, *, hello: bytes = HELLO, models: bytes = MODELS) -> None:
        self.asked: list[Any] = []
        self.connections = 0
        self.left = trio.Event()
        self._script = script
        self._hello = hello
        self._models = models

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        talk = Talk(stream)
        while (asked := await talk.line()) is not None:
            self.asked.append(asked)
            kind = asked if isinstance(asked, str) else asked.get("type")
            if kind == "hello":
                await talk.say(self._hello)
            elif kind == "list_models":
                await talk.say(self._models)
            else:
                await self._script(talk, asked)
                if self._hello == HELLO:
                    return
        self.left.set()


async def scripted(nursery: trio.Nursery, folder: Path, process: Scripted, **fields: Any) -> tuple[Process, Stage]:
    """The adapter of a scripted process."""
    path = folder / "p.sock"
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listen(path)))
    nursery.start_soon(trio.serve_listeners, process.serve, [listener])
    stage = Stage(path)
    adapter = Process(ProviderSettings(name=NAME, type="process", command=("x",), **fields), stage)
    nursery.start_soon(_closed_at_the_end, adapter)
    return adapter, stage


async def _closed_at_the_end(adapter: Process) -> None:
    try:
        await trio.sleep_forever()
    finally:
        await adapter.aclose()


def saying(*parts: bytes) -> Script:
    """A script that sends these and closes."""

    async def script(talk: Talk, _: Any) -> None:
        for part in parts:
            await talk.say(part)
            await trio.sleep(0.002)  # so that they arrive one by one

    return script


def call(*, stream: bool = False, endpoint: Endpoint = Endpoint.CHAT, **fields: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    if stream:
        body["stream"] = True
    return Call(
        endpoint=endpoint,
        body=json.dumps(body, indent=1).encode(),
        model="m",
        requested_model="m",
        stream=stream,
        asked_usage="stream_options" in fields,
    )


async def whole(adapter: Process, request: Call | None = None) -> Answer:
    answer = await adapter.send(request or call())
    assert isinstance(answer, Answer), "a stream"
    return answer


async def opened(adapter: Process, **fields: Any) -> Stream:
    stream = await adapter.send(call(stream=True, **fields))
    assert not isinstance(stream, Answer), "a whole answer"
    return stream


async def drained(stream: Stream) -> bytes:
    received = b""
    try:
        while (data := await stream.receive()) is not None:
            received += data
    finally:
        stream.close()
    return received
