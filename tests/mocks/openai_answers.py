"""What the mock upstream says: completions and events in the shapes of `openai.types.chat`, or what a script wants."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import attrs

from tests.mocks.openai_rules import Json

Mode = Literal["openai", "azure", "ollama"]


@attrs.frozen(kw_only=True)
class Reply:
    """What one chat request is answered. Times in seconds; counts are tokens of a stream, bytes of a whole body.

    `status` other than 200 answers `body`, or an error object; `body` or `events` (raw, sent one by one) replace what
    would be generated. `reset`: the connection is reset before any answer. `cut_after`: it is closed in the middle;
    `reset_after`: reset in the middle. `stall_after`: silence for `stall_for`. `error_after`: an in-band `error`
    object, and then nothing. `continues`: what a message of the request holds of the answer already is not said again;
    `refuses_prefill`: a request that ends in an assistant's message is a 400, as with models that do not take that.
    """

    delay: float = 0.0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str | None = None
    events: tuple[bytes, ...] | None = None
    tokens: tuple[str, ...] = ("Hello", " from", " the", " mock", ".")
    interval: float = 0.0
    hang: bool = False
    reset: bool = False
    cut_after: int | None = None
    reset_after: int | None = None
    stall_after: int | None = None
    stall_for: float = math.inf
    malformed_after: int | None = None
    error_after: int | None = None
    error: Json = attrs.field(factory=lambda: {"message": "in-band trouble", "type": "server_error", "code": None})
    finish: bool = True
    done: bool = True
    endless: bool = False
    keep_alive: bool = True
    framing: Literal["chunked", "close"] = "chunked"
    usage: tuple[int, int] = (7, 5)
    continues: bool = False
    refuses_prefill: bool = False


def continued(reply: Reply, body: Json) -> Reply:
    """The reply without the tokens that a message of the request begins the answer with."""
    count = already_said(reply.tokens, body)
    return attrs.evolve(reply, tokens=reply.tokens[count:], usage=(reply.usage[0] + count, reply.usage[1] - count))


def already_said(tokens: Sequence[str], body: Json) -> int:
    """How many of the tokens, from the first on, are in one message of the request."""
    said = [text for message in body.get("messages", ()) for text in _texts(message.get("content"))]
    count = len(tokens)
    while count and not any("".join(tokens[:count]) in text for text in said):
        count -= 1
    return count


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if part.get("type") == "text"]


def completion(reply: Reply, body: Json, *, mode: Mode, id_: str) -> bytes:
    """A whole chat completion."""
    choice: Json = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(reply.tokens), "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    answer: Json = {
        "id": id_,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model", "gpt-4o-2024-08-06"),
        "choices": [choice],
        "usage": _usage(reply),
    }
    if mode == "azure":
        answer["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": {}}]
        choice["content_filter_results"] = {"hate": {"filtered": False, "severity": "safe"}}
    return json.dumps(answer).encode()


def events(reply: Reply, body: Json, *, mode: Mode, id_: str) -> Iterable[bytes]:
    """The events of a stream. CUT, RESET, STALL and WAIT are stage directions."""
    options: Json = body.get("stream_options") or {}
    asked = bool(options.get("include_usage"))
    base: Json = {
        "id": id_,
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": body.get("model", "gpt-4o-2024-08-06"),
    }

    def chunk(choices: list[Json], **more: Any) -> bytes:
        usage = {"usage": None} if asked else {}
        return b"data: " + json.dumps({**base, "choices": choices, **usage, **more}).encode() + b"\n\n"

    def delta(content: Json, reason: str | None = None) -> bytes:
        return chunk([{"index": 0, "delta": content, "logprobs": None, "finish_reason": reason}])

    if mode == "azure":
        yield chunk([], prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}], model="")
    yield delta({"role": "assistant", "content": "", "refusal": None})
    directions = {
        reply.cut_after: b"CUT",
        reply.reset_after: b"RESET",
        reply.stall_after: b"STALL",
        reply.malformed_after: b'data: {"id":"chatcmpl-broken","choi\n\n',
        reply.error_after: b"data: " + json.dumps({"error": reply.error}).encode() + b"\n\n",
    }
    tokens = itertools.cycle(reply.tokens) if reply.endless else iter(reply.tokens)
    for position in itertools.count():
        if position in directions:
            yield directions[position]
            if position == reply.error_after:
                return
        token = next(tokens, None)
        if token is None:
            break
        yield delta({"content": token})
        yield b"WAIT"
    if reply.finish:
        yield delta({}, "stop")
    if asked and reply.finish:
        yield chunk([], usage=_usage(reply))
    if reply.done:
        yield b"data: [DONE]\n\n"


def _usage(reply: Reply) -> Json:
    prompt, completion = reply.usage
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
