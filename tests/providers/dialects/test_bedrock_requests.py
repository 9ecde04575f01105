"""Requests for Converse: what each caller says arrives, as each family of models takes it, and losses are named."""

from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import InvalidRequest
from infermux.providers.dialects.bedrock_converse import DIALECT
from infermux.providers.dialects.bedrock_converse_models import traits
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.neutral import (
    Base64,
    CacheControl,
    Conversation,
    Document,
    FileId,
    Image,
    JsonFormat,
    Part,
    PlainText,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
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
from tests.mocks.bedrock_rules import check_converse
from tests.providers.dialects._cases import SCHEMA
from tests.providers.dialects._strategies import conversations

Json = dict[str, Any]

HAIKU = "eu.anthropic.claude-haiku-4-5-20251001-v1:0"
OPUS = "global.anthropic.claude-opus-4-6-v1"
OLD = "anthropic.claude-3-haiku-20240307-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
LLAMA = "meta.llama3-8b-instruct-v1:0"
OSS = "openai.gpt-oss-120b-1:0"
PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123def456"
MODELS = (HAIKU, OPUS, OLD, NOVA, LLAMA, OSS, PROFILE)
MARK = CacheControl()
CALL = ToolCall(id="call_1", name="get", arguments='{"city":"Rome"}')


def user(*parts: Part) -> Turn:
    return Turn(role=Role.USER, parts=parts or (Text(text="hi"),))


def said(*parts: Part) -> Turn:
    return Turn(role=Role.ASSISTANT, parts=parts)


def talk(*turns: Turn, **fields: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (user(),), **fields)


def written(conversation: Conversation, model: str = HAIKU, **target: Any) -> tuple[Json, tuple[str, ...]]:
    """What is sent, which the mock takes, and what was dropped."""
    done = DIALECT.write_request(conversation, Target(model=model, **target))
    body: Json = json.loads(done.body)
    check_converse(body, model, stream=conversation.stream)
    return body, done.loss.names


def content(part: Part, model: str = HAIKU) -> list[Json]:
    body, _ = written(talk(user(part)), model)
    found: list[Json] = body["messages"][0]["content"]
    return found


def test_the_model_and_whether_it_streams_are_not_in_the_body() -> None:
    body, lost = written(talk(stream=True, include_usage=True))
    assert body == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    assert lost == ()


def test_cache_marks_become_cache_points_behind_what_they_mark() -> None:
    conversation = talk(
        user(Text(text="a", cache_control=MARK), Text(text="b")),
        said(Text(text="c")),
        user(Text(text="d", cache_control=CacheControl(ttl="1h"))),
        system=(Text(text="s", cache_control=MARK),),
        tools=(Tool(name="t", schema=SCHEMA, cache_control=MARK),),
    )
    body, lost = written(conversation)
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "s"}, point]
    assert body["toolConfig"]["tools"][1] == point
    assert body["messages"][0]["content"] == [{"text": "a"}, point, {"text": "b"}]
    assert body["messages"][2]["content"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert lost == ()


def test_the_mark_of_the_whole_request_stands_at_its_end() -> None:
    body, _ = written(talk(cache_control=MARK))
    assert body["messages"][-1]["content"][-1] == {"cachePoint": {"type": "default"}}


def test_a_ttl_that_there_is_not_is_dropped_alone() -> None:
    body, lost = written(talk(user(Text(text="a", cache_control=CacheControl(ttl="24h")))))
    assert body["messages"][0]["content"][1] == {"cachePoint": {"type": "default"}}
    assert lost == ("cache_control.ttl",)


@pytest.mark.parametrize(("model", "texts", "tools"), [(HAIKU, 1, 1), (NOVA, 1, 0), (LLAMA, 0, 0), (PROFILE, 1, 1)])
def test_models_without_cache_points_are_sent_none(model: str, texts: int, tools: int) -> None:
    marked = Text(text="a", cache_control=MARK)
    conversation = talk(user(marked), tools=(Tool(name="t", schema=SCHEMA, cache_control=MARK),))
    done = DIALECT.write_request(conversation, Target(model=model))
    body = json.loads(done.body)
    assert json.dumps(body["messages"]).count("cachePoint") == texts
    assert json.dumps(body["toolConfig"]).count("cachePoint") == tools
    assert ("cache_control" in done.loss.names) == (not (texts and tools))


def test_images_are_sent_as_bytes_in_their_format() -> None:
    image = Image(source=Base64(data="QUJD", media_type="image/jpeg"))
    assert content(image) == [{"image": {"format": "jpeg", "source": {"bytes": "QUJD"}}}]
    stored = Image(source=Url(url="s3://bucket/a.webp"))
    assert content(stored) == [{"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp"}}}}]


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (Image(source=Url(url="https://example.org/a.png")), "fetch_images"),
        (Image(source=FileId(id="f", dialect="openai")), "file id"),
        (Image(source=Base64(data="QUJD", media_type="image/tiff")), "image/tiff.*PNG"),
        (Document(source=Url(url="https://example.org/a.pdf")), "as base64"),
        (Document(source=FileId(id="f", dialect="openai")), "file id"),
        (Document(source=Base64(data="QUJD", media_type="application/zip")), "application/zip.*pdf"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_what_can(part: Image | Document, what: str) -> None:
    for inner in (part, ToolResult(call_id="call_1", parts=(part,))):
        with pytest.raises(InvalidRequest, match=what):
            DIALECT.write_request(talk(said(CALL), user(inner)), Target(model=HAIKU))


def test_documents_have_the_names_the_api_takes_each_once() -> None:
    source = Base64(data="QUJD", media_type="application/pdf")
    plain = Document(source=PlainText(text="ä"), context="about", citations=True)
    documents = [Document(source=source, title=title) for title in ("Plan  v1.pdf", "Plan v1-pdf", None, "...")]
    body, lost = written(talk(user(*documents, plain)))
    found = [block["document"] for block in body["messages"][0]["content"]]
    assert [one["name"] for one in found] == ["Plan v1-pdf", "Plan v1-pdf (2)", "document-3", "-", "document-5"]
    assert lost == ("document.title(rewritten)",)
    text = base64.b64encode("ä".encode()).decode()
    assert found[-1] == {
        "format": "txt",
        "name": "document-5",
        "source": {"bytes": text},
        "context": "about",
        "citations": {"enabled": True},
    }


def test_parallel_results_are_one_turn_in_order_with_their_status() -> None:
    other = attrs.evolve(CALL, id="call_2", arguments="")
    results = (
        ToolResult(call_id="call_2", parts=(Image(source=Base64(data="QUJD", media_type="image/png")),)),
        ToolResult(call_id="call_1", parts=(Text(text="no"),), is_error=True),
    )
    body, lost = written(talk(user(), said(Text(text=" "), CALL, other), user(*results), tools=(Tool(name="get"),)))
    calls, answers = body["messages"][1]["content"], body["messages"][2]["content"]
    assert [call["toolUse"]["input"] for call in calls] == [{"city": "Rome"}, {}]
    assert answers[0]["toolResult"]["toolUseId"] == "call_2"
    assert answers[1]["toolResult"] == {"toolUseId": "call_1", "content": [{"text": "no"}], "status": "error"}
    assert lost == ()


def test_ids_the_api_refuses_are_rewritten_the_same_in_call_and_result() -> None:
    long = "call|" + "x" * 80
    body, lost = written(
        talk(user(), said(attrs.evolve(CALL, id=long)), user(ToolResult(call_id=long)), tools=(Tool(name="get"),))
    )
    call, result = body["messages"][1]["content"][0]["toolUse"], body["messages"][2]["content"][0]["toolResult"]
    assert call["toolUseId"] == result["toolUseId"] != long
    assert lost == ("tool_calls.id(rewritten)",)


def test_arguments_that_are_no_object_are_wrapped() -> None:
    call = attrs.evolve(CALL, arguments="[1")
    body, lost = written(talk(user(), said(call), user(ToolResult(call_id="call_1")), tools=(Tool(name="get"),)))
    assert body["messages"][1]["content"][0]["toolUse"]["input"] == {"arguments": "[1"}
    assert lost == ("tool_calls.arguments(wrapped)",)


def test_calls_in_the_history_define_their_tools_where_the_caller_does_not() -> None:
    body, lost = written(talk(user(), said(CALL), user(ToolResult(call_id="call_1"))))
    assert body["toolConfig"] == {"tools": [{"toolSpec": {"name": "get", "inputSchema": {"json": {"type": "object"}}}}]}
    assert lost == ("tools(named from the messages)",)


def test_signed_and_redacted_thinking_survives_a_tool_turn() -> None:
    thoughts = (Thinking(text="hm", signature="sig"), RedactedThinking(data="QUJD"))
    body, lost = written(
        talk(user(), said(*thoughts, CALL), user(ToolResult(call_id="call_1")), tools=(Tool(name="get"),))
    )
    assert body["messages"][1]["content"][:2] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "QUJD"}},
    ]
    assert lost == ()


