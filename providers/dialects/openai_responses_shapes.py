"""What responses look like, as far as they are read, and the pieces that requests, answers and streams share.

Shapes: `openai.types.responses.Response`, its `ResponseOutputItem`s and `ResponseUsage`. Members may be null or
missing: the API has imitations.

Reasoning goes to callers as an item with a summary; what proves it to the provider it came from, a signature, is its
`encrypted_content`, which callers send back unread. Ours begin with a mark, so that they are told from OpenAI's own.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from ..interface import Usage
from .neutral import (
    Citation,
    JsonFormat,
    RedactedThinking,
    StopReason,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from .openai_annotations import read_span

Json = dict[str, Any]

NAME: Final = "openai.responses"
SIGNED: Final = "infermux:signed:"
"""Begins the `encrypted_content` of thinking that another API signed; the signature follows."""
REDACTED: Final = "infermux:redacted:"
"""Begins the `encrypted_content` of thinking that only another API can read; its data follows."""
_OWN: Final = f"{NAME}:"
BETWEEN: Final = "\n\n"
"""Stands between the parts of a reasoning's summary, which are paragraphs."""


class Content(msgspec.Struct):
    """A part of a message, of a summary, or of reasoning."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: Any = None


class Item(msgspec.Struct):
    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    input: Any = None
    content: list[Content] | None = None
    summary: list[Content] | None = None
    encrypted_content: str | None = None


class InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class UsageShape(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class Incomplete(msgspec.Struct):
    reason: str | None = None


class Failure(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class ResponseShape(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    output: list[Item] | None = None
    usage: UsageShape | None = None
    error: Failure | None = None
    incomplete_details: Incomplete | None = None


decode_response: Final = msgspec.json.Decoder(ResponseShape).decode


def read_usage(shape: UsageShape | None) -> Usage | None:
    if shape is None:
        return None
    prompt, completion = shape.input_tokens_details, shape.output_tokens_details
    return Usage(
        prompt_tokens=shape.input_tokens or 0,
        completion_tokens=shape.output_tokens or 0,
        cached_tokens=(prompt.cached_tokens or 0) if prompt else 0,
        cache_write_tokens=(prompt.cache_write_tokens or 0) if prompt else 0,
        reasoning_tokens=(completion.reasoning_tokens or 0) if completion else 0,
    )


def write_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total,
    }


def read_stop(response: ResponseShape, *, called: bool, refused: bool) -> StopReason:
    """Why the response ended. `called`: it has tool calls; `refused`: it has words of refusal."""
    if response.status == "incomplete":
        reason = response.incomplete_details.reason if response.incomplete_details else None
        return StopReason.REFUSAL if reason == "content_filter" else StopReason.LENGTH
    if refused:
        return StopReason.REFUSAL
    return StopReason.TOOL_USE if called else StopReason.END


def incomplete_reason(stop: StopReason, *, refused: bool) -> str | None:
    """Why a response is incomplete; None for one that is complete, as one with words of refusal is."""
    match stop:
        case StopReason.LENGTH | StopReason.CONTEXT_WINDOW:
            return "max_output_tokens"
        case StopReason.REFUSAL:
            return None if refused else "content_filter"
        case _:
            return None


def arguments_text(value: object) -> str:
    """The arguments' text; imitations may send the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def read_annotations(annotations: object) -> tuple[Citation, ...]:
    """The `url_citation`s (`response_output_text.AnnotationURLCitation`)."""
    items = cast("list[object]", annotations) if isinstance(annotations, list) else []
    return tuple(citation for item in items if (citation := read_annotation(item)) is not None)


def read_annotation(value: object) -> Citation | None:
    """None for what is no page of the web: the files of the others are the provider's own."""
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    url, title = fields.get("url"), fields.get("title")
    if fields.get("type") != "url_citation" or not isinstance(url, str):
        return None
    return Citation(url=url, title=title if isinstance(title, str) and title else None, span=read_span(fields))


def write_annotations(part: Text) -> list[Json]:
    """Of the pages of the web. Where none says what piece of the text rests on it, it is the whole of the part."""
    found: list[Json] = []
    for citation in part.citations:
        if citation.url is not None:
            start, end = citation.span or (0, len(part.text))
            place = {"start_index": start, "end_index": min(end, len(part.text))}
            found.append({"type": "url_citation", "url": citation.url, "title": citation.title or "", **place})
    return found


def thinking_text(content: list[Content] | None, summary: list[Content] | None) -> str:
    """The reasoning itself where it is shown, else its summary."""
    own = "".join(part.text or "" for part in content or ())
    return own or BETWEEN.join(part.text or "" for part in summary or ())


def seal(part: Thinking | RedactedThinking) -> str | None:
    """The `encrypted_content` of a part for a caller; None where there is nothing to prove."""
    if isinstance(part, RedactedThinking):
        return REDACTED + part.data
    return None if part.signature is None else SIGNED + part.signature


def unseal(text: str, sealed: str) -> Thinking | RedactedThinking | None:
    """The reverse of `seal`; None for encrypted content that is OpenAI's own."""
    if sealed.startswith(REDACTED):
        return RedactedThinking(data=sealed.removeprefix(REDACTED))
    if sealed.startswith(SIGNED):
        return Thinking(text=text, signature=sealed.removeprefix(SIGNED))
    return None


def own_signature(item_id: str, encrypted: str) -> str:
    """A signature that holds the id and the encrypted content of a provider's own reasoning."""
    return f"{_OWN}{item_id}:{encrypted}"


def of_own_signature(signature: str | None) -> tuple[str, str] | None:
    """The reverse of `own_signature`; None for the signature of another API."""
    if signature is None or not signature.startswith(_OWN):
        return None
    item_id, _, encrypted = signature.removeprefix(_OWN).partition(":")
    return item_id, encrypted


def write_call(call: ToolCall) -> Json:
    """The item of a call, without id and status."""
    if call.freeform:
        return {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": call.arguments}
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments or "{}"}


def write_tool(tool: Tool) -> Json:
    """`strict` is always said: where it is not, the API takes it for true, which no other does."""
    found: Json = {"type": "custom" if tool.freeform else "function", "name": tool.name}
    if tool.description is not None:
        found["description"] = tool.description
    if not tool.freeform:
        found["parameters"] = tool.schema
        found["strict"] = bool(tool.strict)
    elif tool.grammar is not None:
        found["format"] = tool.grammar
    return found


def write_tool_choice(choice: ToolChoice | None, tools: tuple[Tool, ...]) -> str | Json:
    if choice is None:
        return "auto"
    if choice.mode is not ToolMode.NAMED:
        return str(choice.mode.value)
    freeform = any(tool.freeform for tool in tools if tool.name == choice.name)
    return {"type": "custom" if freeform else "function", "name": choice.name}


def write_format(form: JsonFormat | None) -> Json:
    if form is None:
        return {"type": "text"}
    if form.schema is None:
        return {"type": "json_object"}
    found: Json = {"type": "json_schema", "name": form.name or "answer", "schema": form.schema}
    if form.description is not None:
        found["description"] = form.description
    if form.strict is not None:
        found["strict"] = form.strict
    return found
