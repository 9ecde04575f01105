"""Answers, streams and errors of Converse: folding a stream is the whole answer, whatever the bytes are cut into."""

from __future__ import annotations

import itertools
import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.dialects.bedrock_converse import DIALECT, BedrockConverse
from infermux.providers.dialects.bedrock_converse_stream import ConverseDecoder, ConverseReader
from infermux.providers.dialects.dialect import Asked
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import (
    Citation,
    Completion,
    Conversation,
    ErrorKind,
    ErrorReport,
    RedactedThinking,
    Refusal,
    Role,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Turn,
)
from infermux.providers.dialects.neutral_events import (
    ArgumentsDelta,
    Ended,
    PartEnded,
    PartStarted,
    SignatureDelta,
    Started,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from infermux.providers.interface import Usage
from infermux.providers.sse import Event
from tests._properties import examples
from tests.mocks.bedrock_rules import check_shape
from tests.mocks.bedrock_upstream import Reply, blob, exception, frame, frames, unmodeled, whole

Json = dict[str, Any]

ASKED = Asked(conversation=Conversation(model="m", turns=(Turn(role=Role.USER, parts=(Text(text="hi"),)),)))
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
NAMES = st.text("abcXYZ019_-", min_size=1, max_size=8)
STOPS = ["end_turn", "tool_use", "max_tokens", "stop_sequence", "guardrail_intervened", "content_filtered",
         "model_context_window_exceeded"]  # fmt: skip


@st.composite
def blocks(draw: st.DrawFn) -> Json:
    """A content block of an answer."""
    kind = draw(st.sampled_from(["text", "tool", "thinking", "redacted", "cited"]))
    if kind == "tool":
        values = draw(st.dictionaries(NAMES, WORDS | st.integers(-9, 9), max_size=2))
        return {"toolUse": {"toolUseId": f"tooluse_{draw(NAMES)}", "name": draw(NAMES), "input": values}}
    text = draw(WORDS)
    if kind == "thinking":
        signature = {"signature": draw(NAMES)} if draw(st.booleans()) else {}
        return {"reasoningContent": {"reasoningText": {"text": text, **signature}}}
    if kind == "redacted":
        return {"reasoningContent": {"redactedContent": blob(draw(st.binary(min_size=1, max_size=9)))}}
    if kind == "cited":
        place = {"documentPage": {"documentIndex": draw(st.integers(0, 3)), "start": 1, "end": 2}}
        citation = {"title": "t", "sourceContent": [{"text": draw(WORDS)}], "location": place}
        return {"citationsContent": {"content": [{"text": text}], "citations": [citation]}}
    return {"text": text}


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    stop = draw(st.sampled_from(STOPS))
    more = {"stop_sequence": "END"} if stop == "stop_sequence" else None
    cached, wrote = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    usage = {
        "inputTokens": 7,
        "outputTokens": 5,
        "totalTokens": 12 + cached + wrote,
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": wrote,
    }
    content = draw(st.lists(blocks(), min_size=1, max_size=4))
    return Reply(content=tuple(content), stop=stop, more=more, usage=usage)


def read(data: bytes, cuts: list[int] | None = None) -> list[StreamEvent]:
    decoder, reader = ConverseDecoder(), ConverseReader("m")
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    found: list[StreamEvent] = []
    for start, end in itertools.pairwise(edges):
        for event in decoder.feed(data[start:end]):
            found += reader.feed(event)
    for event in decoder.flush():
        found += reader.feed(event)
    return [*found, *reader.end()]


def told(name: str, **payload: Any) -> Event:
    return Event(name, json.dumps(payload).encode())


def plain(completion: Completion) -> Completion:
    """Without what is made up: the id; and with arguments as one spelling has them."""
    parts = tuple(
        attrs.evolve(part, arguments=json.dumps(json.loads(part.arguments))) if isinstance(part, ToolCall) else part
        for part in completion.parts
    )
    return attrs.evolve(completion, id="", parts=parts)


@given(replies())
@settings(max_examples=examples(40), deadline=None)
def test_folding_a_stream_is_the_whole_answer(reply: Reply) -> None:
    answer = BedrockConverse("m").read_answer(whole(reply))
    assert plain(fold(read(b"".join(frames(reply))))) == plain(answer)


@given(replies(), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=examples(30), deadline=None)
def test_any_split_of_the_bytes_gives_the_same_events(reply: Reply, cuts: list[int]) -> None:
    data = b"".join(frames(reply))
    split, at_once = read(data, cuts), read(data)
    assert split[1:] == at_once[1:]
    assert isinstance(split[0], Started)


@given(replies())
@settings(max_examples=examples(30), deadline=None)
def test_an_answer_read_and_written_is_the_same(reply: Reply) -> None:
    answer = DIALECT.read_answer(whole(reply))
    written = DIALECT.write_answer(answer, ASKED)
    check_shape(json.loads(written), "ConverseResponse", "response")
    again = DIALECT.read_answer(written)
    assert attrs.evolve(again, id="") == attrs.evolve(answer, id="")


@given(replies())
@settings(max_examples=examples(30), deadline=None)
def test_a_stream_read_and_written_is_the_same(reply: Reply) -> None:
    events = read(b"".join(frames(reply)))
    data = DIALECT.stream_writer(ASKED).write(events)
    for event in ConverseDecoder().feed(data):
        shape = {
            "messageStart": "MessageStartEvent",
            "contentBlockStart": "ContentBlockStartEvent",
            "contentBlockDelta": "ContentBlockDeltaEvent",
            "contentBlockStop": "ContentBlockStopEvent",
            "messageStop": "MessageStopEvent",
            "metadata": "ConverseStreamMetadataEvent",
        }[event.event]
        check_shape(json.loads(event.data), shape, event.event)
    assert plain(fold(read(data))) == plain(fold(events))


# Streams.
def test_blocks_become_parts_in_order_with_their_own_indexes() -> None:
    reply = Reply(
        content=(
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
            {"text": "ab"},
            {"toolUse": {"toolUseId": "t1", "name": "get", "input": {}}},
        ),
        stop="tool_use",
    )
    started, *events = read(b"".join(frames(reply)))
    assert isinstance(started, Started)
    assert started.model == "m"
    assert events == [
        PartStarted(index=0, part=Thinking(text="")),
        ThinkingDelta(0, "h"),
        ThinkingDelta(0, "m"),
        SignatureDelta(0, "sig"),
        PartEnded(index=0),
        PartStarted(index=1, part=Text(text="")),
        TextDelta(1, "a"),
        TextDelta(1, "b"),
        PartEnded(index=1),
        PartStarted(index=2, part=ToolCall(id="t1", name="get")),
        ArgumentsDelta(2, "{}"),
        PartEnded(index=2),
        Ended(stop=StopReason.TOOL_USE, usage=Usage(prompt_tokens=7, completion_tokens=5)),
    ]


def test_tools_that_bedrock_runs_itself_leave_no_part() -> None:
    start = {"toolUse": {"toolUseId": "t", "name": "nova_grounding", "type": "server_tool_use"}}
    data = (
        frame("contentBlockStart", contentBlockIndex=0, start=start)
        + frame("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {"input": "{}"}})
        + frame("contentBlockDelta", contentBlockIndex=0, delta={"text": "not of this kind"})
        + frame("contentBlockStop", contentBlockIndex=0)
        + frame("contentBlockStop", contentBlockIndex=9)
        + frame("contentBlockDelta", contentBlockIndex=1, delta={"text": "a"})
        + frame("aNewKindOfEvent", x=1)
        + frame("messageStop", stopReason="a_new_reason")
    )
    started, *events = read(data)
    assert isinstance(started, Started)
    assert events == [
        PartStarted(index=0, part=Text(text="")),
        TextDelta(0, "a"),
        PartEnded(index=0),
        Ended(stop=StopReason.END),
    ]


def test_without_an_end_there_is_none() -> None:
    data = b"".join(list(frames(Reply()))[:-2])
    assert not any(isinstance(event, Ended) for event in read(data))
    assert read(b"") == []
    assert ConverseReader().end() == ()


def test_nothing_follows_the_end() -> None:
    reader = ConverseReader()
    for event in ConverseDecoder().feed(b"".join(frames(Reply()))):
        reader.feed(event)
    assert reader.feed(told("contentBlockDelta", contentBlockIndex=0, delta={"text": "late"})) == ()
    assert reader.end() == ()


@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (exception("throttlingException", "slow down"), ErrorKind.RATE_LIMIT, 429, "ThrottlingException"),
        (exception("validationException", "bad"), ErrorKind.INVALID_REQUEST, 400, "ValidationException"),
        (
            exception("modelStreamErrorException", "Input is too long for requested model."),
            ErrorKind.INVALID_REQUEST,
            400,
            "context_length_exceeded",
        ),
        (exception("somethingNewException", "oops"), ErrorKind.SERVER, 500, "SomethingNewException"),
        (unmodeled("InternalFailure", "oops"), ErrorKind.SERVER, 500, "InternalFailure"),
    ],
)
def test_exceptions_are_errors_of_their_kind(data: bytes, kind: ErrorKind, status: int, code: str) -> None:
    (event,) = read(data)
    assert isinstance(event, StreamError)
    assert (event.error.kind, event.error.status, event.error.code) == (kind, status, code)