@pytest.mark.parametrize(
    ("model", "thought"), [(HAIKU, Thinking(text="hm")), (LLAMA, Thinking(text="hm", signature="s"))]
)
def test_thinking_that_cannot_be_verified_is_dropped(model: str, thought: Thinking) -> None:
    body, lost = written(talk(user(), said(thought, Text(text="a")), user()), model)
    assert body["messages"][1]["content"] == [{"text": "a"}]
    assert lost == ("thinking",)


def test_a_refusal_is_text_and_system_turns_are_the_users() -> None:
    late = Turn(role=Role.SYSTEM, parts=(Text(text="be brief"),))
    body, lost = written(talk(user(), said(Refusal(text="no")), late, user()))
    assert body["messages"][1]["content"] == [{"text": "no"}]
    assert body["messages"][2]["content"] == [{"text": "be brief"}, {"text": "hi"}]
    assert lost == ("messages.system(as user)", "refusal(as text)")


@pytest.mark.parametrize("turns", [(said(Text(text="a")), user()), (user(Text(text=" ")),)])
def test_a_conversation_starts_with_the_users_turn(turns: tuple[Turn, ...]) -> None:
    body, lost = written(talk(*turns))
    assert body["messages"][0] == {"role": "user", "content": [{"text": "."}]}
    assert lost == ("messages(user turn put first)",)


