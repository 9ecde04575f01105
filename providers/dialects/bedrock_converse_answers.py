"""Converse answers and errors, read and written whole. Shapes: see `bedrock_converse_shapes`.

An answer says neither its id nor its model: the id is made here, the model is for whoever asked it to say.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

import msgspec

from infermux.errors import InvalidRequest

from .bedrock_converse_blocks import Blocks, reasoning
from .bedrock_converse_models import traits
from .bedrock_converse_read import read_blocks
from .bedrock_converse_shapes import (
    BROKEN_STOPS,
    ERROR_NAMES,
    ERRORS,
    STOP_REASONS,
    STOP_WORDS,
    UsageShape,
    error_name,
    read_usage,
    write_usage,
)
from .dialect import STATUS_OF_KIND, Asked, kind_of_status, malformed, new_id
from .fields import Fields
from .neutral import Completion, ErrorKind, ErrorReport, Part, RedactedThinking, StopReason, Text, Thinking, ToolCall
from .report import Loss

Json = dict[str, Any]

# The wordings of the models behind Bedrock, all ValidationExceptions but where a model is at fault. Claude:
# "Input is too long for requested model.", "prompt is too long: 200049 tokens > 200000 maximum", "input length and
# `max_tokens` exceed context limit"; Nova: "Input Tokens Exceeded"; Titan, Cohere: "Too many input tokens"; Llama,
# Mistral, gpt-oss: "maximum context length".
_CONTEXT: Final = re.compile(
    r"input is too long|prompt is too long|exceeds? (?:the )?(?:maximum )?context|maximum context length|"
    r"too many (?:input )?tokens|input tokens exceeded|context (?:length|window) exceeded",
    re.IGNORECASE,
)


class _Output(msgspec.Struct):
    message: dict[str, Any] | None = None


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output
    stop_reason: str
    usage: UsageShape | None = None
    additional_model_response_fields: Any = None


_answers: Final = msgspec.json.Decoder(_Answer)


def read_answer(body: bytes, model: str = "") -> Completion:
    """An answer of `model`. Raises UpstreamFailure(MALFORMED), also where Bedrock says that the model's output was."""
    try:
        answer = _answers.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise malformed(f"answered with what is no Converse answer: {error}") from None
    if answer.stop_reason in BROKEN_STOPS:
        raise malformed(f"answered with what Bedrock could not read itself: {answer.stop_reason}")
    try:
        message = Fields(answer.output.message or {}, "output.message")
        lost: list[str] = []
        parts = [part for part in read_blocks(message.objects("content"), lost) if answers(part)]
    except InvalidRequest as error:
        raise malformed(f"answered with what is no Converse answer: {error}") from None
    stop, sequence = read_stop(answer.stop_reason, answer.additional_model_response_fields)
    usage = read_usage(answer.usage)
    return Completion(
        id=new_id("msg_"),
        model=model,
        parts=tuple(parts),
        stop=stop,
        stop_sequence=sequence,
        usage=usage,
        lost=tuple(lost),
    )


def answers(part: Part) -> bool:
    """Whether a part is one that answers have; an empty text says nothing."""
    return not isinstance(part, Text) or bool(part.text)


def read_stop(reason: str, more: object) -> tuple[StopReason, str | None]:
    """Why the model stopped, and at which stop sequence: `more` are the additional response fields."""
    stop = STOP_REASONS.get(reason, StopReason.END)
    sequence = cast("dict[str, object]", more).get("stop_sequence") if isinstance(more, dict) else None
    return stop, sequence if stop is StopReason.STOP_SEQUENCE and isinstance(sequence, str) else None


def write_answer(completion: Completion, asked: Asked, loss: Loss) -> bytes:
    blocks = Blocks(traits(asked.conversation.model), loss)
    content: list[Json] = []
    for part in completion.parts:
        if isinstance(part, Thinking | RedactedThinking):
            content.append({"reasoningContent": reasoning(part)})
        else:
            content += blocks.blocks((part,))
    body: Json = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": STOP_WORDS[completion.stop],
        "usage": None if completion.usage is None else write_usage(completion.usage),
        "metrics": {"latencyMs": 0},
    }
    if completion.stop_sequence is not None:
        body["additionalModelResponseFields"] = {"stop_sequence": completion.stop_sequence}
    return msgspec.json.encode(body)


def empty_call(part: object) -> bool:
    """Whether a tool call that begins with `part` has no arguments yet."""
    return isinstance(part, ToolCall) and not part.arguments


class _Error(msgspec.Struct):
    message: Any = None
    Message: Any = None
    type: Any = msgspec.field(default=None, name="__type")


_errors: Final = msgspec.json.Decoder(_Error)


def read_error(status: int, body: bytes, name: str = "") -> ErrorReport:
    """Never raises. `name` is the exception's, where something else than the body says it (`x-amzn-ErrorType`)."""
    try:
        error = _errors.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        error = _Error(message=body[:500].decode("utf-8", "replace").strip())
    said = error.message if isinstance(error.message, str) else error.Message
    message = said if isinstance(said, str) else ""
    name = error_name(name or (error.type if isinstance(error.type, str) else ""))
    kind, known = ERRORS.get(name, (kind_of_status(status), status))
    code: str | None = name or None
    if kind in (ErrorKind.INVALID_REQUEST, ErrorKind.SERVER) and _CONTEXT.search(message):
        kind, known, code = ErrorKind.INVALID_REQUEST, 400, "context_length_exceeded"
    return ErrorReport(
        kind=kind,
        status=known,
        message=message or f"the provider answered {status}" + (f" ({name})" if name else ""),
        type=name or None,
        code=code,
    )


def error_object(error: ErrorReport) -> tuple[str, Json]:
    """The exception's name and its members."""
    name = error.type if error.type in ERRORS else ERROR_NAMES[error.kind]
    return name or "", {"message": error.message}


def write_error(error: ErrorReport) -> bytes:
    """As AWS services write it where the header `x-amzn-ErrorType` cannot say the type."""
    name, members = error_object(error)
    return msgspec.json.encode({"__type": name, **members})


def stream_failure(name: str, data: bytes) -> ErrorReport:
    """The error that an exception inside a stream is."""
    known = ERRORS.get(error_name(name))
    return read_error(STATUS_OF_KIND[ErrorKind.SERVER] if known is None else known[1], data, name)
