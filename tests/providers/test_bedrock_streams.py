"""Streams of Bedrock, passed on as chunks or broken without an end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.bedrock_stream import ConverseStream
from infermux.providers.interface import Stream
from tests.mocks.bedrock_upstream import BedrockUpstream, Reply, exception, frame, frames, unmodeled
from tests.providers._bedrock import adapter, call, failure, let_in, opened
from tests.providers._both import inside_and_outside
from tests.providers._calls import drained
from tests.providers.test_chat_stream import MemoryResponse


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BedrockUpstream]:
    async with BedrockUpstream() as running:
        let_in(running, monkeypatch)
        yield running


async def drain_into(received: list[bytes], stream: Stream) -> None:
    try:
        while (data := await stream.receive()) is not None:
            received.append(data)
    finally:
        stream.close()


@inside_and_outside
@pytest.mark.slow
async def test_a_stream_is_passed_on_as_chunks_with_its_usage(upstream: BedrockUpstream) -> None:
    stream = await opened(adapter(upstream), stream_options={"include_usage": True})
    data = await drained(stream)
    assert b'"content":"Hello fro"' in data
    assert data.endswith(b"data: [DONE]\n\n")
    assert stream.has_content
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.completion_tokens) == (7, 5)
    assert upstream.requests[0].path.endswith("/converse-stream")


@pytest.mark.slow
async def test_the_connection_is_used_again_after_a_stream(upstream: BedrockUpstream) -> None:
    provider = adapter(upstream)
    for _ in range(3):
        await drained(await opened(provider))
    assert upstream.connections == 1


@inside_and_outside
@pytest.mark.slow
async def test_leaving_a_stream_closes_its_connection(upstream: BedrockUpstream) -> None:
    def endless() -> Any:
        yield from list(frames(Reply()))[:3]
        while True:
            yield frame("contentBlockDelta", contentBlockIndex=0, delta={"text": "more"})

    upstream.script.append(Reply(events=endless()))
    stream = await opened(adapter(upstream))
    await stream.receive()
    stream.close()
    with trio.fail_after(30):
        await upstream.left.wait()


@inside_and_outside
@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        (exception("throttlingException", "slow down"), FailureKind.RATE_LIMITED, 429),
        (exception("validationException", "Input is too long for requested model."), FailureKind.CALLER, 400),
        (exception("modelStreamErrorException", "oops"), FailureKind.SERVER_ERROR, 500),
        (exception("internalServerException", "oops"), FailureKind.SERVER_ERROR, 500),
        (exception("serviceUnavailableException", "oops"), FailureKind.SERVER_ERROR, 503),
        (unmodeled("InternalFailure", "oops"), FailureKind.SERVER_ERROR, 500),
    ],
)
async def test_an_exception_before_any_content_is_a_failure_of_its_own_kind(
    upstream: BedrockUpstream, event: bytes, kind: FailureKind, status: int
) -> None:
    upstream.script.append(Reply(events=(frame("messageStart", role="assistant"), event)))
    stream = await opened(adapter(upstream))
    with pytest.raises(UpstreamFailure) as caught:
        await drained(stream)
    assert (caught.value.kind, caught.value.status) == (kind, status)
    assert not stream.has_content
    assert json.loads(caught.value.body or b"")["error"]["message"]


@inside_and_outside
@pytest.mark.slow
async def test_an_exception_after_content_breaks_the_stream_without_an_end(upstream: BedrockUpstream) -> None:
    event = exception("throttlingException", "slow down")
    upstream.script.append(Reply(events=(*list(frames(Reply()))[:3], event)))
    stream = await opened(adapter(upstream))
    received: list[bytes] = []
    with pytest.raises(UpstreamFailure, match="ThrottlingException: slow down") as caught:
        await drain_into(received, stream)
    assert caught.value.kind is FailureKind.BROKEN
    assert b"Hello fro" in b"".join(received)
    assert b"[DONE]" not in b"".join(received)
    with pytest.raises(UpstreamFailure):
        await stream.receive()


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["connection", "framing", "message"])
async def test_a_stream_that_ends_early_is_broken(upstream: BedrockUpstream, cut: str) -> None:
    events = tuple(frames(Reply()))[:3]
    tail = {"connection": (b"CUT",), "framing": (), "message": (events[0][:20],)}[cut]
    upstream.script.append(Reply(events=(*events, *tail)))
    stream = await opened(adapter(upstream))
    with pytest.raises(UpstreamFailure) as caught:
        await drained(stream)
    assert caught.value.kind is FailureKind.BROKEN


@pytest.mark.slow
async def test_a_stream_may_end_without_its_metadata(upstream: BedrockUpstream) -> None:
    upstream.script.append(Reply(events=tuple(frames(Reply()))[:-1]))
    stream = await opened(adapter(upstream))
    assert (await drained(stream)).endswith(b"[DONE]\n\n")
    assert stream.usage is None


@pytest.mark.slow
async def test_a_break_after_the_stop_reason_takes_nothing_of_the_answer_with_it(upstream: BedrockUpstream) -> None:
    upstream.script.append(Reply(events=(*tuple(frames(Reply()))[:-1], b"CUT")))
    assert (await drained(await opened(adapter(upstream)))).endswith(b"[DONE]\n\n")


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 2, 3])
async def test_a_corrupt_message_is_never_passed_on(upstream: BedrockUpstream, at: int) -> None:
    events = list(frames(Reply()))
    events[at] = events[at][:-6] + bytes([events[at][-6] ^ 1]) + events[at][-5:]
    upstream.script.append(Reply(events=tuple(events)))
    with pytest.raises(UpstreamFailure, match="corrupt") as caught:
        await drained(await opened(adapter(upstream)))
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.slow
async def test_a_whole_answer_to_a_streaming_request_is_malformed(upstream: BedrockUpstream) -> None:
    upstream.script.append(Reply(body=b"{}"))
    found = await failure(adapter(upstream), call(stream=True))
    assert found.kind is FailureKind.MALFORMED


async def test_what_came_before_an_exception_in_one_read_is_the_callers() -> None:
    said = frame("contentBlockDelta", contentBlockIndex=0, delta={"text": "Hi"})
    more = frame("contentBlockDelta", contentBlockIndex=0, delta={"text": " there"})
    found = ConverseStream(MemoryResponse([said, more + exception("throttlingException", "slow")]), secrets=lambda: ())
    assert [await found.receive(), await found.receive()] == [said, more]
    for _ in range(2):
        with pytest.raises(UpstreamFailure) as caught:
            await found.receive()
        assert (caught.value.kind, caught.value.status) == (FailureKind.BROKEN, 429)