# Tools and formats.
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice(mode=ToolMode.AUTO), {"auto": {}}),
        (ToolChoice(mode=ToolMode.REQUIRED), {"any": {}}),
        (ToolChoice(mode=ToolMode.NAMED, name="get"), {"tool": {"name": "get"}}),
        (None, None),
    ],
)
def test_tool_choices(choice: ToolChoice | None, expected: Json | None) -> None:
    body, lost = written(talk(tools=(Tool(name="get", description="", schema=SCHEMA),), tool_choice=choice))
    assert body["toolConfig"].get("toolChoice") == expected
    assert body["toolConfig"]["tools"] == [{"toolSpec": {"name": "get", "inputSchema": {"json": SCHEMA}}}]
    assert lost == ()


def test_tools_that_must_not_be_called_are_not_sent_unless_the_history_needs_them() -> None:
    none, tools = ToolChoice(mode=ToolMode.NONE), (Tool(name="get", schema=SCHEMA),)
    body, lost = written(talk(tools=tools, tool_choice=none))
    assert "toolConfig" not in body
    assert lost == ()
    history = (user(), said(CALL), user(ToolResult(call_id="call_1")))
    body, lost = written(talk(*history, tools=tools, tool_choice=none))
    assert "toolChoice" not in body["toolConfig"]
    assert lost == ("tool_choice",)


