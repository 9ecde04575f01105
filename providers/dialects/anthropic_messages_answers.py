"""Anthropic messages and errors, read and written whole.

Shapes: `anthropic.types.Message`, `Usage`, `StopReason`, `RefusalStopDetails`, and the error objects in
`anthropic.types.shared`; https://platform.claude.com/docs/en/api/errors.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from infermux.errors import InvalidRequest

from ..classify import read_error as read_error_body
from ..interface import Usage
from .anthropic_messages_parts import text_block, write_citation
from .anthropic_messages_read import read_citation
from .dialect import Asked, kind_of_status, malformed, new_id
from .fields import Fields
from .neutral import (
    Citation,
    Completion,
    ErrorKind,
    ErrorReport,
    Part,
    RedactedThinking,
    Refusal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from .report import Loss
from .turns import arguments_object

Json = dict[str, Any]

STOPS: Final = {
    "end_turn": StopReason.END,
    "max_tokens": StopReason.LENGTH,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "tool_use": StopReason.TOOL_USE,
    "pause_turn": StopReason.PAUSE,
    "refusal": StopReason.REFUSAL,
    "model_context_window_exceeded": StopReason.CONTEXT_WINDOW,
}
STOP_WORDS: Final = {stop: word for word, stop in STOPS.items()}
_KINDS: Final = {
    "invalid_request_error": ErrorKind.INVALID_REQUEST,
    "authentication_error": ErrorKind.AUTHENTICATION,
    "billing_error": ErrorKind.BILLING,
    "permission_error": ErrorKind.PERMISSION,
    "not_found_error": ErrorKind.NOT_FOUND,
    "request_too_large": ErrorKind.TOO_LARGE,
    "rate_limit_error": ErrorKind.RATE_LIMIT,
    "timeout_error": ErrorKind.TIMEOUT,
    "overloaded_error": ErrorKind.OVERLOADED,
    "api_error": ErrorKind.SERVER,
}
_TYPES: Final = {kind: word for word, kind in _KINDS.items()}


class Block(msgspec.Struct):
    """A content block, or the beginning of one in a stream."""

    type: str = ""
    text: str | None = None
    citations: Any = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class UsageShape(msgspec.Struct):
    """Of a message, or of the end of a stream, where what is missing stays as the start said."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class StopDetails(msgspec.Struct):
    explanation: str | None = None


class MessageShape(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    container: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: UsageShape | None = None


_READ: Final = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})
"""The types of blocks that are read."""

_decode: Final = msgspec.json.Decoder(MessageShape).decode


def read_answer(body: bytes) -> Completion:
    """Raises UpstreamFailure(MALFORMED)."""
    try:
        message = _decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise malformed(f"answered with what is no message: {error}") from None
    if message.content is None:
        raise malformed("answered with a message without content")
    parts: list[Part] = [part for block in message.content if (part := read_block(block)) is not None]
    words = refusal_words(message.stop_details)
    if words and not any(isinstance(part, Text) for part in parts):
        parts.append(Refusal(text=words))
    return Completion(
        id=message.id or new_id("msg_"),
        model=message.model or "",
        parts=tuple(parts),
        stop=STOPS.get(message.stop_reason or "end_turn", StopReason.END),
        stop_sequence=message.stop_sequence,
        usage=read_usage(message.usage) if message.usage else None,
        lost=(
            *(f"content.{block.type}" for block in message.content if block.type not in _READ),
            *(("container",) if message.container is not None else ()),
        ),
    )


def refusal_words(details: StopDetails | None) -> str:
    """Why the model stopped in its own words, which stand beside the content."""
    return (details.explanation or "") if details else ""


def read_block(block: Block) -> Text | ToolCall | Thinking | RedactedThinking | None:
    """The part that `block` is; None for blocks of tools that the provider runs itself.

    An empty text is none either. The arguments of a call are the block's own JSON text.
    """
    match block.type:
        case "text":
            text = block.text or ""
            return Text(text=text, citations=read_citations(block.citations)) if text else None
        case "tool_use":
            arguments = bytes(block.input).decode() or "{}"
            return ToolCall(id=block.id or new_id("toolu_"), name=block.name or "", arguments=arguments)
        case "thinking":
            return Thinking(text=block.thinking or "", signature=block.signature or None)
        case "redacted_thinking":
            return RedactedThinking(data=block.data or "")
        case _:
            return None


def read_citations(citations: object) -> tuple[Citation, ...]:
    found = (read_one_citation(item) for item in cast("list[object]", citations if isinstance(citations, list) else []))
    return tuple(citation for citation in found if citation is not None)


def read_one_citation(value: object) -> Citation | None:
    """None for what is no citation: an answer is not refused for one."""
    try:
        return read_citation(Fields(value))
    except InvalidRequest:
        return None


def read_usage(shape: UsageShape) -> Usage:
    """`input_tokens` are those neither read from a cache nor written to one; the neutral prompt counts all three."""
    read, written = shape.cache_read_input_tokens or 0, shape.cache_creation_input_tokens or 0
    details = shape.output_tokens_details
    return Usage(
        prompt_tokens=(shape.input_tokens or 0) + read + written,
        completion_tokens=shape.output_tokens or 0,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=(details.thinking_tokens or 0) if details else 0,
    )


def write_usage(usage: Usage | None) -> Json:
    usage = usage or Usage()
    found: Json = {
        "input_tokens": max(usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens, 0),
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
    }
    if usage.reasoning_tokens:
        found["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return found


def write_answer(completion: Completion, asked: Asked, loss: Loss) -> bytes:
    """Thinking without a signature gets an empty one: it is what the shape demands, and is left out when sent back."""
    del asked
    body: Json = {
        "id": completion.id,
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": [block for part in completion.parts if (block := write_block(part, loss)) is not None],
        "stop_reason": STOP_WORDS[completion.stop],
        "stop_sequence": completion.stop_sequence,
        "usage": write_usage(completion.usage),
    }
    return msgspec.json.encode(body)


def write_block(part: Part, loss: Loss) -> Json | None:
    match part:
        case Text():
            if any(write_citation(citation) is None for citation in part.citations):
                loss.drop("citations")
            return text_block(part)
        case Refusal(text=text):
            return {"type": "text", "text": text}
        case ToolCall():
            arguments, known = arguments_object(part.arguments)
            if not known:
                loss.change("tool_calls.arguments", "wrapped")
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        case Thinking():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
        case RedactedThinking():
            return {"type": "redacted_thinking", "data": part.data}
        case _:
            return None


def read_error(status: int, body: bytes) -> ErrorReport:
    """Never raises."""
    info = read_error_body(body)
    return ErrorReport(
        kind=_KINDS.get(info.type) or kind_of_status(status),
        status=status,
        message=info.message or f"the provider answered {status}",
        type=info.type or None,
        code=info.known_code,
    )


def error_object(error: ErrorReport) -> Json:
    # Another API's type may be the same word for more: OpenAI's `invalid_request_error` is that of a wrong key too.
    kind = error.type if _KINDS.get(error.type or "") is error.kind else _TYPES[error.kind]
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def write_error(error: ErrorReport) -> bytes:
    return msgspec.json.encode(error_object(error))


def write_stream_error(error: ErrorReport) -> bytes:
    """The event that the SDK's stream raises on (https://platform.claude.com/docs/en/api/messages-streaming)."""
    return b"event: error\ndata: " + write_error(error) + b"\n\n"
