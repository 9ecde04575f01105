"""Every field that an API's own SDK knows is carried to every other API, or named: never lost silently.

The fields are walked as the installed SDKs have them, so that one a later SDK adds fails here until it has a sample
below, and somebody has thought about where it goes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import botocore
import pytest
from anthropic.types import message_create_params as claude
from anthropic.types.beta import message_create_params as beta
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

from infermux.errors import InvalidRequest
from infermux.providers.dialects import bedrock_converse, openai_responses
from infermux.providers.dialects.dialect import Dialect, Target
from infermux.providers.translate import Translation, translate
from tests.providers.dialects._cases import CHAT, MESSAGES, SCHEMA, Json

RESPONSES = openai_responses.DIALECT
BEDROCK = bedrock_converse.DIALECT
MODELS: Mapping[Dialect, tuple[str, ...]] = {
    CHAT: ("gpt-4o", "o3", "llama3"),
    MESSAGES: ("claude-sonnet-4-5", "claude-opus-5", "claude-3-haiku"),
    RESPONSES: ("gpt-4o", "gpt-5.1"),
    BEDROCK: ("anthropic.claude-sonnet-4-5-v1:0", "amazon.nova-lite-v1:0", "meta.llama3-v1:0"),
}

FUNCTION: Json = {"name": "f", "description": "d", "parameters": SCHEMA}
MARK: Json = {"type": "ephemeral"}
JSON_SCHEMA: Json = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
NUMBER = 0.25
USER: Json = {"role": "user", "content": "other"}

OF_CHAT: Json = {
    "audio": {"voice": "alloy", "format": "wav"},
    "frequency_penalty": NUMBER,
    "function_call": {"name": "f"},
    "functions": [FUNCTION],
    "logit_bias": {"1": 2},
    "logprobs": True,
    "max_completion_tokens": 50,
    "max_tokens": 50,
    "messages": [USER],
    "metadata": {"team": "a"},
    "modalities": ["text", "audio"],
    "model": None,
    "moderation": {"model": "m"},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "c"},
    "presence_penalty": NUMBER,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": JSON_SCHEMA,
    "safety_identifier": "s",
    "seed": 1,
    "service_tier": "flex",
    "stop": ["x"],
    "store": True,
    "stream": None,
    "stream_options": None,
    "temperature": NUMBER,
    "tool_choice": "required",
    "tools": [{"type": "custom", "custom": {"name": "other"}}],
    "top_logprobs": 2,
    "top_p": NUMBER,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {},
}
OF_RESPONSES: Json = {
    "access_programs": {"cyber": {}},
    "background": True,
    "background_options": {"completion_window": "2h"},
    "context_management": [{"type": "compaction", "compact_threshold": 1000}],
    "conversation": "conv_1",
    "image": {"context_compression": "auto"},
    "include": ["message.output_text.logprobs"],
    "input": "other",
    "instructions": "s",
    "max_output_tokens": 50,
    "max_tool_calls": 2,
    "metadata": {"team": "a"},
    "model": None,
    "moderation": {"model": "m"},
    "parallel_tool_calls": False,
    "previous_response_id": "resp_1",
    "prompt": {"id": "p"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "low", "summary": "auto"},
    "safety_identifier": "s",
    "service_tier": "flex",
    "store": True,
    "stream": None,
    "stream_options": {"include_obfuscation": True},
    "temperature": NUMBER,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
    "tool_choice": "required",
    "tools": [{"type": "web_search"}],
    "top_logprobs": 2,
    "top_p": NUMBER,
    "truncation": "auto",
    "user": "u",
}
OF_MESSAGES: Json = {
    "betas": None,
    "billing_policy": {"type": "x"},
    "cache_control": MARK,
    "compaction": {"type": "x"},
    "container": {"id": "c"},
    "context_management": {"edits": []},
    "diagnostics": {"previous_message_id": None},
    "fallback_credit_token": "t",
    "fallbacks": [{"model": "m"}],
    "inference_geo": "eu",
    "max_tokens": 50,
    "mcp_servers": [{"type": "url", "url": "https://m.example/", "name": "m"}],
    "messages": [USER],
    "metadata": {"user_id": "u"},
    "model": None,
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "output_format": {"type": "json_schema", "schema": SCHEMA},
    "service_tier": "standard_only",
    "speed": "fast",
    "stop_sequences": ["x"],
    "stream": None,
    "system": "s",
    "temperature": NUMBER,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "thread": {"type": "x"},
    "tool_choice": {"type": "any"},
    "tools": [{"type": "web_search_20250305", "name": "web_search"}],
    "top_k": 5,
    "top_p": NUMBER,
    "user_profile_id": "u",
    "workspace_id": "w",
}
OF_BEDROCK: Json = {
    "additionalModelRequestFields": {"x": 1},
    "additionalModelResponseFieldPaths": ["/x"],
    "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
    "inferenceConfig": {"maxTokens": 50, "temperature": NUMBER, "topP": NUMBER, "stopSequences": ["x"]},
    "messages": [{"role": "user", "content": [{"text": "other"}]}],
    "modelId": None,
    "outputConfig": {"effort": "low"},
    "performanceConfig": {"latency": "optimized"},
    "promptVariables": {"v": {"text": "t"}},
    "requestMetadata": {"team": "a"},
    "serviceTier": {"type": "flex"},
    "system": [{"text": "s"}],
    "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]},
}
"""A value for each field that asks for something else than no field does; None: it says nothing to translate (the
model is the router's to choose, the stream the adapter's, the betas are a header of the SDK's)."""

BASES: Mapping[Dialect, Json] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    MESSAGES: {"model": "m", "max_tokens": 4000, "messages": [{"role": "user", "content": "hi"}]},
    RESPONSES: {"model": "m", "input": "hi"},
    BEDROCK: {"messages": [{"role": "user", "content": [{"text": "hi"}]}]},
}
WITH_TOOLS: Mapping[Dialect, Json] = {
    CHAT: {"tools": [{"type": "function", "function": FUNCTION}]},
    MESSAGES: {"tools": [{"name": "f", "input_schema": SCHEMA}]},
    RESPONSES: {"tools": [{"type": "function", **FUNCTION}]},
    BEDROCK: {},
}
ABOUT_TOOLS = frozenset({"tool_choice", "parallel_tool_calls", "function_call"})
SAID_AS = {
    "reasoning_effort": "reasoning",
    "thinking": "reasoning",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "stop_sequences": "stop",
    "function_call": "tool_choice",
    "outputConfig": "reasoning",
    "requestMetadata": "metadata",
    "serviceTier": "service_tier",
}
"""The word that losses are named by, where it is another than the field's own."""
KEPT = ("previous_response_id", "conversation", "prompt")
REFUSED = frozenset({*KEPT, "thread"})
"""What nobody but the provider that keeps it can answer."""


