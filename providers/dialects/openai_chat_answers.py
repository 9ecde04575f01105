"""Chat completions, read and written whole. Shapes: see `openai_chat_shapes`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .dialect import Asked, malformed, new_id
from .neutral import Completion, ErrorReport, Part, Refusal, StopReason, Text, Thinking, ToolCall
from .openai_annotations import name_lost_citations, other_annotations
from .openai_chat_shapes import (
    FINISH_WORDS,
    Choice,
    Chunk,
    Message,
    ToolCallShape,
    arguments_of,
    citations_of,
    decode,
    read_usage,
    stop_of,
    text_of,
    thinking_of,
    write_annotation,
    write_usage,
)
from .openai_errors import write_error
from .report import Loss

Json = dict[str, Any]


def read_answer(body: bytes) -> Completion:
    """Raises UpstreamFailure(MALFORMED). Of several choices the first is read: no other API has them."""
    try:
        chunk = decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise malformed(f"answered with what is no chat completion: {error}") from None
    choice = chunk.choices[0] if chunk.choices else None
    if choice is None or choice.message is None:
        raise malformed("answered with a chat completion without a message")
    parts = read_parts(choice.message)
    stop, sequence = _stop(choice, parts)
    return Completion(
        id=chunk.id or new_id("chatcmpl-"),
        model=chunk.model or "",
        parts=parts,
        stop=stop,
        stop_sequence=sequence,
        usage=read_usage(chunk.usage),
        created=chunk.created if isinstance(chunk.created, int) else None,
        lost=tuple(_lost(chunk, choice, choice.message)),
    )


def _lost(chunk: Chunk, choice: Choice, message: Message) -> Iterator[str]:
    """What only chat completions have; some of it comes without being asked for in the request (`extra_body`)."""
    if chunk.choices is not None and len(chunk.choices) > 1:
        yield "choices(first only)"
    if choice.logprobs is not None:
        yield "logprobs"
    if message.audio is not None:
        yield "message.audio"
    yield from (f"message.annotations.{kind}" for kind in other_annotations(message.annotations))


def _stop(choice: Choice, parts: tuple[Part, ...]) -> tuple[StopReason, str | None]:
    called = any(isinstance(part, ToolCall) for part in parts)
    return stop_of(choice, called=called, refused=any(isinstance(part, Refusal) for part in parts))


def read_parts(message: Message) -> tuple[Part, ...]:
    """The parts of a whole message: thinking, text, refusal, tool calls."""
    parts: list[Part] = []
    thinking, text = thinking_of(message), text_of(message.content)
    if thinking:
        parts.append(Thinking(text=thinking))
    if text:
        parts.append(Text(text=text, citations=citations_of(message.annotations)))
    if message.refusal:
        parts.append(Refusal(text=message.refusal))
    calls = message.tool_calls or ()
    parts += [_tool_call(call) for call in calls]
    if message.function_call is not None and not calls:
        parts.append(_tool_call(ToolCallShape(function=message.function_call)))
    return tuple(parts)


def _tool_call(shape: ToolCallShape) -> ToolCall:
    call_id = shape.id or new_id("call_")
    if shape.custom is not None:
        text = shape.custom.input if isinstance(shape.custom.input, str) else ""
        return ToolCall(id=call_id, name=shape.custom.name or "", arguments=text, freeform=True)
    function = shape.function
    if function is None:
        raise malformed("answered with a tool call without a function")
    return ToolCall(id=call_id, name=function.name or "", arguments=arguments_of(function) or "{}")


def write_answer(completion: Completion, asked: Asked, loss: Loss) -> bytes:
    """The signatures of thinking have no place here: they are the caller's to lose, or kept by the translation."""
    created = completion.created if completion.created is not None else asked.now
    refused = any(isinstance(part, Refusal) for part in completion.parts)
    choice: Json = {
        "index": 0,
        "message": _message(completion.parts, loss),
        "logprobs": None,
        "finish_reason": finish_word(completion.stop, refused=refused),
    }
    if completion.stop_sequence is not None:
        choice["stop_reason"] = completion.stop_sequence
    body: Json = {
        "id": completion.id,
        "object": "chat.completion",
        "created": created,
        "model": completion.model,
        "choices": [choice],
    }
    if completion.usage is not None:
        body["usage"] = write_usage(completion.usage)
    return msgspec.json.encode(body)


def finish_word(stop: StopReason, *, refused: bool) -> str:
    """The finish reason. OpenAI ends a refusal in words with `stop`; a filtered answer has no words."""
    return "stop" if stop is StopReason.REFUSAL and refused else FINISH_WORDS[stop]


def _message(parts: tuple[Part, ...], loss: Loss) -> Json:
    texts: list[str] = []
    annotations: list[Json] = []
    length = 0
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
            name_lost_citations(part.citations, loss)
            end = length + len(part.text)
            found = [write_annotation(citation, length, end) for citation in part.citations]
            annotations += [annotation for annotation in found if annotation is not None]
            length = end
    refusals = [part.text for part in parts if isinstance(part, Refusal)]
    thinking = [part.text for part in parts if isinstance(part, Thinking)]
    calls = [write_call(part) for part in parts if isinstance(part, ToolCall)]
    message: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if any(thinking):
        message["reasoning_content"] = "".join(thinking)
    if annotations:
        message["annotations"] = annotations
    if calls:
        message["tool_calls"] = calls
    return message


def write_call(call: ToolCall) -> Json:
    if call.freeform:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def write_stream_error(error: ErrorReport) -> bytes:
    """The event that the SDK's `Stream` raises on."""
    return b"data: " + write_error(error) + b"\n\n"
