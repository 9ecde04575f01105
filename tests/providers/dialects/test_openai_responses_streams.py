"""Streams of response events: what is written is the sequence the API has, and what is read is the answer it pieces."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import (
    Citation,
    Completion,
    ErrorKind,
    ErrorReport,
    RedactedThinking,
    Refusal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from infermux.providers.dialects.neutral_events import (
    Ended,
    PartStarted,
    Started,
    StreamError,
    StreamEvent,
    TextDelta,
)
from tests._properties import examples
from tests.providers.dialects._openai_responses import (
    RESPONSES,
    USAGE,
    Json,
    answer,
    as_read,
    completion,
    completions,
    events_of,
    read,
    read_stream,
    same_ids,
    sse,
    unfold,
    written,
)

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def types(data: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events_of(data)]


# Properties


@given(whole=completions(), size=st.integers(1, 5))
@settings(max_examples=examples(25), deadline=None)
def test_the_response_at_the_end_of_a_stream_is_the_answer_that_is_not_streamed(whole: Completion, size: int) -> None:
    last = events_of(same_ids(written(unfold(whole, size))))[-1]
    assert last["response"] == json.loads(same_ids(json.dumps(answer(whole)).encode()))


@given(whole=completions(), size=st.integers(1, 5), cuts=st.lists(st.integers(0, 5000), max_size=8))
@settings(max_examples=examples(25), deadline=None)
def test_folding_a_stream_equals_the_answer_however_its_bytes_are_cut(
    whole: Completion, size: int, cuts: list[int]
) -> None:
    data = written(unfold(whole, size))
    assert fold(read_stream(data, cuts)) == read(answer(whole)) == as_read(whole)


@given(data=st.data())
@settings(max_examples=examples(30), deadline=None)
def test_any_split_of_the_bytes_gives_the_same_events(data: st.DataObject) -> None:
    stream = written(unfold(data.draw(completions())))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    assert read_stream(stream, cuts) == read_stream(stream)


@given(whole=completions())
@settings(max_examples=examples(30), deadline=None)
def test_every_event_has_the_shape_of_the_sdk(whole: Completion) -> None:
    for event in events_of(written(unfold(whole))):
        _EVENT.validate_python(event)
    Response.model_validate(answer(whole))


@given(whole=completions())
@settings(max_examples=examples(30), deadline=None)
def test_the_pieces_of_an_item_are_the_item_and_keep_its_place_and_id(whole: Completion) -> None:
    deltas: dict[tuple[Any, ...], str] = {}
    added: dict[int, str] = {}
    for event in events_of(written(unfold(whole))):
        kind = event["type"]
        if kind == "response.output_item.added":
            assert event["output_index"] == len(added)
            added[event["output_index"]] = event["item"]["id"]
        elif kind == "response.output_item.done":
            assert event["item"]["id"] == added[event["output_index"]]
        elif "item_id" in event:
            assert event["item_id"] == added[event["output_index"]]
            place = (event["output_index"], event.get("content_index"), event.get("summary_index"))
            if kind.endswith(".delta"):
                deltas[place] = deltas.get(place, "") + event["delta"]
            for name in ("text", "refusal", "arguments", "input"):
                if kind.endswith(".done") and name in event:
                    assert event[name] == deltas.get(place, ""), kind


# What is written


def test_a_text_is_written_with_all_of_its_events() -> None:
    assert types(written(unfold(completion(Text(text="Hello"))))) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_tool_calls_are_written_one_after_the_other_under_their_own_ids() -> None:
    calls = (
        ToolCall(id="call_1", name="f", arguments="{}"),
        ToolCall(id="call_2", name="g", arguments="text", freeform=True),
    )
    events = events_of(written(unfold(completion(*calls, stop=StopReason.TOOL_USE), size=9)))
    assert [event["type"].removeprefix("response.") for event in events[2:]] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "completed",
    ]
    assert [(event["item"]["call_id"], event["item"]["name"]) for event in events if "item" in event] == [
        ("call_1", "f"),
        ("call_1", "f"),
        ("call_2", "g"),
        ("call_2", "g"),
    ]
    assert events[2]["item"]["arguments"] == ""
    assert events[5]["item"]["status"] == "completed"


def test_thinking_is_written_as_a_summary_with_its_signature_in_the_whole_item() -> None:
    events = events_of(written(unfold(completion(Thinking(text="hm", signature="s"), Text(text="x")))))
    assert [event["type"].removeprefix("response.") for event in events[2:8]] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert events[7]["item"]["encrypted_content"] == "infermux:signed:s"
    assert events[7]["item"]["summary"] == [{"type": "summary_text", "text": "hm"}]


def test_texts_that_follow_each_other_are_one_message() -> None:
    events = events_of(written(unfold(completion(Text(text="a"), Text(text="b"), Refusal(text="c")))))
    assert [event["content_index"] for event in events if event["type"] == "response.content_part.added"] == [0, 1, 2]
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message"]


def test_citations_are_told_when_their_text_is_whole() -> None:
    cited = Text(
        text="So it is.", citations=(Citation(url="https://x.org", title="X"), Citation(document_index=1, unit="page"))
    )
    found = [event for event in events_of(written(unfold(completion(cited)))) if "annotation" in event]
    assert [event["annotation"] for event in found] == [
        {"type": "url_citation", "url": "https://x.org", "title": "X", "start_index": 0, "end_index": 9}
    ]


def test_an_answer_that_was_cut_off_is_incomplete_in_its_last_item() -> None:
    whole = completion(Text(text="a"), ToolCall(id="c", name="f", arguments='{"x'), stop=StopReason.LENGTH)
    events = events_of(written(unfold(whole)))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    done = [event["item"]["status"] for event in events if event["type"] == "response.output_item.done"]
    assert done == ["completed", "incomplete"]


def test_usage_stands_at_the_end() -> None:
    assert events_of(written(unfold(completion(Text(text="a")))))[-1]["response"]["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 14,
    }


def test_a_stream_without_an_end_is_not_told_to_be_over() -> None:
    events = list(unfold(completion(Text(text="Hello"))))
    assert not {"completed", "incomplete", "output_item.done"} & set(types(written(events[:-1])))


def test_an_error_is_told_with_what_the_answer_came_to() -> None:
    error = ErrorReport(kind=ErrorKind.RATE_LIMIT, status=429, message="slow down")
    events = events_of(written([*list(unfold(completion(Text(text="Hello"))))[:4], StreamError(error=error)]))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2]["message"] == events[-2]["error"]["message"] == "slow down"
    assert events[-1]["response"]["error"] == {"code": "rate_limit_exceeded", "message": "slow down"}
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hello"
    for event in events:
        _EVENT.validate_python(event)


def test_an_error_before_the_answer_began_has_no_response() -> None:
    error = ErrorReport(kind=ErrorKind.SERVER, status=500, message="broken")
    assert types(written([StreamError(error=error)])) == ["error"]


def test_late_pieces_of_a_part_are_in_the_whole_answer() -> None:
    events = list(unfold(completion(ToolCall(id="a", name="f", arguments="{}"), Text(text="x")), size=9))
    late = [*events[:2], events[3], *events[4:6], events[2], *events[6:]]
    found = events_of(written(late))[-1]["response"]["output"]
    assert found[0]["arguments"] == "{}"


# What is read

RESPONSE: Json = {"id": "resp_1", "model": "m", "created_at": 7, "status": "in_progress", "output": []}
CREATED: Json = {"type": "response.created", "response": RESPONSE}
ITEM = "response.output_item"


def ended(**fields: Any) -> Json:
    return {"type": "response.completed", "response": {**RESPONSE, "status": "completed", **fields}}


def test_what_an_imitation_did_not_stream_is_taken_from_its_whole_items() -> None:
    message: Json = {
        "type": "message",
        "id": "m",
        "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
    }
    call: Json = {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": '{"a":1}'}
    thought: Json = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]}
    events = [
        {"type": f"{ITEM}.done", "output_index": n, "item": item} for n, item in enumerate([thought, message, call])
    ]
    found = fold(read_stream(sse(CREATED, *events, ended())))
    assert found.parts == (Thinking(text="hm"), Text(text="Hi"), ToolCall(id="c", name="n", arguments='{"a":1}'))
    assert found.stop is StopReason.TOOL_USE


def test_a_call_without_arguments_has_empty_ones() -> None:
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": ""}
    events = [{"type": f"{ITEM}.{word}", "output_index": 0, "item": call} for word in ("added", "done")]
    assert fold(read_stream(sse(CREATED, *events, ended()))).parts == (ToolCall(id="c", name="n", arguments="{}"),)


def test_paragraphs_of_a_summary_are_one_text() -> None:
    def delta(index: int, text: str) -> Json:
        return {
            "type": "response.reasoning_summary_text.delta",
            "output_index": 0,
            "summary_index": index,
            "delta": text,
        }

    summary = [{"type": "summary_text", "text": "ab"}, {"type": "summary_text", "text": "c"}]
    item = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAA"}
    end = {"type": f"{ITEM}.done", "output_index": 0, "item": item}
    found = fold(read_stream(sse(CREATED, delta(0, "a"), delta(0, "b"), delta(1, "c"), end, ended())))
    assert found.parts == (Thinking(text="ab\n\nc", signature="openai.responses:rs_1:gAAA"),)
    assert read({**RESPONSE, "status": "completed", "output": [item]}).parts == found.parts


def test_reasoning_itself_is_read_rather_than_its_summary() -> None:
    def delta(kind: str, text: str) -> Json:
        return {"type": f"response.reasoning_{kind}.delta", "output_index": 0, "delta": text}

    found = fold(read_stream(sse(CREATED, delta("text", "long"), delta("summary_text", "short"), ended())))
    assert found.parts == (Thinking(text="long"),)


def test_items_of_tools_the_provider_runs_itself_are_passed_over() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    events = [{"type": f"{ITEM}.{word}", "output_index": 0, "item": item} for word in ("added", "done")]
    found = read_stream(sse(CREATED, *events, {"type": "response.web_search_call.searching"}, ended()))
    assert [type(event) for event in found] == [Started, Ended]


def test_redacted_thinking_is_known_when_its_item_begins() -> None:
    found = read_stream(written(unfold(completion(RedactedThinking(data="x")))))
    assert found[1] == PartStarted(index=0, part=RedactedThinking(data="x"))


@pytest.mark.parametrize(
    ("event", "kind", "status", "message"),
    [
        (
            {"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": None},
            ErrorKind.RATE_LIMIT,
            429,
            "m",
        ),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}},
            ErrorKind.INVALID_REQUEST,
            400,
            "m",
        ),
        ({"type": "error", "code": None, "message": "m"}, ErrorKind.SERVER, 500, "m"),
        (
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": {"code": "server_error", "message": "m"}},
            },
            ErrorKind.SERVER,
            500,
            "m",
        ),
        (
            {"type": "response.failed", "response": {"status": "failed"}},
            ErrorKind.SERVER,
            500,
            "the provider's response failed",
        ),
    ],
)
def test_errors_inside_a_stream_are_read(event: Json, kind: ErrorKind, status: int, message: str) -> None:
    found = read_stream(sse(CREATED, event, ended()))
    assert isinstance(found[-1], StreamError)
    assert (found[-1].error.kind, found[-1].error.status, found[-1].error.message) == (kind, status, message)


def test_a_stream_that_breaks_has_no_end() -> None:
    data = written(list(unfold(completion(Text(text="Hello"))))[:-1])
    assert not any(isinstance(event, Ended) for event in read_stream(data))


@pytest.mark.parametrize("data", [b"data: no\n\n", b'data: {"type": 1}\n\n', b'data: {"type": "x", "item": []}\n\n'])
def test_an_event_that_is_none_is_the_providers_fault(data: bytes) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        read_stream(data)
    assert caught.value.kind is FailureKind.MALFORMED


def test_arguments_of_a_call_that_has_not_begun_are_the_providers_fault() -> None:
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"}
    with pytest.raises(UpstreamFailure):
        read_stream(sse(CREATED, delta))


def test_usage_that_is_not_told_is_not_known() -> None:
    whole = attrs.evolve(completion(Text(text="a")), usage=None)
    assert fold(read_stream(written(unfold(whole)))).usage is None
    assert fold(read_stream(written(unfold(completion(Text(text="a")))))).usage == USAGE


def test_text_that_is_there_when_a_part_begins_is_its_first_piece() -> None:
    events: list[StreamEvent] = [
        Started(id="r", model="m"),
        PartStarted(index=0, part=Text(text="He")),
        TextDelta(0, "y"),
    ]
    assert [event["delta"] for event in events_of(written(events)) if "delta" in event] == ["He", "y"]


def test_the_error_event_has_a_number_when_it_stands_alone() -> None:
    error = ErrorReport(kind=ErrorKind.SERVER, status=500, message="broken", param="p", code="c", type="t")
    (event,) = events_of(RESPONSES.write_stream_error(error))
    assert event == {
        "type": "error",
        "sequence_number": 0,
        "code": "c",
        "message": "broken",
        "param": "p",
        "error": {"message": "broken", "type": "t", "param": "p", "code": "c"},
    }
