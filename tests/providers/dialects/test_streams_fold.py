"""A stream folded is the whole answer; cut anywhere its bytes give the same events; the official SDKs read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from infermux.providers.dialects.dialect import Dialect
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import (
    Completion,
    ErrorKind,
    ErrorReport,
    Part,
    RedactedThinking,
    Refusal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from infermux.providers.dialects.neutral_events import (
    ArgumentsDelta,
    CitationDelta,
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
from tests._properties import examples
from tests.providers.dialects._cases import CHAT, MESSAGES, asked, block_stream, chat_stream, read_stream
from tests.providers.dialects._strategies import ANY_TEXT, completions

BOTH = pytest.mark.parametrize("dialect", [CHAT, MESSAGES], ids=lambda dialect: dialect.name)
SEEDS = st.randoms(use_true_random=False)


def events_of(completion: Completion, cuts: Any) -> list[StreamEvent]:
    """The stream of `completion`, its texts cut by the random numbers `cuts`."""
    events: list[StreamEvent] = [Started(id=completion.id, model=completion.model, created=completion.created)]
    for index, part in enumerate(completion.parts):
        events += _part_events(index, part, cuts)
        events.append(PartEnded(index=index))
    events.append(Ended(stop=completion.stop, stop_sequence=completion.stop_sequence, usage=completion.usage))
    return events


def _part_events(index: int, part: Part, cuts: Any) -> list[StreamEvent]:
    match part:
        case Text():
            citations = [CitationDelta(index, citation) for citation in part.citations]
            deltas = [TextDelta(index, piece) for piece in pieces(part.text, cuts)]
            return [PartStarted(index=index, part=Text(text="")), *deltas, *citations]
        case Refusal():
            deltas = [TextDelta(index, piece) for piece in pieces(part.text, cuts)]
            return [PartStarted(index=index, part=Refusal(text="")), *deltas]
        case Thinking():
            thinking = [ThinkingDelta(index, piece) for piece in pieces(part.text, cuts)]
            signature = [SignatureDelta(index, part.signature)] if part.signature else []
            return [PartStarted(index=index, part=Thinking(text="")), *thinking, *signature]
        case ToolCall():
            arguments = [ArgumentsDelta(index, piece) for piece in pieces(part.arguments, cuts)]
            return [PartStarted(index=index, part=attrs.evolve(part, arguments="")), *arguments]
        case _:
            assert isinstance(part, RedactedThinking)
            return [PartStarted(index=index, part=part)]


def pieces(text: str, cuts: Any) -> Sequence[str]:
    at = cuts.randrange(len(text) + 1)
    return [piece for piece in (text[:at], text[at:]) if piece]


def written(dialect: Dialect, completion: Completion, cuts: Any) -> bytes:
    return dialect.stream_writer(asked(include_usage=True)).write(events_of(completion, cuts))


def merged(completion: Completion) -> Completion:
    """Adjacent texts as one: a message of chat has one text, and events do not say where parts ended."""
    parts: list[Part] = []
    for part in completion.parts:
        last = parts[-1] if parts else None
        if type(part) is type(last) and isinstance(part, Text | Refusal | Thinking) and isinstance(last, type(part)):
            parts[-1] = attrs.evolve(last, text=last.text + part.text)
        else:
            parts.append(part)
    return attrs.evolve(completion, parts=tuple(parts))


@BOTH
@given(data=st.data())
@settings(max_examples=examples(40), deadline=None)
def test_folding_a_stream_gives_the_whole_answer(dialect: Dialect, data: st.DataObject) -> None:
    completion = data.draw(completions(signed=dialect is MESSAGES))
    stream = written(dialect, completion, data.draw(SEEDS))
    whole = dialect.read_answer(dialect.write_answer(completion, asked()))
    assert fold(read_stream(dialect, stream)) == whole == completion


@given(completions(signed=False), SEEDS)
@settings(max_examples=examples(30), deadline=None)
def test_folding_a_translated_stream_gives_the_translated_answer(completion: Completion, cuts: Any) -> None:
    """From either dialect to the other, the pieces and the whole say the same."""
    for source, other in ((CHAT, MESSAGES), (MESSAGES, CHAT)):
        events = read_stream(source, written(source, completion, cuts))
        streamed = other.stream_writer(asked(include_usage=True)).write(events)
        answer = source.read_answer(source.write_answer(completion, asked()))
        whole = other.read_answer(other.write_answer(answer, asked()))
        assert merged(fold(read_stream(other, streamed))) == merged(whole)


@BOTH
@given(data=st.data(), text=ANY_TEXT)
@settings(max_examples=examples(40), deadline=None)
def test_any_split_of_the_bytes_gives_the_same_events(dialect: Dialect, data: st.DataObject, text: str) -> None:
    completion = data.draw(completions(signed=dialect is MESSAGES))
    completion = attrs.evolve(completion, parts=(*completion.parts[:1], ToolCall(id="c", name="f", arguments=text)))
    stream = written(dialect, completion, data.draw(SEEDS))
    if data.draw(st.booleans()):
        stream = stream.replace(b"\n", b"\r\n")
    cuts = data.draw(st.lists(st.integers(1, len(stream)), max_size=8))
    assert read_stream(dialect, stream, cuts) == read_stream(dialect, stream)


def test_every_byte_on_its_own_gives_the_same_events() -> None:
    """Inside of characters and of line ends too."""
    parts: tuple[Thinking | Text | ToolCall, ...] = (
        Thinking(text="hé"),
        Text(text="😀\n"),
        ToolCall(id="c", name="f", arguments='{"é":"😀"}'),
    )
    events: list[StreamEvent] = [
        Started(id="a", model="b"),
        *(
            event
            for index, part in enumerate(parts)
            for event in (PartStarted(index=index, part=part), PartEnded(index=index))
        ),
    ]

    events.append(Ended(stop=StopReason.TOOL_USE))
    for dialect in (CHAT, MESSAGES):
        stream = dialect.stream_writer(asked()).write(events)
        for data in (stream, stream.replace(b"\n", b"\r\n"), stream.replace(b"\n", b"\r")):
            assert read_stream(dialect, data, range(len(data))) == read_stream(dialect, stream)


# The SDKs, as the reference for what is written.


@given(completions(signed=False), SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_openai_sdk_takes_what_is_written(completion: Completion, cuts: Any) -> None:
    ChatCompletion.model_validate_json(CHAT.write_answer(completion, asked()))
    for chunk in chat_stream(written(CHAT, completion, cuts)):
        ChatCompletionChunk.model_validate(chunk)


EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@given(completions(signed=True), SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_anthropic_sdk_takes_what_is_written(completion: Completion, cuts: Any) -> None:
    Message.model_validate_json(MESSAGES.write_answer(completion, asked()))
    for event in block_stream(written(MESSAGES, completion, cuts)):
        EVENTS.validate_python(event)


@BOTH
def test_a_stream_error_has_no_clean_end(dialect: Dialect) -> None:

    error = ErrorReport(kind=ErrorKind.OVERLOADED, status=529, message="Overloaded", type="overloaded_error")
    writer = dialect.stream_writer(asked())
    out = writer.write(
        [Started(id="a", model="b"), PartStarted(index=0, part=Text(text="x")), StreamError(error=error)]
    )
    assert b"Overloaded" in out
    assert not re.search(rb"\[DONE\]|message_stop|finish_reason\":\"", out)
    found = read_stream(dialect, out)[-1]
    assert isinstance(found, StreamError)
    assert found.error.message == "Overloaded"
    assert found.error.type == "overloaded_error"
