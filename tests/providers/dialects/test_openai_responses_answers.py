"""Responses and errors, read and written whole."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given, settings

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.dialects.dialect import Asked
from infermux.providers.dialects.neutral import (
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
from tests._properties import examples
from tests.providers.dialects._openai_responses import (
    FUNCTION,
    RESPONSES,
    SCHEMA,
    Json,
    answer,
    as_read,
    completion,
    completions,
    read,
    request,
)


@given(whole=completions())
@settings(max_examples=examples(40), deadline=None)
def test_an_answer_there_and_back_is_the_same(whole: Completion) -> None:
    assert read(answer(whole)) == as_read(whole)


@given(whole=completions())
@settings(max_examples=examples(40), deadline=None)
def test_an_answer_that_is_sent_back_as_input_is_the_turn_it_was(whole: Completion) -> None:
    items = answer(whole)["output"]
    found = request([{"role": "user", "content": "hi"}, *items, {"role": "user", "content": "and?"}])
    bare = [attrs.evolve(part, citations=()) if isinstance(part, Text) else part for part in whole.parts]
    if bare:
        assert found.turns[1].parts == tuple(bare)
    assert found.lost == ()


def test_two_answers_share_no_item_id() -> None:
    whole = completion(Text(text="a"), ToolCall(id="c", name="f"))
    ids = [item["id"] for _ in range(2) for item in answer(whole)["output"]]
    assert len(set(ids)) == 4


def test_an_answer_says_back_what_was_asked() -> None:
    conversation = request(
        tools=[FUNCTION],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        temperature=0.5,
        max_output_tokens=64,
        metadata={"k": "v"},
    )
    found = answer(completion(Text(text="a")), Asked(conversation=conversation, now=7))
    asked_for = {
        "tools": [FUNCTION],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "temperature": 0.5,
        "max_output_tokens": 64,
        "metadata": {"k": "v"},
        "store": False,
    }
    assert {name: found[name] for name in asked_for} == asked_for


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        (StopReason.END, "completed", None),
        (StopReason.STOP_SEQUENCE, "completed", None),
        (StopReason.TOOL_USE, "completed", None),
        (StopReason.PAUSE, "completed", None),
        (StopReason.LENGTH, "incomplete", "max_output_tokens"),
        (StopReason.CONTEXT_WINDOW, "incomplete", "max_output_tokens"),
        (StopReason.REFUSAL, "incomplete", "content_filter"),
    ],
)
def test_the_reason_an_answer_stopped_is_its_status(stop: StopReason, status: str, reason: str | None) -> None:
    found = answer(completion(Text(text="a"), stop=stop))
    assert found["status"] == status
    assert found["incomplete_details"] == (reason and {"reason": reason})
    assert found["output"][0]["status"] == status


def test_a_refusal_in_words_completes_an_answer() -> None:
    found = answer(completion(Refusal(text="No."), stop=StopReason.REFUSAL))
    assert found["status"] == "completed"
    assert found["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]


def test_signed_and_redacted_thinking_survives_a_turn_of_tool_use() -> None:
    call = ToolCall(id="c", name="f", arguments="{}")
    parts = (Thinking(text="hm", signature="sig"), RedactedThinking(data="opaque"), call)
    items = answer(completion(*parts, stop=StopReason.TOOL_USE))["output"]
    result = {"type": "function_call_output", "call_id": "c", "output": "done"}
    found = request([{"role": "user", "content": "go"}, *items, result])
    assert found.turns[1].parts == parts


def test_reasoning_of_a_provider_has_a_signature_only_where_it_is_encrypted() -> None:
    bare: Json = {"type": "reasoning", "id": "rs_1", "summary": []}
    shown: Json = {
        "type": "reasoning",
        "id": "rs_2",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }
    sealed: Json = {**bare, "encrypted_content": "gAAA"}
    found = read({"id": "r", "status": "completed", "output": [bare, shown, sealed]})
    assert found.parts == (Thinking(text="hm"), Thinking(text="", signature="openai.responses:rs_1:gAAA"))


def test_what_an_answer_leaves_out_is_made_up_for() -> None:
    call = {"type": "function_call", "name": "f", "arguments": {"a": 1}}
    empty = {"type": "message", "content": [{"type": "output_text", "text": ""}]}
    found = read({"output": [{"type": "web_search_call"}, empty, call, {"type": "custom_tool_call", "call_id": "x"}]})
    assert found.id.startswith("resp_")
    assert [type(part) for part in found.parts] == [ToolCall, ToolCall]
    assert isinstance(found.parts[0], ToolCall)
    assert found.parts[0].arguments == '{"a":1}'
    assert found.usage is None


@pytest.mark.parametrize(
    "body",
    [
        b"no",
        b"[]",
        b"{}",
        b'{"output": 1}',
        b'{"status": "in_progress", "output": []}',
        b'{"status": "failed", "output": [], "error": {"code": "server_error", "message": "m"}}',
    ],
)
def test_what_is_no_whole_response_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        RESPONSES.read_answer(body)
    assert caught.value.kind is FailureKind.MALFORMED


# Errors


def test_errors_are_read_and_written_in_the_shape_of_the_api() -> None:
    body: Json = {"error": {"message": "m", "type": "invalid_request_error", "param": "input", "code": "c"}}
    found = RESPONSES.read_error(400, json.dumps(body).encode())
    expected = ErrorReport(
        kind=ErrorKind.INVALID_REQUEST, status=400, message="m", type="invalid_request_error", code="c", param="input"
    )
    assert found == expected
    assert json.loads(RESPONSES.write_error(found)) == body


@pytest.mark.parametrize(("body", "message"), [(b"<html>", "<html>"), (b"", "the provider answered 503")])
def test_a_body_that_is_no_error_is_the_message(body: bytes, message: str) -> None:
    found = RESPONSES.read_error(503, body)
    assert (found.kind, found.message, found.param) == (ErrorKind.OVERLOADED, message, None)


def test_a_quota_that_is_used_up_is_a_matter_of_billing() -> None:
    found = RESPONSES.read_error(429, b'{"error": {"message": "m", "code": "insufficient_quota"}}')
    assert found.kind is ErrorKind.BILLING


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_of_error_has_a_type(kind: ErrorKind) -> None:
    error = json.loads(RESPONSES.write_error(ErrorReport(kind=kind, status=500, message="m")))["error"]
    assert error["type"]
