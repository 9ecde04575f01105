"""Streams of messages pass through byte for byte, and only what must be seen is seen: over a response in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Usage
from infermux.providers.messages_stream import MessagesStream
from tests._properties import examples
from tests.mocks.anthropic_answers import Reply, Tool, events
from tests.mocks.anthropic_answers import Usage as MockUsage
from tests.providers.test_chat_stream import MemoryResponse


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def delta(**fields: Any) -> bytes:
    return event("content_block_delta", index=0, delta=fields)


def text(said: str) -> bytes:
    return delta(type="text_delta", text=said)


def block(**fields: Any) -> bytes:
    return event("content_block_start", index=0, content_block=fields)


START = event("message_start", message={"id": "m", "usage": {"input_tokens": 7, "output_tokens": 1}})
BLOCK = block(type="text", text="")
PING = event("ping")
CLOSE = event("content_block_stop", index=0)
FINISH = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
STOP = event("message_stop")
STOP_OF_OURS = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
WHOLE = (START, BLOCK, PING, text("Hi"), CLOSE, FINISH, STOP)
# What a model may write to fool a scanner.
HOSTILE = (
    '"type":"message_stop"',
    'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
    '{"type":"error"}',
    '"message_delta"',
    '\\"message_stop\\"',
    '","usage":{"output_tokens":9},"type":"message_delta","x":"',
    "error",
)


def stream(*pieces: bytes | UpstreamFailure | None) -> MessagesStream:
    return MessagesStream(MemoryResponse(list(pieces)))


async def collect(found: MessagesStream) -> list[bytes]:
    received: list[bytes] = []
    while (data := await found.receive()) is not None:
        assert data
        received.append(data)
    return received


async def failure_of(found: MessagesStream) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await collect(found)
    return caught.value


async def test_a_stream_comes_out_as_it_went_in() -> None:
    found = stream(*WHOLE)
    assert await collect(found) == list(WHOLE)
    assert found.usage == Usage(prompt_tokens=7, completion_tokens=5)


async def test_pass_through_does_not_copy() -> None:
    piece = text("more")
    found = stream(START, text("Hi"), piece)
    await found.receive()
    await found.receive()
    assert await found.receive() is piece


async def test_usage_of_the_end_counts_and_what_it_leaves_out_stays_as_the_start_said() -> None:
    start = {"input_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1}
    end = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}, "input_tokens": None}
    finish = event("message_delta", delta={"stop_reason": "end_turn"}, usage=end)
    found = stream(event("message_start", message={"usage": start}), text("x"), finish, STOP)
    await collect(found)
    assert found.usage == Usage(
        prompt_tokens=123, completion_tokens=9, cached_tokens=100, cache_write_tokens=20, reasoning_tokens=4
    )


async def test_usage_of_a_stream_that_was_left_is_what_can_be_told() -> None:
    found = stream(START, text("one"), text("two"), text("three"), None)
    for _ in range(4):
        await found.receive()
    assert found.usage == Usage(prompt_tokens=7, completion_tokens=3, estimated=True)


@pytest.mark.parametrize(
    "piece",
    [
        text("x"),
        delta(type="thinking_delta", thinking="x"),
        delta(type="signature_delta", signature="x"),
        delta(type="input_json_delta", partial_json="{"),
        delta(type="citations_delta", citation={"type": "char_location"}),
        block(type="redacted_thinking", data="x"),
        block(type="web_search_tool_result", content=[]),
        block(type="text", text="already"),
        FINISH,
    ],
)
async def test_content_of_any_kind_is_content(piece: bytes) -> None:
    found = stream(START, piece)
    await found.receive()
    assert not found.has_content
    await found.receive()
    assert found.has_content


@pytest.mark.parametrize(
    "piece",
    [
        PING,
        BLOCK,
        CLOSE,
        text(""),
        delta(type="input_json_delta", partial_json=""),
        block(type="tool_use", id="toolu_1", name="look", input={}),
        block(type="thinking", thinking="", signature=""),
        event("of_a_later_version", delta="x"),
        b": a comment\n\n",
        b"data: [1]\n\n",
    ],
)
async def test_what_says_nothing_is_no_content_and_goes_on(piece: bytes) -> None:
    found = stream(piece)
    assert await found.receive() == piece
    assert not found.has_content


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (START,),
        (START, STOP),
        (START, BLOCK, PING, CLOSE, STOP),
        WHOLE[:-2],
        WHOLE[:4],
        (*WHOLE[:4], UpstreamFailure(FailureKind.BROKEN, "reset")),
    ],
)
async def test_an_end_that_is_not_genuine_is_broken_and_stays_so(pieces: tuple[bytes, ...]) -> None:
    assert (await failure_of(stream(*pieces))).kind is FailureKind.BROKEN


@pytest.mark.parametrize("ends", [(), (UpstreamFailure(FailureKind.BROKEN, "reset"),)])
async def test_after_a_stop_reason_nothing_is_missing_but_the_stop(ends: tuple[UpstreamFailure, ...]) -> None:
    found = stream(*WHOLE[:-1], *ends)
    assert b"".join(await collect(found)) == b"".join((*WHOLE[:-1], STOP_OF_OURS))
    assert found.usage == Usage(prompt_tokens=7, completion_tokens=5)


async def test_a_provider_that_says_no_more_lacks_the_stop_only_after_a_stop_reason() -> None:
    found = stream(*WHOLE)
    for words in (*[None] * 5, STOP_OF_OURS):
        await found.receive()
        assert found.last_words() == words


async def test_an_event_that_is_cut_json_is_left_out() -> None:
    found = stream(START, BLOCK, b"event: content_block_delta\ndata: {broken\n\n", *WHOLE[2:])
    said = b""
    while (data := await found.receive()) is not None:
        said += data
    assert said == b"".join((START, BLOCK, *WHOLE[2:]))
    assert found.malformed_events == 1


async def test_a_broken_stream_stays_broken() -> None:
    found = stream(*WHOLE[:4])
    await failure_of(found)
    assert (await failure_of(found)).kind is FailureKind.BROKEN


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, FailureKind.SERVER_ERROR, 529),
        ({"type": "api_error", "message": "Internal"}, FailureKind.SERVER_ERROR, 500),
        ({"type": "rate_limit_error", "message": "Slow"}, FailureKind.RATE_LIMITED, 429),
        ({"type": "authentication_error", "message": "No"}, FailureKind.CREDENTIALS, 401),
        ({"type": "invalid_request_error", "message": "No"}, FailureKind.CALLER, 400),
        ({"type": "not_found_error", "message": "model: x"}, FailureKind.MODEL_NOT_FOUND, 404),
        ({"type": "of_a_later_version", "message": "?"}, FailureKind.SERVER_ERROR, 500),
        ("words", FailureKind.SERVER_ERROR, 500),
    ],
)
async def test_an_error_before_any_content_is_of_its_own_kind(error: Any, kind: FailureKind, status: int) -> None:
    failed = await failure_of(stream(START, PING, event("error", error=error)))
    assert (failed.kind, failed.status) == (kind, status)
    assert json.loads(failed.body or b"")["error"] == error


@pytest.mark.parametrize("line", [b"event: error\n", b"event:error\n", b""])
async def test_an_error_after_content_is_broken_and_not_passed_on(line: bytes) -> None:
    error = b'data: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'
    found = stream(START, text("Hi"), line + error)
    await found.receive()
    await found.receive()
    failed = await failure_of(found)
    assert (failed.kind, failed.status) == (FailureKind.BROKEN, 529)
    assert "Overloaded" in failed.message


@pytest.mark.parametrize(
    "error",
    [
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no \xe9"}}\n\n',
        b'data:{"type":"error","error":{"message":"no"},"x":"\xf0\x9f"}\n\n',
        b'data: {"type":"err\\u006fr","error":{"message":"no"}}\n\n',
        b'event: error\ndata: {"type":"error","message":"no"}\n\n',
        b"event:error\ndata: no, out of memory\n\n",
    ],
)
async def test_an_error_is_one_however_it_is_written(error: bytes) -> None:
    for pieces in ([error, STOP], [error[:9], error[9:], STOP], [error[:-2]]):
        found = stream(START, text("Hi"), *pieces)
        await found.receive()
        await found.receive()
        failed = await failure_of(found)
        assert failed.kind is FailureKind.BROKEN
        assert "no" in failed.message.partition(":")[2]


async def test_what_came_before_an_error_in_one_read_is_the_callers() -> None:
    found = stream(START + text("Hi"), text(" there") + event("error", error={"type": "overloaded_error"}))
    assert await found.receive() == START + text("Hi")
    assert await found.receive() == text(" there")
    for _ in range(2):
        failed = await failure_of(found)
        assert (failed.kind, failed.status) == (FailureKind.BROKEN, 529)


async def test_content_that_came_with_an_error_was_not_returned_yet() -> None:
    failed = await failure_of(stream(START + text("Hi") + event("error", error={"type": "overloaded_error"})))
    assert failed.kind is FailureKind.SERVER_ERROR


async def test_our_own_secret_is_masked_in_an_error() -> None:
    error = event("error", error={"type": "api_error", "message": "sk-ant-canary"})
    failed = await failure_of(MessagesStream(MemoryResponse([error]), secrets=("sk-ant-canary",)))
    assert "canary" not in failed.message + repr(failed.body)


async def test_events_that_have_their_type_as_a_name_only_are_understood() -> None:
    pieces = (
        b'event: message_start\ndata: {"message":{"usage":{"input_tokens":7}}}\n\n',
        b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"Hi"}}\n\n',
        b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}\n\n',
        b"event: message_stop\ndata: {}\n\n",
    )
    found = stream(*pieces)
    assert await collect(found) == list(pieces)
    assert found.usage == Usage(prompt_tokens=7, completion_tokens=5)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
async def test_other_line_ends_are_line_ends(line_end: bytes) -> None:
    whole = b"".join(WHOLE).replace(b"\n", line_end)
    found = stream(whole)
    assert b"".join(await collect(found)) == whole
    assert found.usage == Usage(prompt_tokens=7, completion_tokens=5)


async def test_a_last_event_without_its_empty_line_is_whole() -> None:
    found = stream(*WHOLE[:-1], STOP[:-2])
    assert b"".join(await collect(found)) == b"".join(WHOLE)


async def test_what_follows_the_end_is_dropped() -> None:
    found = stream(*WHOLE[:-1], STOP + text("more"), text("and more"))
    assert b"".join(await collect(found)) == b"".join(WHOLE)


async def test_a_provider_that_ends_late_does_not_hold_up_the_end(autojump_clock: trio.testing.MockClock) -> None:
    found = stream(*WHOLE, None)
    with trio.fail_after(1):
        assert await collect(found) == list(WHOLE)


async def test_a_provider_that_breaks_after_its_end_has_ended() -> None:
    found = stream(*WHOLE, UpstreamFailure(FailureKind.BROKEN, "reset"))
    assert await collect(found) == list(WHOLE)


@pytest.mark.parametrize("said", HOSTILE)
async def test_what_a_model_writes_changes_nothing(said: str) -> None:
    pieces = (START, text("Hi"), text(said), FINISH, STOP)
    found = stream(*pieces)
    assert await collect(found) == list(pieces)
    assert found.usage == Usage(prompt_tokens=7, completion_tokens=5)


@st.composite
def splits(draw: st.DrawFn) -> list[bytes]:
    """A stream of any content, cut anywhere."""
    words = draw(st.lists(st.text(max_size=8) | st.sampled_from(HOSTILE), min_size=1, max_size=5))
    thinking = tuple(draw(st.lists(st.text(min_size=1, max_size=8), max_size=2)))
    tools = (Tool(name="look", input={"é": draw(st.text(max_size=12))}),) * draw(st.integers(0, 2))
    reply = Reply(tokens=tuple(words), thinking=thinking, tools=tools, usage=MockUsage(cache_read_input_tokens=9))
    whole = b"".join(piece for piece in events(reply, {"model": "m"}, 1) if piece != b"WAIT")
    cuts = sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@settings(max_examples=examples(30), deadline=None)
@given(splits())
def test_any_split_of_the_bytes_gives_the_same_bytes_and_usage(pieces: list[bytes]) -> None:
    found = stream(*pieces)
    assert b"".join(_run(found)) == b"".join(pieces)
    assert found.usage == Usage(prompt_tokens=16, completion_tokens=5, cached_tokens=9)
    assert found.has_content


def _run(found: MessagesStream) -> Iterable[bytes]:
    return trio.run(collect, found)
