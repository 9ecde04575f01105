"""Requests for Converse, read again."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import InvalidRequest
from infermux.providers.dialects.bedrock_converse import DIALECT
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.neutral import (
    Base64,
    CacheControl,
    Conversation,
    Document,
    Image,
    Part,
    PlainText,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Text,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Url,
)
from tests._properties import examples
from tests.mocks.bedrock_rules import check_converse
from tests.providers.dialects._converse import MODELS, PROFILE, Json
from tests.providers.dialects._strategies import conversations


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
@settings(max_examples=examples(40), deadline=None)
def test_there_and_back_is_the_identity_on_what_is_carried(conversation: Conversation) -> None:
    done = DIALECT.write_request(sendable(conversation), Target(model=PROFILE))
    assert DIALECT.read_request(done.body) == carried(conversation)
    assert set(done.loss.names) <= {"tool_choice"}


@given(conversations(model="m", everything=True), st.sampled_from(MODELS))
@settings(max_examples=examples(30), deadline=None)
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
