"""Tools that take text, streamed: the text comes as soon as it is whole, and the calls keep their places."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.freeform import UnwrapEvents
from infermux.providers.dialects.neutral import ToolCall
from infermux.providers.dialects.neutral_events import (
    ArgumentsDelta,
    PartEnded,
    PartStarted,
    StreamEvent,
)
from tests._properties import examples
from tests.providers.dialects._cases import CHAT, Json, asked, chat_stream, chunk, read_stream, sse, tool_chunk
from tests.providers.dialects.test_in_order import check_one_at_a_time

PATCH = frozenset({"patch"})


def begun(index: int, text: str = "") -> Json:
    custom = {"name": "patch", "input": text}
    return tool_chunk({"index": index, "id": f"call_{index}", "type": "custom", "custom": custom})


def more(index: int, text: str) -> Json:
    return tool_chunk({"index": index, "custom": {"input": text}})


def streamed(*chunks: Json) -> list[StreamEvent]:
    return read_stream(CHAT, sse(*chunks, chunk(finish="tool_calls"), b"[DONE]"))


def texts(events: list[StreamEvent]) -> list[tuple[str, str]]:
    return [(part.id, part.arguments) for part in fold(events).parts if isinstance(part, ToolCall)]


def test_a_call_that_takes_text_is_told_of_when_the_next_one_begins() -> None:
    reader, decoder = CHAT.stream_reader(), CHAT.decoder()
    told = [[type(found) for found in reader.feed(event)] for event in decoder.feed(sse(begun(0, "*** a"), begun(1)))]
    assert told[1] == [PartEnded, PartStarted]
    told = [[type(found) for found in reader.feed(event)] for event in decoder.feed(sse(more(1, "b")))]
    assert told == [[ArgumentsDelta]]


def test_parallel_calls_of_text_keep_index_and_id() -> None:
    events = streamed(begun(0, "a"), more(0, " \n"), begun(1), more(1, "b"), begun(2, "{}"))
    check_one_at_a_time(events)
    assert texts(events) == [("call_0", "a \n"), ("call_1", "b"), ("call_2", "{}")]
    calls = [
        found
        for item in chat_stream(CHAT.stream_writer(asked()).write(events))
        for found in item["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert [(found["index"], found.get("id")) for found in calls] == [
        (0, "call_0"), (0, None), (0, None), (1, "call_1"), (1, None), (2, "call_2"), (2, None),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["b", " "])
def test_text_for_a_call_that_has_ended_is_refused(text: str) -> None:
    with pytest.raises(UpstreamFailure, match="after their end") as caught:
        streamed(begun(0, "a"), begun(1), more(0, text))
    assert caught.value.kind is FailureKind.MALFORMED


# A function of one string, unwrapped.


def started(index: int = 0, arguments: str = "") -> PartStarted:
    return PartStarted(index=index, part=ToolCall(id=f"c{index}", name="patch", arguments=arguments))


def test_the_text_comes_when_the_object_is_whole_and_not_at_the_call_s_end() -> None:
    unwrap = UnwrapEvents(PATCH)
    assert unwrap.feed([started(), ArgumentsDelta(0, '{"input":"a}')])[1:] == []
    assert unwrap.feed([ArgumentsDelta(0, '\\n"}')]) == [ArgumentsDelta(0, "a}\n")]
    assert unwrap.feed([ArgumentsDelta(0, " \n")]) == []
    assert unwrap.feed([PartEnded(index=0)]) == [PartEnded(index=0)]


@pytest.mark.parametrize(
    "arguments", ["[x] and more", '"a" b', "{a} b", '{"other":1}', "", "*** Begin", '{"input":1} x']
)
def test_arguments_that_are_no_such_object_are_the_text_whole(arguments: str) -> None:
    for size in (1, 100):
        unwrap = UnwrapEvents(PATCH)
        deltas = [ArgumentsDelta(0, arguments[at : at + size]) for at in range(0, len(arguments), size)]
        (_, text, end) = unwrap.feed([started(), *deltas, PartEnded(index=0)])
        assert (text, end) == (ArgumentsDelta(0, arguments), PartEnded(index=0))


def test_more_than_the_object_is_refused() -> None:
    unwrap = UnwrapEvents(PATCH)
    unwrap.feed([started(arguments='{"input":"a"}')])
    with pytest.raises(UpstreamFailure, match="after their end"):
        unwrap.feed([ArgumentsDelta(0, "{}")])


@settings(max_examples=examples(60), deadline=None)
@given(st.text(max_size=12), st.integers(1, 6))
def test_any_text_survives_however_its_object_is_cut(text: str, size: int) -> None:
    arguments = json.dumps({"input": text})
    deltas = [ArgumentsDelta(0, arguments[at : at + size]) for at in range(0, len(arguments), size)]
    events = UnwrapEvents(PATCH).feed([started(), *deltas, PartEnded(index=0)])
    assert events[1:] == [ArgumentsDelta(0, text), PartEnded(index=0)]
