"""What the mock of Anthropic's API says: messages and events in the shapes of `anthropic.types`, or a script's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import attrs

from tests.mocks.openai_answers import already_said
from tests.mocks.openai_rules import Json

SIGNATURE = "sig-of-the-mock"


@attrs.frozen(kw_only=True)
class Usage:
    """As Anthropic counts: `input_tokens` are those neither read from a cache nor written to one."""

    input_tokens: int = 7
    output_tokens: int = 5
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


@attrs.frozen(kw_only=True)
class Tool:
    """A call of a tool. `name` None: the tool that is forced, else the first one given. `pieces`: the deltas."""

    input: Json = attrs.field(factory=dict[str, Any])
    name: str | None = None
    id: str | None = None
    pieces: tuple[str, ...] | None = None


@attrs.frozen(kw_only=True)
class Reply:
    """What one request is answered. Times in seconds; `..._after` counts deltas of a stream, bytes of a whole body.

    `status` other than 200 answers `body`, or an error object; `body` or `events` (raw, sent one by one) replace what
    would be generated. `reset`: the connection is reset before any answer. `cut_after`: it is closed in the middle;
    `reset_after`: reset in the middle. `error_after`: an `error` event, and then nothing. `stop` False: a stream
    without `message_stop`. `message` is the text of the error. `continues`: what a message of the request holds of the
    answer already is not said again; `refuses_prefill`: a request that ends in an assistant's message is a 400, as from
    Claude 4.6 on.
    """

    delay: float = 0.0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str | None = None
    message: str | None = None
    events: tuple[bytes, ...] | None = None
    tokens: tuple[str, ...] = ("Hello", " from", " the", " mock", ".")
    thinking: tuple[str, ...] = ()
    redacted: str | None = None
    tools: tuple[Tool, ...] = ()
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage = Usage()
    interval: float = 0.0
    hang: bool = False
    reset: bool = False
    cut_after: int | None = None
    reset_after: int | None = None
    stall_after: int | None = None
    malformed_after: int | None = None
    error_after: int | None = None
    error: Json = attrs.field(factory=lambda: {"type": "overloaded_error", "message": "Overloaded"})
    ping: bool = True
    stop: bool = True
    endless: bool = False
    keep_alive: bool = True
    framing: Literal["chunked", "close"] = "chunked"
    continues: bool = False
    refuses_prefill: bool = False


def continued(reply: Reply, request: Json) -> Reply:
    """The reply without the tokens that a message of the request begins the answer with."""
    count = already_said(reply.tokens, request)
    usage = attrs.evolve(reply.usage, output_tokens=reply.usage.output_tokens - count)
    return attrs.evolve(reply, tokens=reply.tokens[count:], usage=usage)


def blocks(reply: Reply, request: Json, serial: int) -> list[Json]:
    """The content of the answer."""
    found: list[Json] = []
    if reply.thinking:
        found.append({"type": "thinking", "thinking": "".join(reply.thinking), "signature": SIGNATURE})
    if reply.redacted is not None:
        found.append({"type": "redacted_thinking", "data": reply.redacted})
    if reply.tokens:
        found.append({"type": "text", "text": "".join(reply.tokens)})
    for number, tool in enumerate(reply.tools):
        id_ = tool.id or f"toolu_mock{serial}_{number}"
        found.append({"type": "tool_use", "id": id_, "name": tool.name or _wanted(request), "input": tool.input})
    return found


def _wanted(request: Json) -> str:
    choice: Json = request.get("tool_choice") or {}
    return str(choice.get("name") or request["tools"][0]["name"])


def stop_reason(reply: Reply) -> str:
    if reply.stop_reason is not None:
        return reply.stop_reason
    return "tool_use" if reply.tools else "stop_sequence" if reply.stop_sequence is not None else "end_turn"


def message(reply: Reply, request: Json, serial: int) -> Json:
    """A whole message."""
    return {
        "id": f"msg_mock{serial}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": blocks(reply, request, serial),
        "stop_reason": stop_reason(reply),
        "stop_sequence": reply.stop_sequence,
        "usage": {**attrs.asdict(reply.usage), "service_tier": "standard"},
    }


def event(fields: Json) -> bytes:
    return f"event: {fields['type']}\ndata: {json.dumps(fields)}\n\n".encode()


def events(reply: Reply, request: Json, serial: int) -> Iterable[bytes]:
    """The events of a stream. CUT, RESET, STALL and WAIT are stage directions."""
    whole = message(reply, request, serial)
    usage = {**whole["usage"], "output_tokens": 1}
    yield event(
        {
            "type": "message_start",
            "message": {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage},
        }
    )
    said = itertools.count()
    for index, block in enumerate(whole["content"]):
        yield event({"type": "content_block_start", "index": index, "content_block": _beginning(block)})
        if index == 0 and reply.ping:
            yield event({"type": "ping"})
        for delta in _deltas(block, reply, index):
            position = next(said)
            direction = _direction(reply, position)
            if direction:
                yield direction
                if position == reply.error_after:
                    return
            yield event({"type": "content_block_delta", "index": index, "delta": delta})
            yield b"WAIT"
        yield event({"type": "content_block_stop", "index": index})
    direction = _direction(reply, next(said))
    if direction:
        yield direction
        if direction.startswith(b"event: error"):
            return
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": reply.stop_sequence}
    yield event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": reply.usage.output_tokens}})
    if reply.stop:
        yield event({"type": "message_stop"})


def _beginning(block: Json) -> Json:
    empty: dict[str, Json] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    return {**block, **empty.get(block["type"], {})}


def _deltas(block: Json, reply: Reply, index: int) -> Iterable[Json]:
    match block["type"]:
        case "text":
            tokens = itertools.cycle(reply.tokens) if reply.endless else reply.tokens
            yield from ({"type": "text_delta", "text": token} for token in tokens)
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": token} for token in reply.thinking)
            yield {"type": "signature_delta", "signature": SIGNATURE}
        case "tool_use":
            first = index - (bool(reply.thinking) + (reply.redacted is not None) + bool(reply.tokens))
            for piece in ("", *_pieces(reply.tools[first])):  # the first delta of a call is empty
                yield {"type": "input_json_delta", "partial_json": piece}
        case _:
            pass


def _pieces(tool: Tool) -> Sequence[str]:
    """The arguments in pieces cut anywhere; none at all for a call without arguments."""
    if tool.pieces is not None:
        return tool.pieces
    if not tool.input:
        return ()
    text = json.dumps(tool.input)
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _direction(reply: Reply, position: int) -> bytes | None:
    return {
        reply.cut_after: b"CUT",
        reply.reset_after: b"RESET",
        reply.stall_after: b"STALL",
        reply.malformed_after: b'event: content_block_delta\ndata: {"type":"content_block_de\n\n',
        reply.error_after: event({"type": "error", "error": reply.error}),
    }.get(position)
