"""Response requests: what is read of them, and what is refused."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import InvalidRequest
from infermux.providers.dialects.neutral import (
    Base64,
    CacheControl,
    Conversation,
    Document,
    FileId,
    Image,
    JsonFormat,
    Reasoning,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    Url,
)
from tests._properties import examples
from tests.providers.dialects._openai_responses import FUNCTION, GRAMMAR, RESPONSES, SCHEMA, Json, request

USER: Json = {"role": "user", "content": "hi"}
EMPTY: list[Json] = []
SEALED: Json = {"type": "reasoning", "id": "rs_1", "summary": EMPTY, "encrypted_content": "gAAA"}


# What is read


def test_a_string_is_a_users_turn() -> None:
    found = request("Hello", instructions="Be brief.", model="gpt")
    assert found == Conversation(
        model="gpt", system=(Text(text="Be brief."),), turns=(Turn(role=Role.USER, parts=(Text(text="Hello"),)),)
    )


def test_items_are_turns() -> None:
    items: list[Json] = [
            {"role": "developer", "content": "Rules."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "Looking.", "annotations": EMPTY, "logprobs": EMPTY},
                {"type": "refusal", "refusal": "Or not."},
            ]},
            {"type": "function_call", "id": "fc", "call_id": "a", "name": "f", "arguments": "", "status": "completed"},
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "b", "name": "g", "input": "text"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": "B"},
            {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "A"}]},
            {"role": "system", "content": "More rules."},
            {"role": "assistant", "content": "Done."},
    ]  # fmt: skip
    found = request(items, instructions="First.")
    assert found.system == (Text(text="First."), Text(text="Rules."))
    assert found.turns == (
        Turn(role=Role.USER, parts=(Text(text="go"),)),
        Turn(
            role=Role.ASSISTANT,
            parts=(
                Thinking(text="hm"),
                Text(text="Looking."),
                Refusal(text="Or not."),
                ToolCall(id="a", name="f", arguments="{}"),
                ToolCall(id="b", name="g", arguments="text", freeform=True),
            ),
        ),
        Turn(
            role=Role.USER,
            parts=(ToolResult(call_id="b", parts=(Text(text="B"),)), ToolResult(call_id="a", parts=(Text(text="A"),))),
        ),
        Turn(role=Role.SYSTEM, parts=(Text(text="More rules."),)),
        Turn(role=Role.ASSISTANT, parts=(Text(text="Done."),)),
    )
    assert found.lost == ()


def test_images_and_files_are_read_wherever_their_bytes_are() -> None:
    found = request(
        [
            {"role": "user", "content": [
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "auto"},
                {"type": "input_image", "file_id": "file-1"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"},
                {"type": "input_file", "file_data": "QUJD", "detail": "auto"},
                {"type": "input_file", "file_url": "https://x/a.pdf"},
                {"type": "input_file", "file_id": "file-2", "detail": "high"},
            ]},
        ]
    )  # fmt: skip
    pdf = Base64(data="QUJD", media_type="application/pdf")
    assert found.turns[0].parts == (
        Image(source=Url(url="https://x/y.png"), detail="high"),
        Image(source=Base64(data="QUJD", media_type="image/png")),
        Image(source=FileId(id="file-1", dialect="openai.responses")),
        Document(source=pdf, title="a.pdf"),
        Document(source=pdf),
        Document(source=Url(url="https://x/a.pdf")),
        Document(source=FileId(id="file-2", dialect="openai.responses")),
    )
    assert found.lost == ("input.content.detail",)


def test_settings_are_read() -> None:
    found = request(
        max_output_tokens=64,
        temperature=0.5,
        top_p=0.9,
        reasoning={"effort": "low", "generate_summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
        parallel_tool_calls=False,
        user="u",
        metadata={"k": "v"},
        service_tier="flex",
        stream=True,
        include=["reasoning.encrypted_content"],
        store=False,
        truncation="disabled",
        background=False,
        top_logprobs=0,
        stream_options={"include_obfuscation": False},
        provider={"order": ["a"]},
        prompt_cache_key="k",
        previous_response_id=None,
    )
    assert attrs.evolve(found, turns=()) == Conversation(
        model="m",
        turns=(),
        max_tokens=64,
        temperature=0.5,
        top_p=0.9,
        reasoning=Reasoning(effort="low", summary="auto"),
        format=JsonFormat(schema=SCHEMA, name="n", strict=True),
        parallel_tool_calls=False,
        user="u",
        metadata={"k": "v"},
        service_tier="flex",
        stream=True,
        include_usage=True,
        extras={"verbosity": "low", "prompt_cache_key": "k"},
    )


@pytest.mark.parametrize(
    ("given", "form"), [({"type": "text"}, None), ({"type": "json_object"}, JsonFormat()), (None, None)]
)
def test_formats_are_read(given: Json | None, form: JsonFormat | None) -> None:
    assert request(text={"format": given}).format == form


def test_tools_are_read() -> None:
    custom: Json = {"type": "custom", "name": "patch", "description": "p", "format": GRAMMAR}
    found = request(
        tools=[{**FUNCTION, "defer_loading": False}, custom], tool_choice={"type": "custom", "name": "patch"}
    )
    assert found.tools == (
        Tool(name="weather", description="d", schema=SCHEMA, strict=True),
        Tool(name="patch", description="p", freeform=True, grammar=GRAMMAR),
    )
    assert found.tool_choice == ToolChoice(mode=ToolMode.NAMED, name="patch")
    assert found.lost == ()


def test_allowed_tools_narrow_the_tools() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    found = request(tools=[FUNCTION, {**FUNCTION, "name": "other"}], tool_choice=allowed)
    assert [tool.name for tool in found.tools] == ["weather"]
    assert found.tool_choice == ToolChoice(mode=ToolMode.REQUIRED)
    assert found.lost == ("tool_choice.allowed_tools(other tools left out)",)


def test_cache_control_on_items_parts_and_tools_is_read() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    point = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    items: list[Json] = [
        {"role": "user", "content": [{"type": "input_text", "text": "a", **point}]},
        {"role": "assistant", "content": "b", "cache_control": mark},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "cache_control": mark},
        {"type": "function_call_output", "call_id": "c", "output": "", "cache_control": mark},
        {"role": "user", "content": EMPTY, "cache_control": mark},
    ]
    found = request(items, tools=[{**FUNCTION, "cache_control": mark}])
    marks = [getattr(part, "cache_control", None) for turn in found.turns for part in turn.parts]
    assert marks == [CacheControl(), *[CacheControl(ttl="1h")] * 3]
    assert found.tools[0].cache_control == CacheControl(ttl="1h")
    assert found.lost == ("input.cache_control",)


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options"),
        ({"include": ["message.output_text.logprobs"]}, "include.message.output_text.logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools.web_search"),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools.defer_loading"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.grammar"),
        ({"input": [USER, {"type": "web_search_call", "id": "w"}]}, "input.web_search_call"),
        ({"input": [{**USER, "phase": "commentary"}]}, "input.phase"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input.content.input_audio"),
        (
            {"input": [USER, SEALED]},
            "input.encrypted_content",
        ),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image", "image_url": "https://x"}]}, USER]},
            "input.content(other than text of systems)",
        ),
    ],
)
def test_what_has_no_place_is_named(fields: Json, lost: str) -> None:
    found = request(**fields) if "input" in fields else request("hi", **fields)
    assert found.lost == (lost,)
    assert found.extras == {}


def test_unknown_fields_stand_by_their_names() -> None:
    assert request(max_tool_calls=3).extras == {"max_tool_calls": 3}


def test_reasoning_that_only_openai_can_read_leaves_no_empty_turn() -> None:
    found = request([USER, SEALED, USER])
    assert [turn.role for turn in found.turns] == [Role.USER]


# What is refused


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [USER, {"type": "compaction", "encrypted_content": "x"}]}, "input[1]"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 1}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"instructions": []}, "instructions"),
        ({"include": "x"}, "include"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**{"input": "hi", **fields})
    assert caught.value.param == param
    assert caught.value.status == 400


def test_a_refusal_of_state_says_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="send the whole conversation in `input`"):
        request(previous_response_id="resp_1")


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "role", "content", "input", "tools", "text", "name"]), inner, max_size=3)
), max_leaves=12))  # fmt: skip
@settings(max_examples=examples(80), deadline=None)
def test_anything_at_all_is_read_or_refused(value: object) -> None:
    for body in (value, {"input": value}, {"input": [USER, value]}, {"input": "hi", "tools": value}):
        try:
            RESPONSES.read_request(json.dumps(body).encode())
        except InvalidRequest:
            pass
