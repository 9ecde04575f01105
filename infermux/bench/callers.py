"""The APIs that callers speak: one request of each, as programs write it, and how its stream ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

MODEL = "bench-model"

_SYSTEM = "You are a careful assistant who answers in one short paragraph and never guesses. "
_QUESTION = "What does a fox that jumps over a lazy dog want from it? Answer in {tokens} words."

Body = dict[str, Any]


@attrs.frozen(kw_only=True)
class Asking:
    """What a request is made of: a system prompt, the length of the answer, how many tools there are to choose from.

    With any, what came before has a call and its result, and another call is insisted on.
    """

    system: str
    tokens: int
    tools: int

    @property
    def question(self) -> str:
        return _QUESTION.format(tokens=self.tokens)


@attrs.frozen(kw_only=True)
class Caller:
    """`last` is how the data of the event begins that ends a stream, without spaces; several are divided by |.

    `asks` is the request.
    """

    name: str
    path: str
    last: str
    asks: Callable[[Asking], Body]
    headers: Callable[[str], dict[str, str]]

    def body(
        self,
        *,
        stream: bool,
        prompt_bytes: int,
        model: str = MODEL,
        tokens: int = 50,
        tools: int = 0,
        more: Mapping[str, Any] | None = None,
    ) -> bytes:
        """A request of about `prompt_bytes`, most of them system prompt; `more` is merged in, null takes away."""

        def made(system: str) -> bytes:
            asked = self.asks(Asking(system=system, tokens=tokens, tools=tools))
            streams = {"stream": True} if stream else {}
            whole = {"model": model, **asked, **streams, **(more or {})}
            return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()

        missing = max(0, prompt_bytes - len(made("")))
        return made((_SYSTEM * (missing // len(_SYSTEM) + 1))[:missing])


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _anthropic(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


# The shapes are those of openai.types.chat, anthropic.types and openai.types.responses.


def _parameters(number: int) -> Body:
    """The JSON Schema of a usual tool."""
    properties: Body = {
        "path": {"type": "string", "description": f"Where tool {number} looks, relative to the root of the project."},
        "pattern": {"type": "string", "description": "What it looks for, as a regular expression."},
        "limit": {"type": "integer", "description": "How many results at most.", "minimum": 1, "maximum": 1000},
        "kind": {"type": "string", "enum": ["file", "folder", "link"], "description": "What may be found."},
    }
    return {"type": "object", "properties": properties, "required": ["path"], "additionalProperties": False}


def _described(number: int) -> Body:
    return {"name": f"look_up_{number}", "description": f"Looks something up, in the way number {number}."}


def _chat(asking: Asking) -> Body:
    messages: list[Body] = [{"role": "system", "content": asking.system}]
    tools: Body = {}
    if asking.tools:
        call = {"id": "call_1", "type": "function", "function": {"name": "look_up_0", "arguments": '{"path": "."}'}}
        messages += [
            {"role": "user", "content": "What is in this project?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "README.md\nfox.txt\ndog.txt"},
        ]
        tools["tool_choice"] = "required"
        tools["tools"] = [
            {"type": "function", "function": {**_described(number), "parameters": _parameters(number)}}
            for number in range(asking.tools)
        ]
    messages.append({"role": "user", "content": asking.question})
    return {"messages": messages, "temperature": 0.7, "max_tokens": asking.tokens, **tools}


def _messages(asking: Asking) -> Body:
    messages: list[Body] = []
    tools: Body = {}
    if asking.tools:
        call = {"type": "tool_use", "id": "toolu_1", "name": "look_up_0", "input": {"path": "."}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "README.md\nfox.txt\ndog.txt"}
        messages += [
            {"role": "user", "content": "What is in this project?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result, {"type": "text", "text": asking.question}]},
        ]
        tools["tool_choice"] = {"type": "any"}
        tools["tools"] = [{**_described(number), "input_schema": _parameters(number)} for number in range(asking.tools)]
    else:
        messages.append({"role": "user", "content": asking.question})
    return {
        "system": asking.system,
        "messages": messages,
        "temperature": 0.7,
        "max_tokens": asking.tokens,
        **tools,
    }


def _responses(asking: Asking) -> Body:
    items: list[Body] = []
    tools: Body = {}
    if asking.tools:
        items += [
            {"role": "user", "content": "What is in this project?"},
            {"type": "function_call", "call_id": "call_1", "name": "look_up_0", "arguments": '{"path": "."}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "README.md\nfox.txt\ndog.txt"},
        ]
        tools["tool_choice"] = "required"
        tools["tools"] = [
            {"type": "function", **_described(number), "parameters": _parameters(number)}
            for number in range(asking.tools)
        ]
    items.append({"role": "user", "content": asking.question})
    return {
        "instructions": asking.system,
        "input": items,
        "temperature": 0.7,
        "max_output_tokens": max(asking.tokens, 16),  # OpenAI takes no fewer
        **tools,
    }


def _embeddings(asking: Asking) -> Body:
    return {"input": f"{asking.system}{asking.question}", "encoding_format": "float"}


CHAT = Caller(name="chat", path="/v1/chat/completions", last="[DONE]", asks=_chat, headers=_bearer)
MESSAGES = Caller(
    name="messages", path="/v1/messages", last='{"type":"message_stop"', asks=_messages, headers=_anthropic
)
# Incomplete is an answer that reached max_output_tokens, as most of a load do: openai.types.responses.
RESPONSES = Caller(
    name="responses",
    path="/v1/responses",
    last='{"type":"response.completed"|{"type":"response.incomplete"',
    asks=_responses,
    headers=_bearer,
)
EMBEDDINGS = Caller(name="embeddings", path="/v1/embeddings", last="", asks=_embeddings, headers=_bearer)
CALLERS: Mapping[str, Caller] = {caller.name: caller for caller in (CHAT, MESSAGES, RESPONSES, EMBEDDINGS)}
