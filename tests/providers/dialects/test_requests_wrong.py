"""Requests with one thing wrong, and bodies that are none: read or refused, and nothing else."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import InvalidRequest
from infermux.providers.dialects.dialect import Dialect, Target
from tests._properties import examples
from tests.providers.dialects._cases import CHAT, MESSAGES, SCHEMA, Json, chat, messages

BOTH = pytest.mark.parametrize("dialect", [CHAT, MESSAGES], ids=lambda dialect: dialect.name)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (5, None),
        ({"messages": 1}, "messages"),
        ({"messages": ()}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_tokens=True), "max_tokens"),
        (chat(temperature="hot"), "temperature"),
        (chat(stop=[1]), "stop[0]"),
        (chat(stop=1), "stop"),
        (chat(stream="yes"), "stream"),
        (chat(reasoning_effort="enormous"), "reasoning_effort"),
        (chat(tools=[{"type": "function"}]), "tools[0].function"),
        (chat(tool_choice="never"), "tool_choice"),
        (chat(response_format={"type": "json_schema"}), "response_format.json_schema"),
        (chat({"role": "tool", "content": "x"}), "messages[0].tool_call_id"),
    ],
)
def test_a_wrong_chat_request_is_refused_naming_the_field(request_: Any, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHAT.read_request(json.dumps(request_).encode())
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        (messages(system=1), "system"),
        (messages(tools=[{"name": "f"}]), "tools[0].input_schema"),
        (messages(tool_choice={"type": "some"}), "tool_choice.type"),
        (messages(thinking="yes"), "thinking"),
        (messages(max_tokens="many"), "max_tokens"),
    ],
)
def test_a_wrong_anthropic_request_is_refused_naming_the_field(request_: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        MESSAGES.read_request(json.dumps(request_).encode())
    assert caught.value.param == param


@BOTH
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":"\\ud800"}', b"[" * 100_000, b'{"messages":1e999}'])
def test_a_body_that_is_no_json_is_refused(dialect: Dialect, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        dialect.read_request(body)


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**400, "", "text", [], {}, [{}], {"type": "text"}, {"type": 1}, ["a"]]
)


@BOTH
@given(data=st.data())
@settings(max_examples=examples(50), deadline=None)
def test_a_request_with_one_thing_wrong_is_read_or_refused_and_nothing_else(
    dialect: Dialect, data: st.DataObject
) -> None:
    """Whatever is read can be written for both, too."""
    full = FULL[dialect.name]
    path = data.draw(st.sampled_from(paths(full)))
    wrong = replaced(full, path, data.draw(JUNK))
    try:
        found = dialect.read_request(json.dumps(wrong).encode())
    except InvalidRequest:
        return
    for other, model in ((CHAT, "gpt-4o"), (MESSAGES, "claude-opus-4-6")):
        msgspec.json.decode(other.write_request(found, Target(model=model)).body)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(cast("Json", value).items())
    elif isinstance(value, list):
        items = list(enumerate(cast("list[object]", value)))
    found = [at] if at else []
    for key, inner in items:
        found += paths(inner, (*at, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


MARK = {"type": "ephemeral", "ttl": "1h"}
FULL: dict[str, Json] = {
    "openai.chat": chat(
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": MARK}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}}]},
        {"role": "assistant", "content": "a", "refusal": "r", "reasoning_content": "t"},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "QUJD", "filename": "a"}}], "name": "n"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "r"}]},
        tools=[
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}},
            {"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}},
        ],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        stream_options={"include_usage": True},
        stop=["a"],
        metadata={"a": "b"},
        temperature=1,
        top_p=0.5,
        top_k=3,
        max_tokens=3,
        reasoning_effort="low",
        user="u",
    ),
    "anthropic.messages": messages(
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a/b"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "t", "citations": [
                    {"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": "t",
                     "start_char_index": 0, "end_char_index": 1}]},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [
            {"type": "document", "source": {"type": "base64", "media_type": "text/csv", "data": "QUJD"},
             "title": "t", "context": "c", "citations": {"enabled": True}}], "is_error": True}]},
        system=[{"type": "text", "text": "s", "cache_control": MARK}],
        tools=[{"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True, "cache_control": MARK}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        thinking={"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
        stop_sequences=["a"],
        metadata={"user_id": "u"},
        service_tier="auto",
        temperature=1,
        top_k=3,
    ),
}  # fmt: skip
