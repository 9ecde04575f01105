"""Conversations, and the requests for Converse that they are written as."""

from __future__ import annotations

import json
from typing import Any

from infermux.providers.dialects.bedrock_converse import DIALECT
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.neutral import CacheControl, Conversation, Part, Role, Text, ToolCall, Turn
from tests.mocks.bedrock_rules import check_converse

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
