"""The process's end of the protocol: one connection in memory, answered by providers as authors write them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from infermux.config.settings import ProviderSettings, Simulate
from infermux.errors import NotCarried
from infermux.providers.interface import Answer, Call
from infermux.providers.process import Done, Model, ProviderError, Request
from infermux.providers.process.messages import LINE_LIMIT
from infermux.providers.process.serving import Server, host_of, listening
from infermux.providers.simulated import make
from infermux.providers.wire import MemoryWire, memory_pair


class Client:
    """The router's end, in memory."""

    def __init__(self, wire: MemoryWire) -> None:
        self.wire = wire
        self._held = b""

    async def ask(self, message: object) -> None:
        await self.wire.send(json.dumps(message).encode() + b"\n")

    async def hear(self) -> Any:
        """The next message; None at the end."""
        while b"\n" not in self._held:
            data = await self.wire.receive()
            if not data:
                return None
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return json.loads(line)

    async def all(self) -> list[Any]:
        """Up to the end of an answer."""
        found = []
        while True:
            found.append(await self.hear())
            if found[-1] is None or found[-1]["type"] in ("end", "error"):
                return found


def connected(nursery: trio.Nursery, provider: Any) -> tuple[Client, Server]:
    near, far = memory_pair()
    server = Server(host_of(provider))
    nursery.start_soon(server.converse, far)
    return Client(near), server


