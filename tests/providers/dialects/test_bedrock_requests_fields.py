"""Fields of a request for Converse, each as its family of models takes it, and what is lost is named."""

from __future__ import annotations

import json

import pytest

from infermux.providers.dialects.bedrock_converse import DIALECT
from infermux.providers.dialects.bedrock_converse_models import traits
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.neutral import (
    JsonFormat,
    Reasoning,
    ReasoningMode,
    Thinking,
    Tool,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from tests.mocks.bedrock_rules import check_converse
from tests.providers.dialects._cases import SCHEMA
from tests.providers.dialects._converse import (
    CALL,
    HAIKU,
    LLAMA,
    NOVA,
    OLD,
    OPUS,
    OSS,
    PROFILE,
    Json,
    said,
    talk,
    user,
    written,
)

MISTRAL = "mistral.mistral-large-2402-v1:0"


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


@pytest.mark.parametrize(
    ("model", "mode", "tools", "expected", "lost"),
    [
        (LLAMA, ToolMode.AUTO, 1, {"auto": {}}, ()),
        (LLAMA, ToolMode.REQUIRED, 1, None, ("tool_choice",)),
        (LLAMA, ToolMode.NAMED, 1, None, ("tool_choice",)),
        (MISTRAL, ToolMode.REQUIRED, 2, {"any": {}}, ()),
        (MISTRAL, ToolMode.NAMED, 1, {"any": {}}, ()),
        (MISTRAL, ToolMode.NAMED, 2, None, ("tool_choice",)),
        (NOVA, ToolMode.NAMED, 2, {"tool": {"name": "get"}}, ()),
        (PROFILE, ToolMode.NAMED, 2, {"tool": {"name": "get"}}, ()),
    ],
)
def test_a_model_is_told_of_a_choice_what_it_takes(
    model: str, mode: ToolMode, tools: int, expected: Json | None, lost: tuple[str, ...]
) -> None:
    given = tuple(Tool(name=name, schema=SCHEMA) for name in ("get", "put")[:tools])
    body, dropped = written(talk(tools=given, tool_choice=ToolChoice(mode=mode, name="get")), model)
    assert (body["toolConfig"].get("toolChoice"), dropped) == (expected, lost)


def test_a_schema_is_said_in_words_to_a_model_that_cannot_be_forced() -> None:
    done = DIALECT.write_request(talk(format=JsonFormat(schema=SCHEMA)), Target(model=LLAMA))
    body = json.loads(done.body)
    assert json.dumps(SCHEMA, separators=(",", ":")) in body["system"][-1]["text"]
    assert (done.json_tool, "toolConfig" in body) == (None, False)
    assert done.loss.names == ("response_format(as instruction)",)


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
        ("amazon.nova-lite-v1:0", Reasoning(effort="low"), None, None, ("reasoning",)),
        ("us.amazon.nova-premier-v1:0", Reasoning(effort="none"), None, None, ()),
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


def test_a_nova_that_reasons_with_all_its_effort_takes_no_bound_and_no_sampling() -> None:
    high = Reasoning(effort="high")
    body, lost = written(talk(reasoning=high, max_tokens=1500, temperature=0.2), NOVA)
    assert body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"] == "medium"
    assert body["inferenceConfig"] == {"maxTokens": 1500, "temperature": 0.2}
    assert lost == ("reasoning.effort(clamped)",)
    body, lost = written(talk(reasoning=high, temperature=0.2, top_p=0.97, top_k=3), NOVA)
    assert body["additionalModelRequestFields"] == {
        "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}
    }
    assert "inferenceConfig" not in body
    assert lost == ("temperature", "top_p", "top_k")


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
