"""The APIs that callers speak: one request of each, as programs write it, and how its stream ends."""

from __future__ import annotations

import json
from collections.abc import Callable

import attrs

MODEL = "bench-model"

_SYSTEM = "You are a careful assistant who answers in one short paragraph and never guesses. "
_QUESTION = "What does a fox that jumps over a lazy dog want from it?"


@attrs.frozen(kw_only=True)
class Caller:
    """`last` is how the data of the event begins that ends a stream; `asks` is the request with a system prompt."""

    name: str
    path: str
    last: str
    asks: Callable[[str], dict[str, object]]

    def body(self, *, stream: bool, prompt_bytes: int, model: str = MODEL) -> bytes:
        """A request of about `prompt_bytes`: a system prompt and a question."""
        streams = {"stream": True} if stream else {}
        missing = max(0, prompt_bytes - len(json.dumps({"model": model, **self.asks(""), **streams})))
        system = (_SYSTEM * (missing // len(_SYSTEM) + 1))[:missing]
        return json.dumps({"model": model, **self.asks(system), **streams}).encode()


def _chat(system: str) -> dict[str, object]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": _QUESTION}]
    return {"messages": messages, "temperature": 0.7, "max_tokens": 256}


def _messages(system: str) -> dict[str, object]:
    messages = [{"role": "user", "content": _QUESTION}]
    return {"system": system, "messages": messages, "temperature": 0.7, "max_tokens": 256}


def _responses(system: str) -> dict[str, object]:
    return {"instructions": system, "input": _QUESTION, "temperature": 0.7, "max_output_tokens": 256}


CHAT = Caller(name="chat", path="/v1/chat/completions", last="[DONE]", asks=_chat)
MESSAGES = Caller(name="messages", path="/v1/messages", last='{"type":"message_stop"', asks=_messages)
RESPONSES = Caller(name="responses", path="/v1/responses", last='{"type":"response.completed"', asks=_responses)