def service() -> Mapping[str, Any]:
    folder = Path(botocore.__file__).parent / "data" / "bedrock-runtime"
    with gzip.open(next(folder.glob("*/service-2.json.gz"))) as file:
        return json.load(file)["shapes"]  # type: ignore[no-any-return]


def fields_of(dialect: Dialect) -> set[str]:
    if dialect is CHAT:
        return set(get_type_hints(chat.CompletionCreateParamsStreaming))
    if dialect is RESPONSES:
        return set(get_type_hints(responses.ResponseCreateParamsStreaming))
    if dialect is MESSAGES:
        newest = get_type_hints(beta.MessageCreateParamsStreaming)
        return set(get_type_hints(claude.MessageCreateParamsStreaming)) | set(newest)
    return set(service()["ConverseRequest"]["members"])


SAMPLES: Mapping[Dialect, Json] = {CHAT: OF_CHAT, RESPONSES: OF_RESPONSES, MESSAGES: OF_MESSAGES, BEDROCK: OF_BEDROCK}


@pytest.mark.parametrize("dialect", SAMPLES, ids=lambda dialect: dialect.name)
def test_every_field_of_the_sdk_has_been_thought_of(dialect: Dialect) -> None:
    assert fields_of(dialect) - SAMPLES[dialect].keys() == set()


PAIRS = [(caller, provider) for caller in SAMPLES for provider in MODELS if provider is not caller]


def translated(caller: Dialect, provider: Dialect, request: Json, model: str) -> Translation:
    return translate(json.dumps(request).encode(), caller=caller, provider=provider, target=Target(model=model))


def roots(dropped: tuple[str, ...]) -> set[str]:
    """The fields that names of losses are about."""
    return {name.partition("(")[0].partition(".")[0] for name in dropped}


def silently(caller: Dialect, provider: Dialect, base: Json, changed: Json, names: set[str] | None) -> bool:
    """Whether what `changed` has beside `base` is neither carried nor named (by any name, where `names` is None)."""
    for model in MODELS[provider]:
        without, found = (translated(caller, provider, request, model) for request in (base, changed))
        named = roots(found.dropped) - roots(without.dropped)
        if names is not None:
            named &= names
        else:
            named = set(found.dropped) - set(without.dropped)
        if json.loads(found.body) == json.loads(without.body) and not named:
            return True
    return False


@pytest.mark.parametrize(("caller", "provider"), PAIRS, ids=lambda dialect: dialect.name)
def test_a_field_is_carried_or_named(caller: Dialect, provider: Dialect) -> None:
    lost: list[str] = []
    for field, value in SAMPLES[caller].items():
        if value is None or field in REFUSED:
            continue
        base = BASES[caller] | (WITH_TOOLS[caller] if field in ABOUT_TOOLS else {})
        if silently(caller, provider, base, {**base, field: value}, {field, SAID_AS.get(field, field)}):
            lost.append(field)
    assert lost == []


@pytest.mark.parametrize("provider", MODELS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(("caller", "field"), [(RESPONSES, field) for field in KEPT] + [(MESSAGES, "thread")])
def test_what_only_its_provider_keeps_is_refused_by_name(caller: Dialect, provider: Dialect, field: str) -> None:
    if caller is provider:
        return
    with pytest.raises(InvalidRequest) as refused:
        translated(caller, provider, {**BASES[caller], field: SAMPLES[caller][field]}, MODELS[provider][0])
    assert refused.value.param == field


def test_one_name_for_two_things_is_not_carried() -> None:
    """Both APIs have a `context_management`: a list of compactions here, an object of edits there."""
    compaction, edits = OF_RESPONSES["context_management"], OF_MESSAGES["context_management"]
    found = translated(RESPONSES, MESSAGES, {**BASES[RESPONSES], "context_management": compaction}, "claude-opus-5")
    assert ("context_management" in json.loads(found.body), found.dropped) == (False, ("context_management",))
    found = translated(MESSAGES, RESPONSES, {**BASES[MESSAGES], "context_management": edits}, "gpt-5.1")
    assert ("context_management" in json.loads(found.body), found.dropped) == (False, ("context_management",))
