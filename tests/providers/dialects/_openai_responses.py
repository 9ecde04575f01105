"""Short ways to say what the tests of the Responses dialect say often, and answers for its properties."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

from infermux.providers.dialects import openai_responses
from infermux.providers.dialects.dialect import Asked, Dialect
from infermux.providers.dialects.neutral import (
    Citation,
    Completion,
    Conversation,
    Part,
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
    CitationDelta,
    Ended,
    PartEnded,
    PartStarted,
    SignatureDelta,
    Started,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from infermux.providers.interface import Usage

Json = dict[str, Any]

RESPONSES: Dialect = openai_responses.DIALECT
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION: Json = {"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA, "strict": True}
GRAMMAR: Json = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
USAGE = Usage(prompt_tokens=9, completion_tokens=5, cached_tokens=4, reasoning_tokens=3, cache_write_tokens=2)
_IDS = re.compile(r'"(msg|rs|fc|ctc)_[0-9a-f]{32}([0-9a-f]{4})"')


def request(input: object = "hi", **fields: Any) -> Conversation:
    """A request, read."""
    return RESPONSES.read_request(json.dumps({"model": "m", "input": input, **fields}).encode())


def asked(**fields: Any) -> Asked:
    turns = (Turn(role=Role.USER, parts=(Text(text="hi"),)),)
    return Asked(conversation=Conversation(model="m", turns=turns, **fields), now=7)


def completion(*parts: Part, stop: StopReason = StopReason.END, usage: Usage | None = USAGE) -> Completion:
    return Completion(id="resp_1", model="m", parts=parts, stop=stop, usage=usage, created=7)


def answer(found: Completion, given: Asked | None = None) -> Json:
    """The answer a caller gets."""
    body: Json = json.loads(RESPONSES.write_answer(found, given or asked()))
    return body


def read(response: Json) -> Completion:
    return RESPONSES.read_answer(json.dumps(response).encode())


def same_ids(data: bytes) -> bytes:
    """`data` with item ids that depend on nothing but where they stand."""
    return _IDS.sub(r'"\1_\2"', data.decode()).encode()


def written(events: Iterable[StreamEvent], given: Asked | None = None) -> bytes:
    return RESPONSES.stream_writer(given or asked()).write(events)


def events_of(data: bytes) -> list[Json]:
    """The events of a stream, checked to be named as their type says, and to be numbered."""
    found: list[Json] = []
    for event in data.split(b"\n\n")[:-1]:
        name, _, body = event.partition(b"\ndata: ")
        found.append(json.loads(body))
        assert name == b"event: " + found[-1]["type"].encode(), event
    assert [event["sequence_number"] for event in found] == list(range(len(found))), "a number is wrong"
    return found


def sse(*events: Json) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events
    )


def read_stream(data: bytes, cuts: Iterable[int] = ()) -> list[StreamEvent]:
    """The neutral events of `data`, fed in pieces that end at `cuts`."""
    decoder, reader = RESPONSES.decoder(), RESPONSES.stream_reader()
    found: list[StreamEvent] = []
    start = 0
    for end in sorted({cut for cut in cuts if 0 < cut < len(data)} | {len(data)}):
        for event in decoder.feed(data[start:end]):
            found += reader.feed(event)
        start = end
    for event in decoder.flush():
        found += reader.feed(event)
    return [*found, *reader.end()]


def unfold(whole: Completion, size: int = 3) -> Iterator[StreamEvent]:
    """The answer in pieces of at most `size` characters."""
    yield Started(id=whole.id, model=whole.model, created=whole.created)
    for index, part in enumerate(whole.parts):
        yield from _part(index, part, size)
    yield Ended(stop=whole.stop, stop_sequence=whole.stop_sequence, usage=whole.usage)


def _part(index: int, part: Part, size: int) -> Iterator[StreamEvent]:
    match part:
        case Text():
            yield PartStarted(index=index, part=Text(text=""))
            yield from (TextDelta(index, piece) for piece in _pieces(part.text, size))
            yield from (CitationDelta(index, citation) for citation in part.citations)
        case Refusal():
            yield PartStarted(index=index, part=Refusal(text=""))
            yield from (TextDelta(index, piece) for piece in _pieces(part.text, size))
        case Thinking():
            yield PartStarted(index=index, part=Thinking(text=""))
            yield from (ThinkingDelta(index, piece) for piece in _pieces(part.text, size))
            if part.signature is not None:
                yield SignatureDelta(index, part.signature)
        case RedactedThinking():
            yield PartStarted(index=index, part=part)
        case ToolCall():
            yield PartStarted(index=index, part=ToolCall(id=part.id, name=part.name, freeform=part.freeform))
            yield from (ArgumentsDelta(index, piece) for piece in _pieces(part.arguments, size))
        case _:
            raise AssertionError(f"no part of an answer: {part}")
    yield PartEnded(index=index)


def _pieces(text: str, size: int) -> Sequence[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
NAMES = st.text("abcXYZ019_-", min_size=1, max_size=8)
CITATIONS = st.builds(Citation, url=NAMES, title=st.none() | NAMES)
USAGES = st.builds(
    Usage,
    prompt_tokens=st.integers(0, 99),
    completion_tokens=st.integers(0, 99),
    cached_tokens=st.integers(0, 99),
    reasoning_tokens=st.integers(0, 99),
    cache_write_tokens=st.integers(0, 99),
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """An answer with anything in it that an answer can have, in any order."""
    part = st.one_of(
        st.builds(Text, text=WORDS, citations=st.lists(CITATIONS, max_size=2).map(tuple)),
        st.builds(Thinking, text=WORDS, signature=st.none() | WORDS),
        st.builds(Thinking, text=st.just(""), signature=WORDS),
        st.builds(RedactedThinking, data=NAMES),
        st.builds(ToolCall, id=NAMES, name=NAMES, arguments=WORDS, freeform=st.booleans()),
        st.builds(Refusal, text=WORDS),
    )
    return Completion(
        id=draw(NAMES),
        model=draw(NAMES),
        parts=tuple(draw(st.lists(part, max_size=5))),
        stop=draw(st.sampled_from(StopReason)),
        usage=draw(st.none() | USAGES),
        created=draw(st.integers(0, 2**31)),
    )


def as_read(found: Completion) -> Completion:
    """`found` with the stop reason that the dialect says it with, of which it has fewer; a citation of the whole text
    is of its first to its last character."""
    stop = found.stop
    if stop is StopReason.CONTEXT_WINDOW:
        stop = StopReason.LENGTH
    elif stop not in (StopReason.LENGTH, StopReason.REFUSAL):
        called = any(isinstance(part, ToolCall) for part in found.parts)
        stop = StopReason.TOOL_USE if called else StopReason.END
        if any(isinstance(part, Refusal) for part in found.parts):
            stop = StopReason.REFUSAL
    return Completion(
        id=found.id,
        model=found.model,
        parts=tuple(_spanned(part) for part in found.parts),
        stop=stop,
        usage=found.usage,
        created=found.created,
    )


def _spanned(part: Part) -> Part:
    if not isinstance(part, Text):
        return part
    whole = (0, len(part.text))
    return attrs.evolve(part, citations=tuple(attrs.evolve(found, span=whole) for found in part.citations))