def test_what_tools_cannot_have_is_named() -> None:
    tools = (Tool(name="get", schema=SCHEMA, strict=True), Tool(name="patch", freeform=True))
    _, lost = written(talk(tools=tools, parallel_tool_calls=False), OLD)
    assert lost == ("tools.strict", "tools.custom", "parallel_tool_calls")
    body, lost = written(talk(tools=tools[:1]))
    assert body["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
    assert lost == ()
    _, lost = written(talk(tool_choice=ToolChoice(mode=ToolMode.REQUIRED)))
    assert lost == ("tool_choice",)


@pytest.mark.parametrize("model", [HAIKU, OSS])
def test_a_schema_is_native_where_the_model_has_it(model: str) -> None:
    form = JsonFormat(schema=SCHEMA, name="place", description="where")
    body, lost = written(talk(format=form), model)
    given = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert json.loads(given.pop("schema")) == SCHEMA
    assert given == {"name": "place", "description": "where"}
    assert lost == ()


def test_a_schema_is_a_forced_tool_elsewhere() -> None:
    done = DIALECT.write_request(talk(format=JsonFormat(schema=SCHEMA)), Target(model=OLD))
    body = json.loads(done.body)
    check_converse(body, OLD, stream=False)
    assert done.json_tool is not None
    assert body["toolConfig"]["toolChoice"] == {"tool": {"name": done.json_tool}}
    assert body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"] == SCHEMA


def test_json_mode_is_an_instruction_and_what_no_tool_can_say_is_dropped() -> None:
    body, lost = written(talk(format=JsonFormat()))
    assert "JSON object" in body["system"][-1]["text"]
    assert lost == ("response_format(as instruction)",)
    body, lost = written(talk(format=JsonFormat(schema={"type": "array"})), OLD)
    assert lost == ("response_format",)


# Limits and sampling.
def test_out_of_range_values_are_clamped_and_named() -> None:
    body, lost = written(talk(temperature=1.7, max_tokens=999_999), LLAMA, max_tokens=2048)
    assert body["inferenceConfig"] == {"maxTokens": 2048, "temperature": 1.0}
    assert lost == ("max_tokens(clamped)", "temperature(clamped)")
    body, lost = written(talk(max_tokens=999_999))
    assert body["inferenceConfig"] == {"maxTokens": 64_000}


def test_newer_claudes_take_one_of_temperature_and_top_p() -> None:
    conversation = talk(temperature=0.5, top_p=0.5)
    body, lost = written(conversation, HAIKU)
    assert (body["inferenceConfig"], lost) == ({"temperature": 0.5}, ("top_p",))
    body, lost = written(conversation, LLAMA)
    assert (body["inferenceConfig"], lost) == ({"temperature": 0.5, "topP": 0.5}, ())


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (OLD, {"top_k": 5}),
        (NOVA, {"inferenceConfig": {"topK": 5}}),
        ("cohere.command-r-v1:0", {"k": 5}),
        (LLAMA, None),
    ],
)
def test_top_k_is_another_field_for_each_family(model: str, more: Json | None) -> None:
    body, lost = written(talk(top_k=5), model)
    assert body.get("additionalModelRequestFields") == more
    assert lost == (() if more else ("top_k",))


def test_claudes_are_asked_which_stop_sequence_was_hit() -> None:
    body, lost = written(talk(stop=("a", " ")))
    assert body["inferenceConfig"] == {"stopSequences": ["a"]}
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert lost == ("stop(blank ones left out)",)
    body, _ = written(talk(stop=("a",)), LLAMA)
    assert "additionalModelResponseFieldPaths" not in body


BUDGET = Reasoning(mode=ReasoningMode.BUDGET, budget_tokens=2000)


