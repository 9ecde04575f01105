"""Callers with Anthropic's SDK, providers of its API, and what upstreams of either kind say of tools."""

from __future__ import annotations

import json
from typing import Any

import anthropic

from tests.e2e._router import Router
from tests.mocks.anthropic_upstream import KEY, MODELS, AnthropicUpstream
from tests.mocks.openai_upstream import Reply as ChatReply

CLAUDE = MODELS[0]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a place",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
FUNCTION: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": WEATHER["input_schema"],
    },
}


def claude_sdk(router: Router, *, api_key: str = "unused", timeout: float = 5.0) -> anthropic.AsyncAnthropic:
    """The official SDK, asynchronous, without retries of its own. Enter it with `async with`."""
    http_client = anthropic.DefaultAsyncHttpxClient(trust_env=False, verify=False)
    return anthropic.AsyncAnthropic(
        base_url=router.url, api_key=api_key, max_retries=0, timeout=timeout, http_client=http_client
    )


def claude_provider(name: str, upstream: AnthropicUpstream, **more: Any) -> dict[str, Any]:
    """A provider of type `anthropic`, without health checks unless `more` has some."""
    return {
        "name": name,
        "type": "anthropic",
        "api_key": KEY,
        "base_url": upstream.base_url,
        "models": list(MODELS),
        "model_aliases": {"gpt-4o": CLAUDE},
        "health_check": {"disabled": True},
        **more,
    }


def chat_calls(*calls: tuple[str, str, str], stream: bool) -> ChatReply:
    """What OpenAI's API answers with calls of tools: `(id, name, arguments)`, the arguments in two pieces."""
    if not stream:
        message = {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [_call(*call) for call in calls],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
        return ChatReply(body=json.dumps({**whole, "choices": [choice], "usage": usage}).encode())
    events = [_delta({"role": "assistant", "content": None})]
    for index, (id_, name, arguments) in enumerate(calls):
        half = len(arguments) // 2
        events += (
            _delta({"tool_calls": [{"index": index, **_call(id_, name, "")}]}),
            _delta({"tool_calls": [{"index": index, "function": {"arguments": arguments[:half]}}]}),
            _delta({"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}),
        )
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    events += (_delta({}, "tool_calls"), _event(choices=[], usage=usage), b"data: [DONE]\n\n")
    return ChatReply(events=tuple(events))


def _call(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _delta(delta: dict[str, Any], reason: str | None = None) -> bytes:
    return _event(choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}])


def _event(**fields: Any) -> bytes:
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", **fields}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"
