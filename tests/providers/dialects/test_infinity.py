"""Answers of Infinity's line protocol, read: the order of parts, and what counts of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import UpstreamFailure
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.infinity import Infinity
from infermux.providers.dialects.infinity_stream import usage_of
from infermux.providers.dialects.neutral import (
    RedactedThinking,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from infermux.providers.dialects.neutral_events import (
    Ended,
    PartEnded,
    PartStarted,
    Started,
    StreamError,
    StreamEvent,
)
from infermux.providers.interface import Usage
from tests._properties import examples

texts = st.text(min_size=1, max_size=6)
items = st.one_of(
    texts.map(lambda text: [{"Message": text}]),
    texts.map(lambda text: [{"ReasoningDelta": {"id": None, "reasoning": text}}]),
    texts.map(lambda text: [_reasoning(text, "s")]),
    st.tuples(st.uuids().map(str), texts, st.booleans()).map(lambda drawn: _call(*drawn)),
    st.just([{"Error": "a hiccup"}]),
    st.just([{"Newer": {"than": "this"}}]),
)


def _reasoning(text: str, signature: str | None) -> dict[str, Any]:
    return {"Reasoning": {"id": None, "content": {"type": "text", "content": {"text": text, "signature": signature}}}}


def _call(call_id: str, name: str, delta: bool) -> list[dict[str, Any]]:
    fields = {"id": call_id, "internal_call_id": call_id}
    begun = [{"ToolCallDelta": {**fields, "content": {"Name": name}}}] if delta else []
    return [*begun, {"ToolCall": {**fields, "name": name, "arguments": {"of": name}}}]


def lines(found: list[Any]) -> bytes:
    whole = [*({"Chunk": item} for item in found), {"Chunk": {"Final": {"usage": {"input_tokens": 1}}}}, "StreamEnd"]
    return b"".join(json.dumps(line).encode() + b"\n" for line in ["InvokeStarted", *whole])


def read(data: bytes, size: int = 1 << 20) -> list[StreamEvent]:
    dialect = Infinity("m")
    decoder, reader = dialect.decoder(), dialect.stream_reader()
    events: list[StreamEvent] = []
    for at in range(0, len(data), size):
        for event in decoder.feed(data[at : at + size]):
            events += reader.feed(event)
    return events


@settings(max_examples=examples(50))
@given(st.lists(items, max_size=6), st.integers(1, 40))
def test_parts_come_one_after_another_and_fold_to_the_whole_answer(drawn: list[Any], size: int) -> None:
    data = lines([item for part in drawn for item in part])
    events = read(data, size)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    open_part, begun = None, 0
    for event in events[1:-1]:
        match event:
            case PartStarted(index=index):
                assert (open_part, index) == (None, begun)
                open_part, begun = index, begun + 1
            case PartEnded(index=index):
                assert open_part == index
                open_part = None
            case _:
                assert getattr(event, "index", None) == open_part
    assert open_part is None
    whole = Infinity("m").read_answer(data)
    assert fold(events).parts == whole.parts
    said = "".join(item["Message"] for part in drawn for item in part if "Message" in item)
    assert "".join(part.text for part in whole.parts if isinstance(part, Text)) == said
    calls = [item["ToolCall"]["id"] for part in drawn for item in part if "ToolCall" in item]
    assert [part.id for part in whole.parts if isinstance(part, ToolCall)] == calls
    assert whole.stop is (StopReason.TOOL_USE if calls else StopReason.END)


def test_calls_that_go_on_side_by_side_come_one_after_another() -> None:
    first, second = _call("a", "look", True), _call("b", "find", True)
    events = read(lines([first[0], second[0], second[1], first[1]]))
    found = fold(events).parts
    assert [(part.id, part.arguments) for part in found if isinstance(part, ToolCall)] == [
        ("a", '{"of":"look"}'),
        ("b", '{"of":"find"}'),
    ]


def test_thinking_that_was_displayed_otherwise_is_followed_by_what_counts() -> None:
    delta = {"ReasoningDelta": {"id": None, "reasoning": "hmm"}}
    whole = fold(read(lines([delta, _reasoning("hm, well", "s")]))).parts
    assert whole == (Thinking(text="hmm"), Thinking(text="hm, well", signature="s"))


def test_redacted_and_summarised_thinking_is_read_and_encrypted_is_not() -> None:
    pieces = [
        {"type": "redacted", "content": {"data": "x"}},
        {"type": "encrypted", "content": "y"},
        {"type": "summary", "content": "z"},
    ]
    item = {"Reasoning": {"id": None, "content": pieces}}
    assert fold(read(lines([item]))).parts == (RedactedThinking(data="x"), Thinking(text="z"))


@pytest.mark.parametrize(
    "found",
    [
        [_call("a", "look", True)[0]],
        [_call("a", "look", True)[0], {"Error": "oops"}],
    ],
)
def test_a_call_that_was_never_completed_breaks_the_answer(found: list[Any]) -> None:
    data = b"".join(json.dumps({"Chunk": item}).encode() + b"\n" for item in found) + b'"StreamEnd"\n'
    assert isinstance(read(data)[-1], StreamError)
    with pytest.raises(UpstreamFailure, match="broke off"):
        Infinity("m").read_answer(data)


def test_a_call_that_is_completed_as_another_is_refused() -> None:
    begun, whole = _call("a", "look", True)
    whole["ToolCall"]["name"] = "find"
    with pytest.raises(UpstreamFailure, match="completed a call of 'find' that began as one of 'look'"):
        read(lines([begun, whole]))


@pytest.mark.parametrize("line", [b"1\n", b'{"Chunk":7}\n', b'{"a":1,"b":2}\n', b"no\n", b'{"Chunk":{"ToolCall":3}}\n'])
def test_what_is_no_answer_is_malformed(line: bytes) -> None:
    with pytest.raises(UpstreamFailure):
        read(line)


@pytest.mark.parametrize(
    ("usage", "prompt"),
    [
        ({"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "cached_input_tokens": 2}, 7),
        ({"input_tokens": 7, "output_tokens": 5, "total_tokens": 14, "cached_input_tokens": 2}, 9),
        ({"input_tokens": 7, "output_tokens": 5}, 7),
        ({"input_tokens": 1, "output_tokens": 5, "cached_input_tokens": 9}, 9),
    ],
)
def test_cached_tokens_are_part_of_the_prompt(usage: dict[str, int], prompt: int) -> None:
    found = usage_of({"usage": usage})
    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens) == (prompt, 5)
    assert usage_of({"usage": None}) is usage_of({}) is None
    assert isinstance(found, Usage)
