"""What translations between chat completions and Anthropic's messages get wrong from turn to turn, each on its own."""

from __future__ import annotations

import json

import pytest

from infermux.errors import InvalidRequest
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.kept_thinking import ThinkingStore
from infermux.providers.dialects.neutral import StopReason, ToolCall
from infermux.providers.dialects.neutral_events import (
    ArgumentsDelta,
    Ended,
    PartStarted,
    Started,
    TextDelta,
)
from infermux.providers.interface import Usage
from tests.providers.dialects._cases import (
    CHAT,
    CLAUDE,
    MESSAGES,
    SCHEMA,
    Json,
    asked,
    block_stream,
    chat,
    chat_stream,
    chat_to_claude,
    chunk,
    claude_to_chat,
    message_events,
    messages,
    read_stream,
    sse,
    to_chat,
    to_messages,
    tool_chunk,
)
from tests.providers.dialects._tools import (
    FUNCTION,
    REDACTED,
    SIGNED,
    THOUGHTFUL,
    TOOL_USE,
    asking,
    call,
    result,
    whole,
)

MARK = {"type": "ephemeral", "ttl": "1h"}


# cache_control


def test_cache_control_survives_on_system_tools_messages_and_parts() -> None:
    request = chat(
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": MARK}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "u", "cache_control": MARK}, {"type": "text", "text": "v"}],
        },
        {"role": "assistant", "content": "a", "cache_control": MARK},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}, "cache_control": MARK}],
        },
        tools=[{**FUNCTION, "cache_control": MARK}],
    )
    body, dropped = to_messages(request)
    assert dropped == ()
    assert body["system"] == [{"type": "text", "text": "s", "cache_control": MARK}]
    assert body["tools"][0]["cache_control"] == MARK
    user, assistant, image = body["messages"]
    assert [block.get("cache_control") for block in user["content"]] == [MARK, None]
    assert assistant["content"][0]["cache_control"] == MARK
    assert image["content"][0]["cache_control"] == MARK


def test_cache_control_on_tool_results_and_calls_survives() -> None:
    request = chat(
        {"role": "user", "content": "u"},
        asking({**call("a"), "cache_control": MARK}),
        {**result("a"), "cache_control": MARK},
        tools=[FUNCTION],
    )
    body, _ = to_messages(request)
    assert body["messages"][1]["content"][0]["cache_control"] == MARK
    assert body["messages"][2]["content"][0]["cache_control"] == MARK


def test_cache_control_that_openai_cannot_carry_is_named() -> None:
    body, dropped = to_chat(messages(system=[{"type": "text", "text": "s", "cache_control": MARK}]))
    assert dropped == ("cache_control",)
    assert body["messages"][0] == {"role": "system", "content": "s"}


def test_thinking_and_signatures_survive_a_tool_use_turn_of_an_anthropic_caller() -> None:
    request = messages(
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [SIGNED, REDACTED, TOOL_USE]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]},
        tools=[{"name": "weather", "input_schema": SCHEMA}],
    )
    conversation = MESSAGES.read_request(json.dumps(request).encode())
    body = json.loads(MESSAGES.write_request(conversation, Target(model=CLAUDE)).body)
    assert body["messages"][1]["content"] == [SIGNED, REDACTED, TOOL_USE]


@pytest.mark.parametrize("streamed", [False, True])
def test_thinking_is_kept_for_a_caller_that_cannot_carry_it_and_put_back(streamed: bool) -> None:
    kept = ThinkingStore()
    first = chat_to_claude(chat(tools=[FUNCTION], reasoning_effort="high"), kept=kept)
    if streamed:
        reader = read_stream(
            MESSAGES,
            message_events(
                [
                    {**SIGNED, "thinking": "", "signature": ""},
                    {"type": "thinking_delta", "thinking": "hm"},
                    {"type": "signature_delta", "signature": "sig"},
                ],
                [REDACTED],
                [{"type": "text", "text": ""}, {"type": "text_delta", "text": "Let me look."}],
                [{**TOOL_USE, "input": {}}, {"type": "input_json_delta", "partial_json": '{"city": "Oslo"}'}],
                end={"stop_reason": "tool_use"},
            ),
        )
        kept.keep(fold(reader).parts, 0.0)
        answer = json.loads(CHAT.write_answer(fold(reader), asked()))
    else:
        answer = json.loads(first.answer(whole(THOUGHTFUL)).body)
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    assert "sig" not in json.dumps(message)
    request = chat(
        {"role": "user", "content": "hi"},
        message,
        result("toolu_1"),
        tools=[FUNCTION],
        reasoning_effort="high",
    )
    second = chat_to_claude(request, kept=kept)
    turn = json.loads(second.body)["messages"][1]
    assert turn["content"] == [SIGNED, REDACTED, {"type": "text", "text": "Let me look."}, TOOL_USE]
    assert second.dropped == ("reasoning(as budget)",)


