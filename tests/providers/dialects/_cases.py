"""Short ways to say what the tests of the dialects say often."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from infermux.providers.dialects import anthropic_messages, openai_chat
from infermux.providers.dialects.dialect import Asked, Dialect, Target
from infermux.providers.dialects.kept_thinking import ThinkingStore
from infermux.providers.dialects.neutral import (
    Completion,
    Conversation,
    Role,
    Text,
    Turn,
)
from infermux.providers.dialects.neutral_events import StreamEvent
from infermux.providers.translate import Translation, translate

Json = dict[str, Any]

CHAT: Dialect = openai_chat.DIALECT
MESSAGES: Dialect = anthropic_messages.DIALECT
GPT = "gpt-4o"
CLAUDE = "claude-sonnet-4-5"
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def chat(*messages: Json, **fields: Any) -> Json:
    """A chat completion request; without messages, one of a user."""
    return {"model": "m", "messages": list(messages) or [{"role": "user", "content": "hi"}], **fields}


def messages(*turns: Json, **fields: Any) -> Json:
    """An Anthropic request; without messages, one of a user."""
    given = list(turns) or [{"role": "user", "content": "hi"}]
    return {"model": "m", "max_tokens": 100, "messages": given, **fields}


def to_messages(request: Json, model: str = CLAUDE, **options: Any) -> tuple[Json, tuple[str, ...]]:
    """A chat request as Anthropic's, and what was dropped."""
    done = translate(
        json.dumps(request).encode(), caller=CHAT, provider=MESSAGES, target=Target(model=model), **options
    )
    return json.loads(done.body), done.dropped


def to_chat(request: Json, model: str = GPT, **options: Any) -> tuple[Json, tuple[str, ...]]:
    """An Anthropic request as a chat request, and what was dropped."""
    done = translate(
        json.dumps(request).encode(), caller=MESSAGES, provider=CHAT, target=Target(model=model), **options
    )
    return json.loads(done.body), done.dropped


def chat_to_claude(request: Json, model: str = CLAUDE, kept: ThinkingStore | None = None) -> Translation:
    body = json.dumps(request).encode()
    return translate(body, caller=CHAT, provider=MESSAGES, target=Target(model=model), kept=kept)


def claude_to_chat(request: Json, model: str = GPT) -> Translation:
    return translate(json.dumps(request).encode(), caller=MESSAGES, provider=CHAT, target=Target(model=model))


def asked(*, include_usage: bool = False) -> Asked:
    turns = (Turn(role=Role.USER, parts=(Text(text="hi"),)),)
    return Asked(conversation=Conversation(model="m", turns=turns, include_usage=include_usage), now=7)


def sse(*events: Json | bytes) -> bytes:
    """Events as both APIs send them: with a name where they have a `type` of their own."""
    out = b""
    for event in events:
        if isinstance(event, bytes):
            out += b"data: " + event + b"\n\n"
            continue
        name = event.get("type")
        out += (b"event: %b\n" % name.encode()) if isinstance(name, str) else b""
        out += b"data: " + json.dumps(event).encode() + b"\n\n"
    return out


def chunk(delta: Json | None = None, finish: str | None = None, **fields: Any) -> Json:
    """A chat completion chunk."""
    choice: Json = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    base: Json = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return {**base, "choices": [choice], **fields}


def tool_chunk(*calls: Json) -> Json:
    return chunk({"tool_calls": list(calls)})


def read_stream(dialect: Dialect, data: bytes, cuts: Iterable[int] = ()) -> list[StreamEvent]:
    """The neutral events of `data`, fed in pieces that end at `cuts`."""
    decoder, reader = dialect.decoder(), dialect.stream_reader()
    events: list[StreamEvent] = []
    ends: Sequence[int] = sorted({cut for cut in cuts if 0 < cut < len(data)} | {len(data)})
    start = 0
    for end in ends:
        for event in decoder.feed(data[start:end]):
            events += reader.feed(event)
        start = end
    for event in decoder.flush():
        events += reader.feed(event)
    return [*events, *reader.end()]


def read_answer(dialect: Dialect, answer: Json) -> Completion:
    return dialect.read_answer(json.dumps(answer).encode())


def message_events(*blocks: Sequence[Json], end: Json | None = None, usage: Json | None = None) -> bytes:
    """An Anthropic stream: for each block its start's `content_block`, then its deltas."""
    start: Json = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    start |= {"stop_reason": None, "stop_sequence": None, "usage": usage or {"input_tokens": 3, "output_tokens": 1}}
    events: list[Json | bytes] = [{"type": "message_start", "message": start}]
    for index, (block, *deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": "end_turn", "stop_sequence": None, **(end or {})}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}})
    events.append({"type": "message_stop"})
    return sse(*events)


def chat_stream(events: bytes) -> list[Json]:
    """The chunks of a chat stream, checked to end with `[DONE]`."""
    lines = [line[6:] for line in events.split(b"\n\n") if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]", lines[-1]
    return [json.loads(line) for line in lines[:-1]]


def block_stream(events: bytes) -> list[Json]:
    """The events of an Anthropic stream, checked to be named as they say they are."""
    found: list[Json] = []
    for event in filter(None, events.split(b"\n\n")):
        name, data = event.split(b"\n")
        value = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + value["type"].encode(), event
        found.append(value)
    return found