def test_output_that_bedrock_could_not_read_is_no_answer() -> None:
    for reason in ("malformed_model_output", "malformed_tool_use"):
        reply = Reply(stop=reason)
        assert isinstance(read(b"".join(frames(reply)))[-1], StreamError)
        with pytest.raises(UpstreamFailure, match=reason):
            DIALECT.read_answer(whole(reply))


@pytest.mark.parametrize(
    "event",
    [
        Event("contentBlockDelta", b"no json"),
        told("contentBlockDelta", delta={}),
        told("contentBlockStart", start={"toolUse": {"name": "a"}}, contentBlockIndex=0),
        told("contentBlockDelta", contentBlockIndex=0, delta={"citation": {"title": 3}}),
        told("messageStop"),
        told("contentBlockDelta", contentBlockIndex="0", delta={"text": "a"}),
    ],
)
def test_an_event_that_is_not_what_it_says_is_malformed(event: Event) -> None:
    with pytest.raises(UpstreamFailure, match="that is none") as caught:
        ConverseReader().feed(event)
    assert caught.value.kind is FailureKind.MALFORMED


def test_parts_that_come_whole_are_written_too() -> None:
    citation = Citation(cited_text="q", url="https://example.org")
    parts: tuple[Text | Thinking | RedactedThinking | ToolCall | Refusal, ...] = (
        Text(text="a", citations=(citation,)),
        Thinking(text="hm", signature="s"),
        RedactedThinking(data="QUJD"),
        ToolCall(id="t", name="n", arguments='{"a":1}'),
        Refusal(text="no"),
    )
    events: list[StreamEvent] = [Started(id="x", model="m")]
    for index, part in enumerate(parts):
        events += [PartStarted(index=index, part=part), PartEnded(index=index)]
    events.append(Ended(stop=StopReason.STOP_SEQUENCE, stop_sequence="END"))
    found = fold(read(DIALECT.stream_writer(ASKED).write(events)))
    assert found.parts == (*parts[:4], Text(text="no"))
    assert (found.stop, found.stop_sequence, found.usage) == (StopReason.STOP_SEQUENCE, "END", None)


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_an_error_in_a_stream_is_an_exception_or_an_error_of_its_kind(kind: ErrorKind) -> None:
    report = ErrorReport(kind=kind, status=418, message="oops")
    events = read(DIALECT.stream_writer(ASKED).write([StreamError(error=report)]))
    assert isinstance(events[-1], StreamError)
    assert events[-1].error.message == "oops"
    same = {ErrorKind.BILLING: ErrorKind.PERMISSION, ErrorKind.TOO_LARGE: ErrorKind.INVALID_REQUEST}
    assert events[-1].error.kind is same.get(kind, kind)