def test_lost_thinking_switches_thinking_off_where_the_api_would_refuse_the_turn_without_it() -> None:
    request = chat(
        {"role": "user", "content": "hi"},
        asking(call("toolu_1")),
        result("toolu_1"),
        tools=[FUNCTION],
        reasoning_effort="high",
    )
    body, dropped = to_messages(request)
    assert "thinking" not in body
    assert dropped == ("reasoning",)
    newer, dropped = to_messages(request, model="claude-opus-4-6")  # adaptive thinking has no such rule
    assert newer["thinking"] == {"type": "adaptive"}
    assert dropped == ()


# tool results


def test_parallel_tool_results_become_one_user_turn_in_order() -> None:
    request = chat(
        {"role": "user", "content": "weather?"},
        asking(call("a"), call("b"), call("c")),
        result("b", "1"),
        result("a", "2"),
        result("c", [{"type": "text", "text": "3"}]),
        {"role": "user", "content": "thanks"},
        tools=[FUNCTION],
    )
    body, dropped = to_messages(request)
    assert dropped == ()
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    content = body["messages"][2]["content"]
    assert [(block["type"], block.get("tool_use_id"), block.get("content")) for block in content] == [
        ("tool_result", "b", "1"),
        ("tool_result", "a", "2"),
        ("tool_result", "c", "3"),
        ("text", None, None),
    ]


@pytest.mark.parametrize("after", [[], [{"role": "user", "content": "never mind"}], [result("b")]])
def test_a_missing_tool_result_is_refused_naming_the_id(after: list[Json]) -> None:
    request = chat({"role": "user", "content": "u"}, asking(call("b"), call("call_lost")), *after, tools=[FUNCTION])
    with pytest.raises(InvalidRequest, match=r"'(call_lost|b)'") as caught:
        to_messages(request)
    assert caught.value.status == 400


def test_a_tool_result_without_a_call_is_refused_naming_the_id() -> None:
    stray = [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}]
    with pytest.raises(InvalidRequest, match="toolu_9"):
        to_chat(messages({"role": "user", "content": stray}))


def test_pictures_in_tool_results_follow_the_tool_messages_for_openai() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    request = messages(
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [TOOL_USE, {**TOOL_USE, "id": "toolu_2"}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "here"}, image]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "there"},
            ],
        },
        tools=[{"name": "weather", "input_schema": SCHEMA}],
    )
    body, dropped = to_chat(request)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    assert body["messages"][4]["content"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]
    assert dropped == ("tool_result.content(images and documents moved)",)


# streamed tool calls


def test_streamed_tool_deltas_keep_index_and_id() -> None:
    data = sse(
        chunk({"role": "assistant", "content": None}),
        tool_chunk({"index": 0, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}}),
        tool_chunk({"index": 0, "function": {"arguments": '{"x":'}}),
        tool_chunk({"index": 0, "function": {"arguments": "1}"}}),
        tool_chunk({"index": 1, "id": "call_b", "type": "function", "function": {"name": "g", "arguments": ""}}),
        tool_chunk({"index": 1, "function": {"arguments": '{"y":2}'}}),
        chunk(finish="tool_calls"),
        b"[DONE]",
    )
    blocks = block_stream(MESSAGES.stream_writer(asked()).write(read_stream(CHAT, data)))
    starts = [event for event in blocks if event["type"] == "content_block_start"]
    assert [(event["index"], event["content_block"]["id"]) for event in starts] == [(0, "call_a"), (1, "call_b")]
    deltas = [(event["index"], event["delta"]["partial_json"]) for event in blocks if "partial_json" in str(event)]
    assert deltas == [(0, '{"x":'), (0, "1}"), (1, '{"y":2}')]


