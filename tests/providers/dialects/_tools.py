"""Tool calls and their results as chat completions have them, and a thoughtful answer of Anthropic's."""

from __future__ import annotations

import json

from infermux.providers.interface import Answer
from tests.providers.dialects._cases import SCHEMA, Json

FUNCTION: Json = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def call(call_id: str, arguments: str = "{}", name: str = "weather") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asking(*calls: Json, **fields: object) -> Json:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def result(call_id: str, content: object = "sunny") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def whole(body: Json) -> Answer:
    return Answer(200, b"application/json", json.dumps(body).encode())


# thinking


SIGNED: Json = {"type": "thinking", "thinking": "hm", "signature": "sig"}
REDACTED: Json = {"type": "redacted_thinking", "data": "opaque"}
TOOL_USE: Json = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
THOUGHTFUL: Json = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [SIGNED, REDACTED, {"type": "text", "text": "Let me look."}, TOOL_USE],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
