"""Tool calls and texts that a provider streams by turns reach the caller one after another, whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.dialects import in_order
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.in_order import InOrder
from infermux.providers.dialects.neutral import Text, ToolCall
from infermux.providers.dialects.neutral_events import (
    ArgumentsDelta,
    PartEnded,
    PartStarted,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from tests._properties import examples
from tests.providers.dialects._cases import (
    CHAT,
    MESSAGES,
    Json,
    asked,
    block_stream,
    chunk,
    read_stream,
    sse,
    tool_chunk,
)


def begun(index: int, arguments: str = "") -> Json:
    function = {"name": f"f{index}", "arguments": arguments}
    return tool_chunk({"index": index, "id": f"call_{index}", "type": "function", "function": function})


def more(index: int, arguments: str) -> Json:
    return tool_chunk({"index": index, "function": {"arguments": arguments}})


def streamed(*chunks: Json) -> list[StreamEvent]:
    return read_stream(CHAT, sse(*chunks, chunk(finish="tool_calls"), b"[DONE]"))


def calls(events: list[StreamEvent]) -> list[tuple[str, str]]:
    return [(part.name, part.arguments) for part in fold(events).parts if isinstance(part, ToolCall)]


def check_one_at_a_time(events: list[StreamEvent]) -> None:
    """Parts are numbered from 0, and everything of one comes before anything of the next."""
    open_part, following = None, 0
    for event in events:
        match event:
            case PartStarted(index=index):
                assert (open_part, index) == (None, following)
                open_part, following = index, index + 1
            case PartEnded(index=index):
                assert index == open_part
                open_part = None
            case TextDelta(index) | ArgumentsDelta(index) | ThinkingDelta(index) | SignatureDelta(index):
                assert index == open_part
            case _:
                assert open_part is None


INTERLEAVED = (
    begun(0),
    begun(1),
    more(0, '{"x":'),
    more(1, '{"y":'),
    more(0, "1}"),
    more(1, '"}"}'),
)


def test_arguments_that_come_by_turns_are_each_call_s_own() -> None:
    events = streamed(*INTERLEAVED)
    check_one_at_a_time(events)
    assert calls(events) == [("f0", '{"x":1}'), ("f1", '{"y":"}"}')]


def test_calls_by_turns_are_blocks_one_after_another_for_an_anthropic_caller() -> None:
    blocks = block_stream(MESSAGES.stream_writer(asked()).write(streamed(*INTERLEAVED)))
    told = [
        (event["type"].removeprefix("content_block_"), event["index"], event.get("delta", {}).get("partial_json"))
        for event in blocks
        if event["type"].startswith("content_block_")
    ]
    assert told == [
        ("start", 0, None),
        ("delta", 0, '{"x":'),
        ("delta", 0, "1}"),
        ("stop", 0, None),
        ("start", 1, None),
        ("delta", 1, '{"y":'),
        ("delta", 1, '"}"}'),
        ("stop", 1, None),
    ]


def test_a_call_whose_arguments_are_whole_lets_the_next_one_through_at_once() -> None:
    reader, (event, *_) = CHAT.stream_reader(), CHAT.decoder().feed(sse(begun(0, '{"x":1}')))
    reader.feed(event)
    (event,) = CHAT.decoder().feed(sse(begun(1, '{"y":')))
    told = reader.feed(event)
    assert [type(found) for found in told] == [PartEnded, PartStarted, ArgumentsDelta]


def test_a_call_without_arguments_has_an_empty_object_though_others_follow() -> None:
    events = streamed(begun(0), begun(1), more(1, '{"y":2}'), begun(2))
    check_one_at_a_time(events)
    assert calls(events) == [("f0", "{}"), ("f1", '{"y":2}'), ("f2", "{}")]


def test_text_amid_a_call_comes_after_it() -> None:
    events = streamed(begun(0, '{"x":'), chunk({"content": "so "}), more(0, "1}"), chunk({"content": "far"}))
    check_one_at_a_time(events)
    assert calls(events) == [("f0", '{"x":1}')]
    assert fold(events).parts[1:] == (Text(text="so far"),)


def test_white_space_after_whole_arguments_is_no_more_of_them() -> None:
    events = streamed(begun(0, "{}"), begun(1), more(0, " \n"), more(1, "{}"))
    assert calls(events) == [("f0", "{}"), ("f1", "{}")]


def test_a_second_object_for_a_call_that_has_ended_is_refused() -> None:
    with pytest.raises(UpstreamFailure, match="more of a tool call's arguments") as caught:
        streamed(begun(0, "{}"), begun(1), more(0, '{"x":1}'))
    assert caught.value.kind is FailureKind.MALFORMED


VALUES = st.dictionaries(st.text(max_size=3), st.text(alphabet='ab"\\{}[]é', max_size=6) | st.integers(), max_size=3)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_however_calls_take_turns_each_has_its_arguments(values: list[dict[str, object]], data: st.DataObject) -> None:
    left = [json.dumps(value, ensure_ascii=False) for value in values]
    chunks = [begun(index) for index in range(len(left))]
    while any(left):
        index = data.draw(st.sampled_from([index for index, text in enumerate(left) if text]))
        size = data.draw(st.integers(1, len(left[index])))
        chunks.append(more(index, left[index][:size]))
        left[index] = left[index][size:]
    events = streamed(*chunks)
    check_one_at_a_time(events)
    assert [json.loads(arguments) for _, arguments in calls(events)] == values


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "LIMIT", 1000)
    order, out = InOrder(), list[StreamEvent]()
    order.add(PartStarted(index=0, part=Text(text="")), out)
    order.add(PartStarted(index=1, part=Text(text="")), out)
    for _ in range(3):
        order.add(TextDelta(1, "a" * 200), out)
    with pytest.raises(UpstreamFailure, match="too much"):
        order.add(TextDelta(1, "a" * 200), out)


def test_what_has_been_passed_on_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "LIMIT", 1000)
    order, out = InOrder(), list[StreamEvent]()
    order.add(PartStarted(index=0, part=Text(text="")), out)
    for index in range(50):
        order.add(PartStarted(index=index + 1, part=Text(text="")), out)
        order.add(TextDelta(index + 1, "a" * 500), out)
        order.end(index, out)
    assert repr(order) == "InOrder(live=50, waiting=0)"
    assert len(out) == 1 + 3 * 50