def test_tool_calls_after_text_count_from_zero_for_openai() -> None:
    data = message_events(
        [{"type": "text", "text": ""}, {"type": "text_delta", "text": "ok"}],
        [{**TOOL_USE, "input": {}}, {"type": "input_json_delta", "partial_json": '{"city":1}'}],
        [{**TOOL_USE, "id": "toolu_2", "input": {}}, {"type": "input_json_delta", "partial_json": '{"city":2}'}],
        end={"stop_reason": "tool_use"},
    )
    chunks = chat_stream(CHAT.stream_writer(asked()).write(read_stream(MESSAGES, data)))
    calls = [found for item in chunks for found in item["choices"][0]["delta"].get("tool_calls", ())]
    assert [(found["index"], found.get("id"), found["function"]["arguments"]) for found in calls] == [
        (0, "toolu_1", ""),
        (0, None, '{"city":1}'),
        (1, "toolu_2", ""),
        (1, None, '{"city":2}'),
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_empty_arguments_become_an_empty_object_whole_and_streamed() -> None:
    data = message_events([{**TOOL_USE, "input": {}}, {"type": "input_json_delta", "partial_json": ""}])
    streamed = fold(read_stream(MESSAGES, data)).parts
    tool = tool_chunk({"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}})
    other = fold(read_stream(CHAT, sse(tool, chunk(finish="tool_calls"), b"[DONE]"))).parts
    body, _ = to_messages(chat({"role": "user", "content": "u"}, asking(call("a", "")), result("a"), tools=[FUNCTION]))
    assert [part.arguments for part in (*streamed, *other) if isinstance(part, ToolCall)] == ["{}", "{}"]
    assert body["messages"][1]["content"][0]["input"] == {}


# what providers' streams do


def test_azure_s_first_chunk_without_choices_and_its_filter_chunks_say_nothing() -> None:
    data = sse(
        {
            "id": "",
            "object": "",
            "created": 0,
            "model": "",
            "choices": [],
            "prompt_filter_results": [{"prompt_index": 0}],
        },
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hi"}),
        {**chunk(), "choices": [{"index": 0, "finish_reason": None, "content_filter_results": {"hate": {}}}]},
        {**chunk(), "choices": [{"index": 0, "delta": {}, "finish_reason": None, "content_filter_offsets": {}}]},
        chunk(finish="stop"),
        {**chunk(), "choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}},
        b"[DONE]",
    )
    events = read_stream(CHAT, data)
    assert events[0] == Started(id="chatcmpl-1", model="gpt-4o", created=1)
    assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta(0, "Hi")]
    assert events[-1] == Ended(stop=StopReason.END, usage=Usage(prompt_tokens=4, completion_tokens=1))


@pytest.mark.parametrize("numbered", [True, False])
def test_ollama_s_whole_tool_calls_while_streaming(numbered: bool) -> None:
    calls: list[Json] = [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": '{"x":1}'}} for name in "ab"
    ]
    if numbered:
        calls = [{"index": 0, **found} for found in calls]  # all with the same index, as Gemini's endpoint has it
    events = read_stream(CHAT, sse(chunk({"role": "assistant", "content": "", "tool_calls": calls}, "stop"), b"[DONE]"))
    assert [event.part for event in events if isinstance(event, PartStarted)] == [
        ToolCall(id="call_a", name="a"),
        ToolCall(id="call_b", name="b"),
    ]
    assert [event for event in events if isinstance(event, ArgumentsDelta)] == [
        ArgumentsDelta(0, '{"x":1}'),
        ArgumentsDelta(1, '{"x":1}'),
    ]
    assert isinstance(events[-1], Ended)
    assert events[-1].stop is StopReason.TOOL_USE, "`stop` after tool calls is a call of tools"


def test_reasoning_content_becomes_thinking_and_thinking_reasoning_content() -> None:
    answer = {
        **chunk(),
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"reasoning_content": "hm", "content": "42"}}],
    }
    translated = json.loads(claude_to_chat(messages()).answer(whole(answer)).body)
    assert [block["type"] for block in translated["content"]] == ["thinking", "text"]
    back = json.loads(chat_to_claude(chat()).answer(whole(THOUGHTFUL)).body)
    assert back["choices"][0]["message"]["reasoning_content"] == "hm"