# Whole answers.
def test_usage_counts_the_whole_prompt() -> None:
    usage = {
        "inputTokens": 3,
        "outputTokens": 5,
        "totalTokens": 38,
        "cacheReadInputTokens": 20,
        "cacheWriteInputTokens": 10,
    }
    found = DIALECT.read_answer(whole(Reply(usage=usage))).usage
    assert found == Usage(prompt_tokens=33, completion_tokens=5, cached_tokens=20, cache_write_tokens=10)


def test_which_stop_sequence_was_hit_is_told() -> None:
    found = DIALECT.read_answer(whole(Reply(stop="stop_sequence", more={"stop_sequence": "END"})))
    assert (found.stop, found.stop_sequence) == (StopReason.STOP_SEQUENCE, "END")
    found = DIALECT.read_answer(whole(Reply(stop="end_turn", more={"stop_sequence": None})))
    assert (found.stop, found.stop_sequence) == (StopReason.END, None)


def test_a_guardrail_is_a_refusal() -> None:
    reply = Reply(content=({"text": "Sorry."},), stop="guardrail_intervened")
    found = DIALECT.read_answer(whole(reply))
    assert (found.stop, found.parts) == (StopReason.REFUSAL, (Text(text="Sorry."),))


@pytest.mark.parametrize(
    ("location", "citation"),
    [
        ({"web": {"url": "https://a"}}, Citation(title="t", url="https://a")),
        (
            {"documentChar": {"documentIndex": 1, "start": 2, "end": 3}},
            Citation(title="t", document_index=1, unit="char", start=2, end=3),
        ),
        ({"documentChunk": {"documentIndex": 0}}, Citation(title="t", document_index=0, unit="block")),
        ({"searchResultLocation": {"searchResultIndex": 0}}, Citation(title="t")),
    ],
)
def test_citations_say_where(location: Json, citation: Citation) -> None:
    block = {"citationsContent": {"content": [{"text": "a"}], "citations": [{"title": "t", "location": location}]}}
    found = DIALECT.read_answer(whole(Reply(content=(block,))))
    assert found.parts == (Text(text="a", citations=(citation,)),)


