"""What chat completion answers and chunks look like, as far as they are read.

Shapes: `openai.types.chat.ChatCompletion`, `ChatCompletionChunk` and `openai.types.CompletionUsage`, with what the many
imitations do differently: members that are null or missing, `reasoning_content` (DeepSeek, vLLM) or `reasoning`
(OpenRouter, Ollama), content in parts (Mistral), `stop_reason` (vLLM) and `matched_stop` (SGLang) for the stop sequence
that was hit, and tool calls without `index`.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from ..interface import Usage
from .neutral import Citation, StopReason
from .openai_annotations import read_span


class Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None
    input: Any = None  # of a custom tool


class ToolCallShape(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None
    custom: Function | None = None


class Message(msgspec.Struct):
    """A message, or the part of one that a chunk adds."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[ToolCallShape] | None = None
    function_call: Function | None = None
    annotations: Any = None
    audio: Any = None


class Choice(msgspec.Struct):
    index: int | None = None
    message: Message | None = None
    delta: Message | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    matched_stop: Any = None
    logprobs: Any = None


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class UsageShape(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Chunk(msgspec.Struct):
    """A chunk or a whole completion."""

    id: str | None = None
    model: str | None = None
    created: Any = None
    choices: list[Choice] | None = None
    usage: UsageShape | None = None
    error: Any = None


decode: Final = msgspec.json.Decoder(Chunk).decode

FINISH_REASONS: Final = {
    "stop": StopReason.END,
    "length": StopReason.LENGTH,
    "tool_calls": StopReason.TOOL_USE,
    "function_call": StopReason.TOOL_USE,
    "content_filter": StopReason.REFUSAL,
}
"""Any other word is a genuine end too."""
FINISH_WORDS: Final = {
    StopReason.END: "stop",
    StopReason.LENGTH: "length",
    StopReason.STOP_SEQUENCE: "stop",
    StopReason.TOOL_USE: "tool_calls",
    StopReason.REFUSAL: "content_filter",
    StopReason.PAUSE: "stop",
    StopReason.CONTEXT_WINDOW: "length",
}


def read_usage(shape: UsageShape | None) -> Usage | None:
    if shape is None:
        return None
    prompt, completion = shape.prompt_tokens_details, shape.completion_tokens_details
    return Usage(
        prompt_tokens=shape.prompt_tokens or 0,
        completion_tokens=shape.completion_tokens or 0,
        cached_tokens=(prompt.cached_tokens or 0) if prompt else 0,
        cache_write_tokens=(prompt.cache_write_tokens or 0) if prompt else 0,
        reasoning_tokens=(completion.reasoning_tokens or 0) if completion else 0,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    prompt: dict[str, int] = {"cached_tokens": usage.cached_tokens}
    if usage.cache_write_tokens:
        prompt["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def stop_of(choice: Choice, *, called: bool, refused: bool) -> tuple[StopReason, str | None]:
    """Why a choice ended, and the stop sequence it hit.

    `called`: it has tool calls, which some providers end with `stop`; `refused`: it has words of refusal, which OpenAI
    does.
    """
    stop = FINISH_REASONS.get(choice.finish_reason or "stop", StopReason.END)
    if stop is StopReason.END:
        for hit in (choice.stop_reason, choice.matched_stop):
            if isinstance(hit, str) and hit:
                return StopReason.STOP_SEQUENCE, hit
        if called:
            stop = StopReason.TOOL_USE
        elif refused:
            stop = StopReason.REFUSAL
    return stop, None


def text_of(content: object) -> str:
    """The text of a message's content: itself, or that of its text parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(_part_text(part, "text") for part in cast("list[object]", content))


def thinking_of(message: Message) -> str:
    """The reasoning of a message, under any of the names it has."""
    if message.reasoning_content:
        return message.reasoning_content
    if isinstance(message.reasoning, str):
        return message.reasoning
    if isinstance(message.content, list):
        return "".join(_thinking_part(part) for part in message.content)
    return ""


def _thinking_part(part: object) -> str:
    inner = cast("dict[str, object]", part).get("thinking") if isinstance(part, dict) else None
    return text_of(inner)


def _part_text(part: object, kind: str) -> str:
    if not isinstance(part, dict):
        return ""
    fields = cast("dict[str, object]", part)
    text = fields.get("text")
    return text if fields.get("type") == kind and isinstance(text, str) else ""


def arguments_of(function: Function) -> str:
    """The arguments' text; some providers send the object itself."""
    value = function.arguments
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def citations_of(annotations: object) -> tuple[Citation, ...]:
    """The `url_citation` annotations of a message (`chat_completion_message.Annotation`)."""
    found: list[Citation] = []
    for item in cast("list[object]", annotations) if isinstance(annotations, list) else ():
        inner = cast("dict[str, object]", item).get("url_citation") if isinstance(item, dict) else None
        if isinstance(inner, dict):
            fields = cast("dict[str, object]", inner)
            url, title = fields.get("url"), fields.get("title")
            if isinstance(url, str):
                span = read_span(fields)
                found.append(Citation(url=url, title=title if isinstance(title, str) else None, span=span))
    return tuple(found)


def write_annotation(citation: Citation, start: int, end: int) -> dict[str, Any] | None:
    """The annotation for a text that stands at `start:end` of the message; None for what is no page of the web."""
    if citation.url is None:
        return None
    if citation.span is not None:
        start, end = start + citation.span[0], min(start + citation.span[1], end)
    found = {"url": citation.url, "title": citation.title or "", "start_index": start, "end_index": end}
    return {"type": "url_citation", "url_citation": found}