@pytest.mark.parametrize(
    ("model", "reasoning", "more", "output", "lost"),
    [
        (HAIKU, BUDGET, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, None, ()),
        (OPUS, Reasoning(effort="high"), {"thinking": {"type": "adaptive"}}, {"effort": "high"}, ()),
        (
            OPUS,
            Reasoning(effort="minimal"),
            {"thinking": {"type": "adaptive"}},
            {"effort": "low"},
            ("reasoning.effort(clamped)",),
        ),
        (
            HAIKU,
            Reasoning(effort="low", summary="auto"),
            {"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "summarized"}},
            None,
            ("reasoning(as budget)",),
        ),
        (HAIKU, Reasoning(mode=ReasoningMode.OFF), {"thinking": {"type": "disabled"}}, None, ()),
        (HAIKU, Reasoning(effort="none"), {"thinking": {"type": "disabled"}}, None, ()),
        (OLD, BUDGET, None, None, ("reasoning",)),
        (LLAMA, BUDGET, None, None, ("reasoning",)),
        (LLAMA, Reasoning(effort="none"), None, None, ()),
        (OSS, Reasoning(effort="medium"), {"reasoning_effort": "medium"}, None, ()),
        (OSS, BUDGET, {"reasoning_effort": "low"}, None, ("reasoning(as effort)",)),
        (OSS, Reasoning(mode=ReasoningMode.OFF), None, None, ("reasoning",)),
        (
            NOVA,
            Reasoning(effort="xhigh"),
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
            None,
            ("reasoning(as effort)",),
        ),
        (
            "us.anthropic.claude-opus-4-7",
            BUDGET,
            {"thinking": {"type": "adaptive"}},
            {"effort": "low"},
            ("reasoning(as effort)",),
        ),
    ],
)
def test_reasoning_is_another_field_for_each_family(
    model: str, reasoning: Reasoning, more: Json | None, output: Json | None, lost: tuple[str, ...]
) -> None:
    body, dropped = written(talk(reasoning=reasoning), model)
    assert body.get("additionalModelRequestFields") == more
    assert body.get("outputConfig") == output
    assert dropped == lost


def test_a_budget_is_less_than_the_bound() -> None:
    body, lost = written(talk(reasoning=BUDGET, max_tokens=1500))
    assert body["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1499
    assert lost == ("reasoning.budget_tokens(clamped)",)
    body, lost = written(talk(reasoning=BUDGET, max_tokens=1000))
    assert lost == ("reasoning",)


def test_thinking_fixes_the_sampling() -> None:
    body, lost = written(talk(reasoning=BUDGET, temperature=0.2, top_p=0.97, top_k=3))
    assert body["inferenceConfig"] == {"topP": 0.97}
    assert lost == ("temperature", "top_k")


def test_a_forced_tool_goes_before_thinking() -> None:
    tools, choice = (Tool(name="get", schema=SCHEMA),), ToolChoice(mode=ToolMode.REQUIRED)
    body, lost = written(talk(reasoning=BUDGET, tools=tools, tool_choice=choice))
    assert "additionalModelRequestFields" not in body
    assert lost == ("reasoning",)


def test_a_tool_turn_without_its_thinking_is_answered_without_thinking() -> None:
    history = (user(), said(CALL), user(ToolResult(call_id="call_1")))
    _, lost = written(talk(*history, tools=(Tool(name="get"),), reasoning=BUDGET))
    assert lost == ("reasoning",)
    signed = said(Thinking(text="", signature="s"), CALL)
    body, lost = written(talk(history[0], signed, history[2], tools=(Tool(name="get"),), reasoning=BUDGET))
    assert "thinking" in body["additionalModelRequestFields"]
    assert lost == ()


# The rest.
def test_the_account_is_carried_in_metadata_and_tier() -> None:
    body, lost = written(talk(user="u-1", metadata={"team": "a"}, service_tier="flex"))
    assert body["requestMetadata"] == {"team": "a", "user": "u-1"}
    assert body["serviceTier"] == {"type": "flex"}
    assert lost == ()
    _, lost = written(talk(user="é", service_tier="scale"))
    assert lost == ("user", "service_tier")
    many = {f"k{number}": "v" for number in range(20)}
    body, lost = written(talk(metadata=many, service_tier="auto"))
    assert len(body["requestMetadata"]) == 16
    assert lost == ("metadata",)


def test_bedrocks_own_fields_are_carried_and_others_named() -> None:
    guard = {"guardrailIdentifier": "abc", "guardrailVersion": "1"}
    extras = {"guardrailConfig": guard, "seed": 1, "additionalModelRequestFields": {"top_k": 9, "x": 1}}
    body, lost = written(talk(extras=extras, top_k=5, lost=("messages.content.input_audio",)), OLD)
    assert body["guardrailConfig"] == guard
    assert body["additionalModelRequestFields"] == {"top_k": 9, "x": 1}
    assert lost == ("messages.content.input_audio", "seed")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        (HAIKU, "anthropic"),
        (NOVA, "amazon.nova"),
        (LLAMA, "meta"),
        ("arn:aws:bedrock:us-east-1::foundation-model/mistral.mistral-large-2402-v1:0", "mistral"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-6", "anthropic"),
        (PROFILE, ""),
    ],
)
def test_the_family_is_read_off_ids_profiles_and_arns(model: str, family: str) -> None:
    assert traits(model).family == family


# Read again.
def base64_only(part: Part) -> Part:
    """Pictures by their bytes, and documents with names that need no rewriting."""
    if isinstance(part, ToolResult):
        inner = [found for given in part.parts if isinstance(found := base64_only(given), Text | Image | Document)]
        return attrs.evolve(part, parts=tuple(inner))
    if isinstance(part, Image) and isinstance(part.source, Url):
        return attrs.evolve(part, source=Base64(data="QUJD", media_type="image/png"))
    if isinstance(part, Document) and part.title is not None:
        return attrs.evolve(part, title=None)
    if isinstance(part, RedactedThinking):
        return RedactedThinking(data="QUJD")
    return part


def sendable(conversation: Conversation) -> Conversation:
    turns = tuple(
        attrs.evolve(turn, parts=tuple(base64_only(part) for part in turn.parts)) for turn in conversation.turns
    )
    return attrs.evolve(conversation, turns=turns)


def carried(conversation: Conversation) -> Conversation:
    """The part that Converse has a place for, as it is read again."""
    choice, tools = conversation.tool_choice, conversation.tools
    if choice is not None and choice.mode is ToolMode.NONE:
        choice = None
        if not any(isinstance(part, ToolCall) for turn in conversation.turns for part in turn.parts):
            tools = ()
    tier = None if conversation.service_tier == "auto" else conversation.service_tier
    return attrs.evolve(
        sendable(conversation),
        model="",
        stream=False,
        include_usage=True,
        tool_choice=choice,
        tools=tools,
        service_tier=tier,
    )


@given(conversations(model=PROFILE, everything=False))
@settings(max_examples=40, deadline=None)
def test_there_and_back_is_the_identity_on_what_is_carried(conversation: Conversation) -> None:
    done = DIALECT.write_request(sendable(conversation), Target(model=PROFILE))
    assert DIALECT.read_request(done.body) == carried(conversation)
    assert set(done.loss.names) <= {"tool_choice"}


@given(conversations(model="m", everything=True), st.sampled_from(MODELS))
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_what_the_api_takes(conversation: Conversation, model: str) -> None:
    conversation = sendable(conversation)
    signed = attrs.evolve(conversation, cache_control=None)
    done = DIALECT.write_request(signed, Target(model=model))
    body = json.loads(done.body)
    if json.dumps(body).count('"cachePoint"') <= 4:
        check_converse(body, model, stream=False)
    read = DIALECT.read_request(done.body)
    again = json.loads(DIALECT.write_request(attrs.evolve(read, model=model), Target(model=model)).body)
    assert again["messages"] == body["messages"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"[]", "an object"),
        (b"{}", "messages is required"),
        (b"nope", "not JSON"),
        (b'{"messages":[{"role":"tool","content":[]}]}', "messages.0..role"),
        (b'{"messages":[{"role":"user","content":[{"image":{"format":"bmp","source":{}}}]}]}', "image.format"),
        (b'{"messages":[{"role":"user","content":[{"document":{"name":"a","format":"x","source":{}}}]}]}', "format"),
        (b'{"messages":[{"role":"user","content":[{"toolUse":{"name":"a"}}]}]}', "toolUseId is required"),
        (b'{"messages":[{"role":"user","content":[]}],"additionalModelRequestFields":{"thinking":1}}', "thinking"),
        (
            b'{"messages":[{"role":"user","content":[]}],"additionalModelRequestFields":{"thinking":{"type":"x"}}}',
            "thinking.type",
        ),
        (
            b'{"messages":[{"role":"user","content":[]}],"outputConfig":{"textFormat":{"structure":'
            b'{"jsonSchema":{"schema":"no"}}}}}',
            "schema",
        ),
    ],
)
def test_a_body_that_is_no_request_is_refused_with_the_path(body: bytes, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        DIALECT.read_request(body)


def test_everything_of_a_native_request_is_read() -> None:
    request: Json = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"document": {"name": "a", "source": {"text": "t"}}},
                    {"document": {"name": "b", "source": {"content": [{"text": "x"}, {"text": "y"}]}}},
                    {"document": {"name": "c", "format": "txt", "source": {"bytes": "/w=="}}},
                    {
                        "document": {
                            "name": "document-4",
                            "format": "pdf",
                            "source": {"s3Location": {"uri": "s3://b/a"}},
                        }
                    },
                    {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/i"}}}},
                    {"video": {"format": "mp4", "source": {"bytes": "QUJD"}}},
                    {"cachePoint": {"type": "default", "ttl": "5m"}},
                ],
            },
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "n", "type": "server_tool_use"}}]},
            {"role": "user", "content": [{"cachePoint": {"type": "default"}}, {"text": "x"}]},
        ],
        "system": [{"text": "s"}, {"guardContent": {"text": {"text": "g"}}}],
        "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}], "toolChoice": {"any": {}}},
        "additionalModelRequestFields": {"thinking": {"type": "adaptive"}, "top_k": 3, "beta": True},
        "outputConfig": {"effort": "low"},
        "performanceConfig": {"latency": "optimized"},
        "serviceTier": {"type": "priority"},
    }
    found = DIALECT.read_request(json.dumps(request).encode())
    parts = found.turns[0].parts
    assert [type(part) for part in parts] == [Document, Document, Document, Document, Image]
    assert parts[0] == Document(source=PlainText(text="t"), title="a")
    assert parts[1] == Document(source=PlainText(text="x\n\ny"), title="b")
    assert parts[2] == Document(source=Base64(data="/w==", media_type="text/plain"), title="c")
    assert parts[3] == Document(source=Url(url="s3://b/a"))
    assert parts[4] == Image(source=Url(url="s3://b/i"), cache_control=CacheControl(ttl="5m"))
    assert found.reasoning == Reasoning(mode=ReasoningMode.ADAPTIVE, effort="low")
    assert (found.top_k, found.service_tier, found.tool_choice) == (3, "priority", ToolChoice(mode=ToolMode.REQUIRED))
    assert found.extras == {
        "additionalModelRequestFields": {"beta": True},
        "performanceConfig": {"latency": "optimized"},
    }
    assert found.lost == (
        "messages.content.video",
        "server_tool_use",
        "cache_control",
        "toolConfig.tools.systemTool",
        "system.guardContent",
    )
