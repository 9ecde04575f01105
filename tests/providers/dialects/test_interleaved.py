"""Blocks and items that a provider streams by turns: however they alternate, the answer is the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.dialects import bedrock_converse, openai_responses
from infermux.providers.dialects.dialect import Dialect
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import (
    Completion,
    Part,
    Text,
    Thinking,
    ToolCall,
)
from infermux.providers.dialects.neutral_events import PartStarted, Started
from infermux.providers.eventstream import event as frame
from tests._properties import examples
from tests.providers.dialects._cases import MESSAGES, Json, message_events, read_stream, sse
from tests.providers.dialects.test_in_order import check_one_at_a_time

RESPONSES = openai_responses.DIALECT
BEDROCK = bedrock_converse.DIALECT

words = st.sampled_from(["a", "é😀 and more", '{"x":', "\n} \n"])
values = st.sampled_from(["{}", '{"x": 1}', '{"x": "}{", "y": [null]}'])
parts = st.one_of(
    st.builds(Text, text=words),
    st.builds(ToolCall, id=st.just("c"), name=st.just("f"), arguments=values),
    st.builds(Thinking, text=words, signature=st.just("s")),
)
answers = st.lists(parts, min_size=1, max_size=4)


def cut(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


# Each dialect's events of one part.


def of_messages(index: int, part: Part) -> list[Json]:
    start: Json
    match part:
        case Text(text=text):
            start = {"type": "text", "text": ""}
            deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in cut(text)]
        case ToolCall():
            start = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            said = "" if part.arguments == "{}" else part.arguments
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in cut(said)]
        case Thinking(text=text):
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in cut(text)]
            deltas.append({"type": "signature_delta", "signature": part.signature})
        case _:
            raise AssertionError(part)
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def of_responses(index: int, part: Part) -> list[Json]:
    item: Json
    match part:
        case Text(text=text):
            item = {"type": "message", "id": "i", "role": "assistant"}
            content: Json = {"type": "output_text", "text": text, "annotations": []}
            done: Json = {**item, "content": [content]}
            deltas: list[Json] = [{"type": "response.output_text.delta", "delta": piece} for piece in cut(text)]
            deltas.append({"type": "response.content_part.done", "part": content})
        case ToolCall():
            item = {"type": "function_call", "id": "i", "call_id": part.id, "name": part.name, "arguments": ""}
            done = {**item, "arguments": part.arguments}
            kind = "response.function_call_arguments.delta"
            deltas = [{"type": kind, "delta": piece} for piece in cut(part.arguments)]
        case Thinking(text=text):
            item = {"type": "reasoning", "id": "i", "summary": []}
            sealed = "infermux:signed:" + (part.signature or "")
            done = {**item, "summary": [{"type": "summary_text", "text": text}], "encrypted_content": sealed}
            deltas = [{"type": "response.reasoning_summary_text.delta", "delta": piece} for piece in cut(text)]
        case _:
            raise AssertionError(part)
    events: list[Json] = [
        {"type": "response.output_item.added", "item": item},
        *deltas,
        {"type": "response.output_item.done", "item": done},
    ]
    return [{**found, "output_index": index} for found in events]


def of_bedrock(index: int, part: Part) -> list[Json]:
    def delta(value: Json) -> Json:
        return {"name": "contentBlockDelta", "contentBlockIndex": index, "delta": value}

    events: list[Json]
    match part:
        case Text(text=text):
            events = [delta({"text": piece}) for piece in cut(text)]
        case ToolCall():
            start: Json = {"toolUse": {"toolUseId": part.id, "name": part.name}}
            events = [{"name": "contentBlockStart", "contentBlockIndex": index, "start": start}]
            events += [delta({"toolUse": {"input": piece}}) for piece in cut(part.arguments)]
        case Thinking(text=text):
            events = [delta({"reasoningContent": {"text": piece}}) for piece in cut(text)]
            events.append(delta({"reasoningContent": {"signature": part.signature}}))
        case _:
            raise AssertionError(part)
    return [*events, {"name": "contentBlockStop", "contentBlockIndex": index}]


# Whole streams.


def whole_messages(events: Sequence[Json]) -> bytes:
    start, end = message_events().split(b"event: message_delta")
    return start + sse(*events) + b"event: message_delta" + end


def whole_responses(events: Sequence[Json]) -> bytes:
    response: Json = {"id": "r", "model": "m", "created_at": 1, "status": "in_progress", "output": []}
    done = {"type": "response.completed", "response": {**response, "status": "completed"}}
    return sse({"type": "response.created", "response": response}, *events, done)


def whole_bedrock(events: Sequence[Json]) -> bytes:
    framed = [frame(found["name"], json.dumps({**found, "name": ""}).encode()) for found in events]
    start, end = frame("messageStart", b'{"role":"assistant"}'), frame("messageStop", b'{"stopReason":"end_turn"}')
    return b"".join((start, *framed, end, frame("metadata", b"{}")))


WAYS = [
    (MESSAGES, of_messages, whole_messages),
    (RESPONSES, of_responses, whole_responses),
    (BEDROCK, of_bedrock, whole_bedrock),
]


def taking_turns(blocks: Sequence[Sequence[Json]], data: st.DataObject) -> list[Json]:
    """The events of all blocks, those of each in order, the blocks begun in order."""
    left = [list(block) for block in blocks]
    order: list[Json] = []
    begun = 0
    dice = data.draw(st.randoms(use_true_random=False))
    while any(left):
        at = dice.choice([at for at, block in enumerate(left) if block and at <= begun])
        begun += at == begun
        order.append(left[at].pop(0))
    return order


def folded(dialect: Dialect, data: bytes) -> Completion:
    events = read_stream(dialect, data)
    assert isinstance(events[0], Started)
    check_one_at_a_time(events)
    return attrs.evolve(fold(events), id="")


@pytest.mark.parametrize(("dialect", "of_part", "whole"), WAYS, ids=lambda value: getattr(value, "name", ""))
@settings(max_examples=examples(40), deadline=None)
@given(answer=answers, data=st.data())
def test_however_parts_take_turns_the_answer_is_the_same(
    dialect: Dialect,
    of_part: Callable[[int, Part], list[Json]],
    whole: Callable[[Sequence[Json]], bytes],
    answer: list[Part],
    data: st.DataObject,
) -> None:
    blocks = [of_part(index, part) for index, part in enumerate(answer)]
    found = folded(dialect, whole(taking_turns(blocks, data)))
    assert found == folded(dialect, whole([event for block in blocks for event in block]))
    assert found.parts == tuple(answer)


@pytest.mark.parametrize(("dialect", "of_part", "whole"), WAYS[:2], ids=["messages", "responses"])
def test_more_of_a_part_that_has_ended_is_malformed(
    dialect: Dialect, of_part: Callable[[int, Part], list[Json]], whole: Callable[[Sequence[Json]], bytes]
) -> None:
    events = of_part(0, Text(text="a"))
    with pytest.raises(UpstreamFailure, match="after its end") as caught:
        read_stream(dialect, whole([*events, events[1]]))
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.parametrize(("dialect", "of_part", "whole"), WAYS, ids=lambda value: getattr(value, "name", ""))
def test_a_part_whose_end_is_left_out_ends_with_the_answer(
    dialect: Dialect, of_part: Callable[[int, Part], list[Json]], whole: Callable[[Sequence[Json]], bytes]
) -> None:
    call, text = ToolCall(id="c", name="f", arguments="{}"), Text(text="b")
    events = [*of_part(0, Text(text="a"))[:-1], *of_part(1, call)[:-1], *of_part(2, text)]
    assert folded(dialect, whole(events)).parts == (Text(text="a"), call, text)


def test_a_block_s_index_used_again_is_another_block() -> None:
    first, second = of_messages(0, Text(text="a")), of_messages(0, Text(text="b"))
    events = read_stream(MESSAGES, whole_messages([*first[:-1], *second]))
    assert [event.index for event in events if isinstance(event, PartStarted)] == [0, 1]
    assert fold(events).parts == (Text(text="a"), Text(text="b"))
