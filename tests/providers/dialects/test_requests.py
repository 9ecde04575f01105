"""Requests that are read, one field at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infermux.errors import ThreadUnsupported
from infermux.providers.dialects.dialect import Dialect
from infermux.providers.dialects.neutral import (
    Base64,
    CacheControl,
    Conversation,
    Document,
    FileId,
    JsonFormat,
    PlainText,
    Reasoning,
    ReasoningMode,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from tests.providers.dialects._cases import CHAT, MESSAGES, SCHEMA, Json, chat, messages, to_chat, to_messages


def read(dialect: Dialect, request: Json) -> Conversation:
    return dialect.read_request(json.dumps(request).encode())


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}])
def test_threads_that_a_provider_would_hold_are_refused_before_the_messages_they_leave_out(thread: Json) -> None:
    orphan = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]}
    with pytest.raises(ThreadUnsupported, match="send the whole conversation") as caught:
        read(MESSAGES, messages(orphan, thread=thread))
    assert caught.value.param == "thread"
    hello = {"role": "user", "content": "Hello"}
    assert not read(MESSAGES, messages(hello, thread=None)).extras


@pytest.mark.parametrize(
    ("field", "value", "name", "expected"),
    [
        ("max_tokens", 5, "max_tokens", 5),
        ("max_completion_tokens", 6, "max_tokens", 6),
        ("stop", "a", "stop", ("a",)),
        ("stop", ["a", "b"], "stop", ("a", "b")),
        ("stop", None, "stop", ()),
        ("reasoning_effort", "low", "reasoning", Reasoning(effort="low")),
        ("response_format", {"type": "text"}, "format", None),
        ("response_format", {"type": "json_object"}, "format", JsonFormat()),
        ("tool_choice", "required", "tool_choice", ToolChoice(mode=ToolMode.REQUIRED)),
        (
            "tool_choice",
            {"type": "function", "function": {"name": "f"}},
            "tool_choice",
            ToolChoice(mode=ToolMode.NAMED, name="f"),
        ),
        ("function_call", {"name": "f"}, "tool_choice", ToolChoice(mode=ToolMode.NAMED, name="f")),
        ("parallel_tool_calls", True, "parallel_tool_calls", None),
        ("stream_options", {"include_usage": True}, "include_usage", True),
        ("metadata", {"a": "b"}, "metadata", {"a": "b"}),
        ("n", 1, "extras", {}),
        ("n", 2, "extras", {"n": 2}),
        ("seed", 3, "extras", {"seed": 3}),
        ("provider", {"only": ["a"]}, "extras", {}),
        ("functions", [{"name": "f"}], "tools", (Tool(name="f"),)),
        (
            "tools",
            [{"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}}],
            "tools",
            (Tool(name="f", freeform=True, grammar={"type": "text"}),),
        ),
        ("tools", [{"type": "web_search"}], "lost", ("tools.web_search",)),
    ],
)
def test_a_field_of_a_chat_request_is_read(field: str, value: Any, name: str, expected: Any) -> None:
    assert getattr(read(CHAT, chat(**{field: value})), name) == expected


@pytest.mark.parametrize(
    ("field", "value", "name", "expected"),
    [
        ("system", "s", "system", (Text(text="s"),)),
        ("stop_sequences", ["a"], "stop", ("a",)),
        (
            "thinking",
            {"type": "enabled", "budget_tokens": 2000},
            "reasoning",
            Reasoning(mode=ReasoningMode.BUDGET, budget_tokens=2000),
        ),
        ("thinking", {"type": "disabled"}, "reasoning", Reasoning(mode=ReasoningMode.OFF)),
        (
            "thinking",
            {"type": "adaptive", "display": "omitted"},
            "reasoning",
            Reasoning(mode=ReasoningMode.ADAPTIVE, summary="omitted"),
        ),
        ("thinking", {"type": "between_tools"}, "lost", ("thinking.between_tools",)),
        ("output_config", {"effort": "low"}, "reasoning", Reasoning(effort="low")),
        (
            "output_config",
            {"format": {"type": "json_schema", "schema": SCHEMA}},
            "format",
            JsonFormat(schema=SCHEMA, strict=True),
        ),
        ("output_format", {"type": "json_schema", "schema": SCHEMA}, "format", JsonFormat(schema=SCHEMA, strict=True)),
        ("metadata", {"user_id": "u"}, "user", "u"),
        ("service_tier", "standard_only", "service_tier", "default"),
        ("cache_control", {"type": "ephemeral"}, "cache_control", CacheControl()),
        ("tool_choice", {"type": "any", "disable_parallel_tool_use": True}, "parallel_tool_calls", False),
        ("container", "c", "extras", {"container": "c"}),
        ("tools", [{"type": "web_search_20250305", "name": "web_search"}], "lost", ("tools.web_search_20250305",)),
        ("tools", [{"name": "f", "input_schema": SCHEMA, "defer_loading": True}], "lost", ("tools.defer_loading",)),
    ],
)
def test_a_field_of_an_anthropic_request_is_read(field: str, value: Any, name: str, expected: Any) -> None:
    assert getattr(read(MESSAGES, messages(**{field: value})), name) == expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}},
         Document(source=Base64(data="QUJD", media_type="application/pdf"), title="a.pdf")),
        ({"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}},
         Text(text="a", cache_control=CacheControl(ttl="1h"))),
    ],
)  # fmt: skip
def test_a_part_of_a_chat_message_is_read(block: Json, expected: object) -> None:
    assert read(CHAT, chat({"role": "user", "content": [block]})).turns[0].parts == (expected,)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}, "title": "t"},
         Document(source=PlainText(text="d"), title="t")),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}, "citations": {"enabled": True}},
         Document(source=FileId(id="file_1", dialect="anthropic.messages"), citations=True)),
        ({"type": "document", "source": {"type": "content", "content": "d"}}, Document(source=PlainText(text="d"))),
        ({"type": "search_result", "source": "https://a", "title": "t", "content": [{"type": "text", "text": "c"}]},
         Document(source=PlainText(text="c"), title="t", context="https://a")),
        ({"type": "thinking", "thinking": "t", "signature": ""}, Thinking(text="t")),
    ],
)  # fmt: skip
def test_a_block_of_an_anthropic_message_is_read(block: Json, expected: object) -> None:
    assert read(MESSAGES, messages({"role": "user", "content": [block]})).turns[0].parts == (expected,)


def test_the_older_function_calls_are_tool_calls() -> None:
    request = chat(
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "r"},
    )
    turns = read(CHAT, request).turns
    assert turns[1].parts == (ToolCall(id="call_f_0", name="f", arguments="{}"),)
    assert turns[2].parts == (ToolResult(call_id="call_f_0", parts=(Text(text="r"),)),)


def test_allowed_tools_leave_the_others_out_and_say_so() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "ab"]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]}
    found = read(CHAT, chat(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed}))
    assert [tool.name for tool in found.tools] == ["b"]
    assert found.tool_choice == ToolChoice(mode=ToolMode.REQUIRED)
    assert found.lost == ("tool_choice.allowed_tools(other tools left out)",)


def test_what_has_no_place_is_named_without_its_index() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}
    _, dropped = to_messages(
        chat({"role": "user", "name": "n", "content": [{"type": "text", "text": "t"}, audio]}, seed=1)
    )
    assert dropped == ("messages.content.input_audio", "messages.name", "seed")


def test_answers_of_assistants_with_refusals_and_reasoning_are_read() -> None:
    message: Json = {"role": "assistant", "content": "a", "refusal": "no", "reasoning_content": "hm", "annotations": []}
    turns = read(CHAT, chat({"role": "user", "content": "u"}, message)).turns
    assert turns[1].parts == (Thinking(text="hm"), Text(text="a"), Refusal(text="no"))


def test_system_turns_of_anthropic_callers_stand_where_they_stood() -> None:
    turns = ({"role": "user", "content": "u"}, {"role": "system", "content": "s"}, {"role": "user", "content": "v"})
    body, dropped = to_chat(messages(*turns))
    assert [message["role"] for message in body["messages"]] == ["user", "system", "user"]
    assert dropped == ()


@pytest.mark.parametrize(
    ("model", "sent"),
    [("gpt-5.1", {"max_completion_tokens": 100}), ("gpt-4o", {"max_tokens": 100}), ("llama3", {"max_tokens": 100})],
)
def test_the_bound_has_the_name_the_model_takes(model: str, sent: Json) -> None:
    body, _ = to_chat(messages(), model=model)
    assert {name: value for name, value in body.items() if "max" in name} == sent


@pytest.mark.parametrize(
    ("model", "thinking", "effort", "dropped"),
    [
        ("gpt-5.1", {"type": "enabled", "budget_tokens": 2000}, "low", ("reasoning(as effort)",)),
        ("gpt-5.1", {"type": "enabled", "budget_tokens": 31_999}, "high", ("reasoning(as effort)",)),
        ("gpt-5.1", {"type": "adaptive"}, None, ("reasoning",)),
        ("gpt-4o", {"type": "enabled", "budget_tokens": 2000}, None, ("reasoning",)),
        ("gpt-4o", {"type": "disabled"}, None, ()),
        ("llama3", {"type": "enabled", "budget_tokens": 2000}, None, ("reasoning",)),
    ],
)
def test_thinking_is_an_effort_for_models_that_reason(
    model: str, thinking: Json, effort: str | None, dropped: tuple[str, ...]
) -> None:
    body, names = to_chat(messages(thinking=thinking), model=model)
    assert body.get("reasoning_effort") == effort
    assert names == dropped


ADAPTIVE = {"type": "adaptive"}


def budget(tokens: int) -> Json:
    return {"type": "enabled", "budget_tokens": tokens}


@pytest.mark.parametrize(
    ("model", "effort", "bound", "expected", "dropped"),
    [
        ("claude-opus-4-6", "high", 9000, {"thinking": ADAPTIVE, "output_config": {"effort": "high"}}, ()),
        (
            "claude-opus-4-6",
            "minimal",
            9000,
            {"thinking": ADAPTIVE, "output_config": {"effort": "low"}},
            ("reasoning.effort(clamped)",),
        ),
        ("claude-opus-4-7", "xhigh", 9000, {"thinking": ADAPTIVE, "output_config": {"effort": "xhigh"}}, ()),
        ("claude-opus-4-6", "none", 9000, {"thinking": {"type": "disabled"}}, ()),
        ("claude-opus-5-5", "none", 9000, {}, ("reasoning",)),
        ("claude-sonnet-4-5", "low", 9000, {"thinking": budget(2048)}, ("reasoning(as budget)",)),
        ("claude-sonnet-4-5", "high", 5000, {"thinking": budget(3999)}, ("reasoning(as budget)",)),
        ("claude-sonnet-4-5", "high", 1000, {}, ("reasoning",)),
        ("claude-3-5-sonnet-20241022", "high", 5000, {}, ("reasoning",)),
    ],
)
def test_an_effort_is_as_much_thinking_as_the_model_has(
    model: str, effort: str, bound: int, expected: Json, dropped: tuple[str, ...]
) -> None:
    body, names = to_messages(chat(reasoning_effort=effort, max_completion_tokens=bound), model=model)
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == expected
    assert names == dropped


def test_thinking_gives_way_to_a_tool_that_must_be_called() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    body, dropped = to_messages(chat(tools=tools, tool_choice="required", reasoning_effort="low"))
    assert body["tool_choice"] == {"type": "any"}
    assert "thinking" not in body
    assert dropped == ("reasoning",)


def test_arguments_that_are_no_object_are_wrapped_and_named() -> None:
    call = {"id": "a:1", "type": "function", "function": {"name": "f", "arguments": '{"x": '}}
    request = chat(
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a:1", "content": "r"},
        tools=[{"type": "function", "function": {"name": "f"}}],
    )
    body, dropped = to_messages(request)
    (used,) = body["messages"][1]["content"]
    assert used["input"] == {"arguments": '{"x": '}
    assert body["messages"][2]["content"][0]["tool_use_id"] == used["id"]
    assert dropped == ("tool_calls.arguments(wrapped)", "tool_calls.id(rewritten)")


def test_a_conversation_anthropic_cannot_start_gets_a_user_turn_first() -> None:
    body, dropped = to_messages(chat({"role": "assistant", "content": "a "}, {"role": "user", "content": "u"}))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert dropped == ("messages(user turn put first)",)
    body, dropped = to_messages(chat({"role": "system", "content": "s"}))
    assert (body["system"], body["messages"][0]["role"]) == ("s", "user")


def test_an_answer_begun_by_the_caller_is_not_continued_by_openai() -> None:
    begun = {"role": "assistant", "content": "The answer is"}
    body, dropped = to_chat(messages({"role": "user", "content": "u"}, begun))
    assert body["messages"][-1] == begun
    assert dropped == ("messages(begun answer not continued)",)


def test_the_roles_of_turns_alternate_whatever_was_sent() -> None:
    found = read(CHAT, chat({"role": "user", "content": "a"}, {"role": "user", "content": "b"}))
    assert [(turn.role, len(turn.parts)) for turn in found.turns] == [(Role.USER, 2)]