# Errors.
LONG = "x: prompt is too long: 9 tokens > 8 maximum"


@pytest.mark.parametrize(
    ("status", "said", "kind", "message", "code"),
    [
        (400, {"message": "m"}, ErrorKind.INVALID_REQUEST, "m", None),
        (
            400,
            {"__type": "com.x#ThrottlingException:http://y", "Message": "m"},
            ErrorKind.RATE_LIMIT,
            "m",
            "ThrottlingException",
        ),
        (
            403,
            {"__type": "ExpiredTokenException"},
            ErrorKind.AUTHENTICATION,
            "the provider answered 403 (ExpiredTokenException)",
            "ExpiredTokenException",
        ),
        (400, {"message": LONG}, ErrorKind.INVALID_REQUEST, LONG, "context_length_exceeded"),
        (503, b"<html>", ErrorKind.OVERLOADED, "<html>", None),
        (500, b"\xff", ErrorKind.SERVER, "\ufffd", None),
    ],
)
def test_errors_are_read_by_name_then_by_status(
    status: int, said: Json | bytes, kind: ErrorKind, message: str, code: str | None
) -> None:
    found = DIALECT.read_error(status, said if isinstance(said, bytes) else json.dumps(said).encode())
    assert (found.kind, found.message, found.code) == (kind, message, code)


def test_an_error_is_written_with_its_name() -> None:
    report = ErrorReport(kind=ErrorKind.RATE_LIMIT, status=429, message="slow down", type="rate_limit_error")
    assert json.loads(DIALECT.write_error(report)) == {"__type": "ThrottlingException", "message": "slow down"}
    assert DIALECT.read_error(429, DIALECT.write_error(report)).kind is ErrorKind.RATE_LIMIT