def invoke(text: str = "hello big world", *, stream: bool = True, **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
    return {"type": "invoke", "endpoint": "/chat/completions", "model": "m", "stream": stream, "body": body, **more}


class Words:
    """Says the words it was told, as its kind of function does."""

    models = (Model(id="m", context_window=10),)

    async def invoke(self, request: Request) -> AsyncIterator[Any]:
        for word in request.text.split():
            yield word
        yield Done(stop_reason="length", prompt_tokens=3, completion_tokens=2)


class Blocking:
    """The same as a generator that runs in a thread."""

    def models(self) -> list[Model]:
        return [Model(id="m")]

    def invoke(self, request: Request) -> Iterator[Any]:
        yield from request.text.split()


class Whole:
    """The same at once."""

    async def models(self) -> list[Model]:
        return [Model(id="m")]

    def invoke(self, request: Request) -> str:
        return request.text.replace(" ", "")


@pytest.mark.parametrize("provider", [Words(), Blocking(), Whole()])
async def test_an_answer_is_started_chunks_and_an_end_whatever_kind_of_function_gives_it(
    nursery: trio.Nursery, provider: Any
) -> None:
    client, _ = connected(nursery, provider)
    await client.ask(invoke())
    started, *chunks, end = await client.all()
    assert started == {"type": "started"}
    deltas = [chunk["data"]["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta["content"] for delta in deltas) == "hellobigworld"
    assert deltas[0]["role"] == "assistant"
    assert len({chunk["data"]["id"] for chunk in chunks}) == 1
    assert end["stop_reason"] == ("length" if isinstance(provider, Words) else "stop")
    await client.ask(invoke(stream=False))
    started, chunk, end = await client.all()
    assert chunk["data"]["choices"][0]["message"]["content"] == "hellobigworld"
    assert ("usage" in end) is isinstance(provider, Words)


@pytest.mark.parametrize("provider", [Words(), Blocking(), Whole()])
async def test_models_are_an_attribute_or_a_method(nursery: trio.Nursery, provider: Any) -> None:
    client, _ = connected(nursery, provider)
    await client.ask({"type": "list_models"})
    found = await client.hear()
    assert [model["id"] for model in found["models"]] == ["m"]


async def test_a_dict_goes_on_as_it_is(nursery: trio.Nursery) -> None:
    class Chunks:
        models = ()

        async def invoke(self, request: Request) -> AsyncIterator[Any]:
            yield "a"
            yield {"id": "x", "choices": []}

    client, _ = connected(nursery, Chunks())
    await client.ask(invoke(stream=False))
    _, first, second, end = await client.all()
    assert first["data"]["choices"][0]["delta"]["content"] == "a"
    assert second["data"] == {"id": "x", "choices": []}
    assert end["type"] == "end"


async def test_hello_names_the_version_and_what_both_can_do(nursery: trio.Nursery) -> None:
    client, _ = connected(nursery, Words())
    await client.ask({"type": "hello", "versions": [9, 1], "capabilities": ["reuse", "telepathy"], "new": True})
    assert await client.hear() == {
        "type": "hello",
        "version": 1,
        "capabilities": ["reuse"],
        "endpoints": ["/chat/completions"],
        "name": "Words",
        "software": "",
    }
    await client.ask({"type": "hello", "versions": [9]})
    assert (await client.hear())["code"] == "unsupported_version"


async def test_what_is_no_message_is_said_and_the_connection_goes_on(nursery: trio.Nursery) -> None:
    client, _ = connected(nursery, Words())
    for line in (b"garbage\n", b'{"type":"dance"}\n', b"\xff\n", b'"ListModels"\n'):
        await client.wire.send(line)
        assert (await client.hear())["code"] == "unsupported"
    await client.wire.send(b"\r\n\n")
    await client.ask({"type": "ping"})
    assert await client.hear() == {"type": "pong"}
    await client.ask(invoke() | {"endpoint": "/audio/speech"})
    assert (await client.hear())["status"] == 404
    await client.ask(invoke() | {"body": [1]})
    assert (await client.hear())["code"] == "invalid_request"


async def test_a_line_that_is_too_long_ends_the_connection(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LINE_LIMIT > 1000
    monkeypatch.setattr("infermux.providers.process.lines.LineBuffer.__init__.__defaults__", (1000,))
    client, _ = connected(nursery, Words())
    await client.wire.send(b"x" * 2000)
    assert (await client.hear())["code"] == "too_large"
    assert await client.hear() is None


class Slow:
    """Waits for ever after its first word, and remembers who was cancelled."""

    models = ()

    def __init__(self) -> None:
        self.cancelled = 0
        self.go_on = trio.Event()

    async def invoke(self, request: Request) -> AsyncIterator[str]:
        yield "one"
        try:
            await self.go_on.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        yield "two"


async def test_cancel_ends_the_request_and_the_connection_goes_on(nursery: trio.Nursery) -> None:
    slow = Slow()
    client, _ = connected(nursery, slow)
    await client.ask({"type": "cancel"})  # of nothing
    await client.ask(invoke())
    assert [(await client.hear())["type"] for _ in range(2)] == ["started", "chunk"]
    await client.ask(invoke())
    assert "already" in (await client.hear())["message"]
    await client.ask({"type": "cancel"})
    assert (await client.hear())["code"] == "cancelled"
    assert slow.cancelled == 1
    await client.ask({"type": "ping"})
    assert await client.hear() == {"type": "pong"}


@pytest.mark.parametrize("how", ["close", "send_eof"])
async def test_closing_the_connection_cancels(nursery: trio.Nursery, how: str) -> None:
    slow = Slow()
    client, server = connected(nursery, slow)
    await client.ask(invoke())
    await client.hear()
    getattr(client.wire, how)()
    await trio.testing.wait_all_tasks_blocked()
    assert slow.cancelled == 1
    assert "connections" in repr(server)


async def test_a_drain_ends_idle_connections_and_waits_for_what_runs(nursery: trio.Nursery) -> None:
    slow = Slow()
    client, server = connected(nursery, slow)
    near, far = memory_pair()
    nursery.start_soon(server.converse, far)
    await client.ask(invoke())
    await client.hear()
    server.drain()
    assert await Client(near).hear() is None
    slow.go_on.set()
    *_, end = await client.all()
    assert end["type"] == "end"
    assert await client.hear() is None


class Failing:
    """Raises what it is told to, before or after a word."""

    models = ()

    def __init__(self, error: Exception, *, late: bool) -> None:
        self.error = error
        self.late = late

    async def invoke(self, request: Request) -> AsyncIterator[str]:
        if self.late:
            yield "word"
        raise self.error


@pytest.mark.parametrize("late", [False, True])
async def test_an_error_takes_the_place_of_what_would_come_next(nursery: trio.Nursery, late: bool) -> None:
    error = ProviderError("slow down", code="rate_limited", retry_after=2.0, body={"error": {"message": "x"}})
    client, _ = connected(nursery, Failing(error, late=late))
    await client.ask(invoke())
    found = await client.all()
    assert [each["type"] for each in found] == [*(["started", "chunk"] if late else []), "error"]
    assert (found[-1]["code"], found[-1]["retry_after"], found[-1]["body"]) == (
        "rate_limited",
        2.0,
        {"error": {"message": "x"}},
    )
    await client.ask({"type": "ping"})
    assert await client.hear() == {"type": "pong"}


async def test_a_bug_is_an_internal_error_with_its_traceback_in_the_log(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = connected(nursery, Failing(KeyError("seed"), late=False))
    await client.ask(invoke())
    assert await client.hear() == {
        "type": "error",
        "code": "internal",
        "message": "KeyError: 'seed'",
        "retryable": True,
        "status": 500,
    }
    assert "raise self.error" in caplog.text


async def test_a_piece_that_is_none_is_a_bug(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        models = ()

        def invoke(self, request: Request) -> Any:
            return 7

    client, _ = connected(nursery, Odd())
    await client.ask(invoke())
    assert "made of texts and dicts, not of int" in (await client.all())[-1]["message"]
    assert "TypeError" in caplog.text


async def test_a_refusal_of_an_adapter_keeps_what_it_is(nursery: trio.Nursery) -> None:
    class Picky:
        endpoints = make(ProviderSettings(name="s", type="simulated"), environ={}).endpoints

        async def send(self, call: Call) -> Answer:
            raise NotCarried("no audio", param="audio")

    client, _ = connected(nursery, Picky())
    await client.ask(invoke())
    found = await client.hear()
    assert (found["code"], found["param"], found["status"]) == ("not_carried", "audio", 400)


async def test_an_adapter_lists_the_models_it_is_declared_with(nursery: trio.Nursery) -> None:
    declared = ProviderSettings(name="s", type="simulated", models=("a", "b"), simulate=Simulate(first_token=0.0))
    client, _ = connected(nursery, make(declared, environ={}))
    await client.ask({"type": "list_models"})
    assert (await client.hear())["models"] == [{"id": "a", "prefill": True}, {"id": "b", "prefill": True}]


def test_a_request_knows_the_last_words_of_the_user() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "c"}]
    assert Request(model="m", body={"messages": messages}).text == "ab"
    assert Request(model="m", body={"messages": "odd"}).text == Request(model="m", body={}).text == ""
    assert "secret" not in repr(Request(model="m", body={"secret": 1}, credential="secret"))


def test_the_socket_is_in_a_folder_that_only_its_user_enters(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with listening() as (_, path):
        assert path.parent.parent == tmp_path
        assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
        assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert list(tmp_path.iterdir()) == []
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with listening() as (_, path):
        assert len(os.fsencode(path)) <= 103
