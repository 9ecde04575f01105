"""Streams pass through byte for byte, and only what must be seen is seen: over a response in memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.chat_stream import DONE, ChatStream, usage_of
from infermux.providers.interface import Usage
from tests._properties import examples


@attrs.define(eq=False)
class MemoryResponse:
    """A `Response` whose body comes in given pieces; an exception among them is raised, None is silence for ever."""

    pieces: list[bytes | UpstreamFailure | None]
    content_type: bytes = b"text/event-stream"
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()
    framed: bool = True
    read_to_end: bool = False
    closed: bool = False

    def get(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    async def read(self, limit: int = 1 << 20) -> bytes:
        parts = list[bytes]()
        while (data := await self.receive()) is not None:
            parts.append(data)
        return b"".join(parts)[:limit]

    async def receive(self) -> bytes | None:
        if not self.pieces:
            self.read_to_end = True
            return None
        piece = self.pieces.pop(0)
        if piece is None:
            await trio.sleep_forever()
        if isinstance(piece, UpstreamFailure):
            raise piece
        return piece

    def close(self) -> None:
        self.closed = True


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: Any, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice], "usage": None, **more})


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
FINISH = chunk({}, "stop")
COUNTS = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
USAGE = event({"id": "c", "choices": [], "usage": COUNTS})
# What a model may write to fool a scanner.
HOSTILE = (
    '"usage":{"prompt_tokens":1000000}',
    '{"error":{"message":"no","code":429}}',
    "data: [DONE]\n\n",
    '"finish_reason":"stop"',
    '\\"usage\\":{\\"prompt_tokens\\":1}',
    'data: {"error": 1}\n\n"error"',
    "usage",
    "error",
    "[DONE]",
    "finish_reason",
    '","usage":{"prompt_tokens":9},"choices":[],"x":"',
)


async def collect(stream: ChatStream) -> list[bytes]:
    received = list[bytes]()
    while (data := await stream.receive()) is not None:
        assert data
        received.append(data)
    return received


def run(pieces: Iterable[bytes | UpstreamFailure | None], *, asked: bool = False) -> tuple[bytes, ChatStream]:
    stream = ChatStream(MemoryResponse(list(pieces)), asked_usage=asked)
    return b"".join(trio.run(collect, stream)), stream


async def test_a_stream_comes_out_as_it_went_in() -> None:
    pieces = [ROLE, chunk({"content": "Hel"}), chunk({"content": "lo"}), FINISH, DONE]
    response = MemoryResponse(list[bytes | UpstreamFailure | None](pieces))
    stream = ChatStream(response, asked_usage=False)
    assert await collect(stream) == pieces
    assert await stream.receive() is None
    assert response.read_to_end
    stream.close()
    assert response.closed


async def test_pass_through_does_not_copy() -> None:
    piece = chunk({"content": "x"})
    stream = ChatStream(MemoryResponse([chunk({"content": "y"}), piece]), asked_usage=False)
    await stream.receive()
    assert await stream.receive() is piece


def test_the_usage_event_is_known_and_hidden() -> None:
    body, stream = run([ROLE, chunk({"content": "x"}), FINISH + USAGE, DONE])
    assert body == ROLE + chunk({"content": "x"}) + FINISH + DONE
    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)


def test_the_usage_event_stays_for_a_caller_who_asked() -> None:
    pieces = [ROLE, chunk({"content": "x"}), FINISH, USAGE + DONE]
    body, stream = run(pieces, asked=True)
    assert body == b"".join(pieces)
    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)


def test_usage_beside_choices_is_known_and_stays() -> None:
    last = chunk({}, "stop", usage=COUNTS)
    body, stream = run([chunk({"content": "x"}, usage={**COUNTS, "completion_tokens": 1}), last, DONE])
    assert body.count(b"completion_tokens") == 2
    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)


def test_usage_details_are_read_and_odd_ones_are_no_error() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}}
    usage = Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, reasoning_tokens=2)
    assert usage_of({**COUNTS, **details, "new": {}}) == usage
    assert usage_of({**COUNTS, "prompt_tokens_details": None}) == Usage(prompt_tokens=7, completion_tokens=5)
    assert usage_of({"prompt_tokens": "many"}) is None
    assert usage_of(None) is None


def test_a_first_chunk_without_choices_is_normal() -> None:
    azure = event({"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]})
    body, stream = run([azure, ROLE, chunk({"content": "x"}), FINISH, DONE])
    assert body.startswith(azure)
    assert stream.usage is None


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"content": [{"type": "thinking"}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"refusal": "no"},
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"audio": {"id": "a"}},
        {"something_new": "x"},
    ],
)
async def test_content_of_any_kind_is_content(delta: Any) -> None:
    stream = ChatStream(MemoryResponse([ROLE, chunk(delta), DONE]), asked_usage=False)
    await stream.receive()
    before = stream.has_content
    await stream.receive()
    assert (before, stream.has_content) == (False, True)


async def test_a_finish_reason_is_content() -> None:
    stream = ChatStream(MemoryResponse([FINISH, DONE]), asked_usage=False)
    await stream.receive()
    assert stream.has_content


@pytest.mark.parametrize("together", [False, True])
def test_a_malformed_chunk_is_left_out_wherever_it_stands(together: bool) -> None:
    broken = b'data: {"choi\n\n'
    sound = [ROLE, chunk({"content": "x"}), chunk({"content": "y"}), FINISH, DONE]
    pieces = [broken, *[piece for each in sound[:-1] for piece in (each, broken)], sound[-1]]
    body, stream = run([b"".join(pieces)] if together else pieces)
    assert body == b"".join(sound)
    assert stream.malformed_events == len(sound)


def test_comments_are_passed_on_only_after_content() -> None:
    ping = b": ping\n\n"
    body, _ = run([ping, ROLE, ping, chunk({"content": "x"}), ping, FINISH, DONE])
    assert body == ROLE + chunk({"content": "x"}) + ping + FINISH + DONE


def test_a_missing_done_is_added_after_a_finish_reason() -> None:
    body, _ = run([chunk({"content": "x"}), FINISH, USAGE])
    assert body == chunk({"content": "x"}) + FINISH + DONE


def test_a_break_after_a_finish_reason_takes_nothing_of_the_answer_with_it() -> None:
    body, _ = run([chunk({"content": "x"}), FINISH, b"data: {", UpstreamFailure(FailureKind.BROKEN, "reset")])
    assert body == chunk({"content": "x"}) + FINISH + DONE


async def test_a_provider_that_says_no_more_lacks_the_end_only_after_a_finish_reason() -> None:
    stream = ChatStream(MemoryResponse([chunk({"content": "x"}), FINISH, DONE]), asked_usage=False)
    for words in (None, DONE):
        await stream.receive()
        assert stream.last_words() == words


def test_a_last_event_without_its_empty_line_is_whole() -> None:
    assert run([chunk({"content": "x"}), FINISH, b"data: [DONE]\n"])[0].endswith(FINISH + DONE)
    assert run([chunk({"content": "x"}), FINISH[:-2]])[0] == chunk({"content": "x"}) + FINISH + DONE
    assert run([chunk({"content": "x"}), FINISH, b'data: {"x'])[0] == chunk({"content": "x"}) + FINISH + DONE


def test_done_without_a_space_or_with_other_line_ends_is_done() -> None:
    for done in (b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE]\r\r"):
        body, _ = run([chunk({"content": "x"}), done])
        assert body == chunk({"content": "x"}) + done


def test_what_follows_done_is_dropped() -> None:
    assert run([chunk({"content": "x"}), DONE + chunk({"content": "y"}), chunk({"content": "z"})])[0].endswith(DONE)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [ROLE],
        [chunk({"content": "x"})],
        [chunk({"content": "x"}), FINISH[:-10]],
        [DONE],
        [ROLE, DONE],
        [chunk({"content": "x"}), UpstreamFailure(FailureKind.BROKEN, "reset")],
    ],
)
async def test_an_end_that_is_not_genuine_is_broken_and_stays_so(pieces: list[bytes | UpstreamFailure]) -> None:
    stream = ChatStream(MemoryResponse(list[bytes | UpstreamFailure | None](pieces)), asked_usage=False)
    for _ in range(2):
        with pytest.raises(UpstreamFailure) as caught:
            await collect(stream)
        assert caught.value.kind is FailureKind.BROKEN


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}},
            FailureKind.RATE_LIMITED,
        ),
        ({"error": {"message": "x", "code": 502}}, FailureKind.SERVER_ERROR),
        ({"error": {"message": "x", "type": "server_error"}, "choices": []}, FailureKind.SERVER_ERROR),
        ({"error": "it broke"}, FailureKind.SERVER_ERROR),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, FailureKind.CALLER),
        ({"error": {"message": "This model's maximum context length is 8192 tokens."}}, FailureKind.CALLER),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, FailureKind.CALLER),
        ({"error": {"message": "x", "code": "invalid_api_key"}}, FailureKind.CREDENTIALS),
        ({"object": "error", "message": "x", "type": "BadRequestError", "code": 400}, FailureKind.CALLER),
    ],
)
async def test_an_error_before_any_content_is_of_its_own_kind(error: Any, kind: FailureKind) -> None:
    stream = ChatStream(MemoryResponse([ROLE, event(error), DONE]), asked_usage=False)
    with pytest.raises(UpstreamFailure) as caught:
        await collect(stream)
    assert caught.value.kind is kind
    assert caught.value.body == event(error)[6:-2]


async def test_content_that_came_with_an_error_goes_out_before_it() -> None:
    error = event({"error": {"message": "slow down", "code": 429}})
    first, second, third = (chunk({"content": text}) for text in "abc")
    stream = ChatStream(MemoryResponse([ROLE, first, second + third + error]), asked_usage=False)
    assert [await stream.receive() for _ in range(3)] == [ROLE, first, second + third]
    for _ in range(2):
        with pytest.raises(UpstreamFailure, match="slow down") as caught:
            await stream.receive()
        assert caught.value.kind is FailureKind.BROKEN


async def test_an_error_after_content_is_broken_and_not_passed_on() -> None:
    error = event({"error": {"message": "slow down", "code": 429}})
    stream = ChatStream(MemoryResponse([chunk({"content": "x"}), error, DONE]), asked_usage=False)
    assert await stream.receive() == chunk({"content": "x"})
    with pytest.raises(UpstreamFailure, match="slow down") as caught:
        await stream.receive()
    assert caught.value.kind is FailureKind.BROKEN


async def test_content_that_came_with_an_error_was_not_returned_yet() -> None:
    both = chunk({"content": "x"}) + event({"error": {"message": "x", "code": 503}})
    stream = ChatStream(MemoryResponse([both]), asked_usage=False)
    with pytest.raises(UpstreamFailure) as caught:
        await stream.receive()
    assert caught.value.kind is FailureKind.SERVER_ERROR
    assert not stream.has_content


async def test_an_error_named_by_its_event_is_an_error() -> None:
    stream = ChatStream(MemoryResponse([b'event: error\ndata: {"message": "no", "code": 500}\n\n']), asked_usage=False)
    with pytest.raises(UpstreamFailure, match="no"):
        await stream.receive()


async def test_our_own_secret_is_masked_in_an_error() -> None:
    error = event({"error": {"message": "bad key sk-canary-1", "code": 500}})
    stream = ChatStream(MemoryResponse([error]), asked_usage=False, secrets=("sk-canary-1",))
    with pytest.raises(UpstreamFailure) as caught:
        await stream.receive()
    assert b"canary" not in (caught.value.body or b"")
    assert "canary" not in str(caught.value)


async def test_null_errors_are_none() -> None:
    piece = chunk({"content": "x"}, error=None)
    stream = ChatStream(MemoryResponse([piece, piece, FINISH, DONE]), asked_usage=False)
    assert await collect(stream) == [piece, piece, FINISH, DONE]


async def test_a_provider_that_ends_late_does_not_hold_up_the_end(autojump_clock: trio.testing.MockClock) -> None:
    stream = ChatStream(MemoryResponse([chunk({"content": "x"}), DONE, None]), asked_usage=False)
    start = trio.current_time()
    await collect(stream)
    assert trio.current_time() - start <= 0.2


async def test_a_provider_that_breaks_after_its_end_has_ended() -> None:
    broken = UpstreamFailure(FailureKind.BROKEN, "reset")
    stream = ChatStream(MemoryResponse([chunk({"content": "x"}), DONE, broken]), asked_usage=False)
    assert (await collect(stream))[-1] == DONE


async def test_tokens_are_counted_for_want_of_usage() -> None:
    word = chunk({"content": "x"})
    stream = ChatStream(MemoryResponse([ROLE, word, word + word, word]), asked_usage=False)
    for _ in range(4):
        await stream.receive()
    assert stream.estimated_tokens == 4


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_writes_changes_nothing(text: str) -> None:
    tool = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
    logprobs: dict[str, Any] = {"content": [{"token": text, "logprob": -1.0, "bytes": None, "top_logprobs": []}]}
    said = event({"choices": [{"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}]})
    pieces = [ROLE, chunk({"content": "x"}), said, chunk(tool), chunk({"content": text}), FINISH, USAGE, DONE]
    body, stream = run(pieces)
    assert body == b"".join(piece for piece in pieces if piece != USAGE)
    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)
    with pytest.raises(UpstreamFailure):  # none of it is an end
        run(pieces[:5])


texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))


def says(text: str) -> dict[str, Any]:
    return {"content": text}


def calls(text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


deltas = st.one_of(st.builds(says, texts), st.builds(calls, texts))


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], bool]:
    """A well-formed stream and whether it has a usage event."""
    events = [ROLE, chunk({"content": "x"})]
    for delta in draw(st.lists(deltas, max_size=8)):
        events.append(chunk(delta))
        if draw(st.integers(0, 5)) == 0:
            events.append(b": keep-alive\n\n")
    events.append(FINISH)
    has_usage = draw(st.booleans())
    if has_usage:
        events.append(USAGE)
    return [*events, DONE], has_usage


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[a:b] for a, b in itertools.pairwise(places)]


@settings(max_examples=examples(30), deadline=None)
@given(
    streams(), st.lists(st.integers(0, 10_000), max_size=12), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"])
)
def test_any_split_of_the_bytes_gives_the_same_output(
    made: tuple[list[bytes], bool], cuts: list[int], asked: bool, line_end: bytes
) -> None:
    events = [item.replace(b"\n", line_end) for item in made[0]]
    usage_event = USAGE.replace(b"\n", line_end)
    body, stream = run(split(b"".join(events), cuts), asked=asked)
    assert body == b"".join(item for item in events if asked or item != usage_event)
    assert (stream.usage is not None) is made[1]
    assert stream.has_content


async def test_a_stream_that_cannot_be_polled_is_over_only_at_its_end() -> None:
    stream = ChatStream(MemoryResponse([chunk({"content": "a"}), chunk({}, "stop") + DONE]), asked_usage=False)
    assert (stream.descriptor(), stream.over) == (None, False)
    assert await stream.receive()
    assert not stream.over
    assert await stream.receive()
    assert stream.over
