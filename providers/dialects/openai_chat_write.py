"""Chat completion requests, written.

Shapes: `openai.types.chat.completion_create_params`. Written so that OpenAI's own strict API takes it, and with nothing
in it that the many APIs that imitate it do not know. What the reasoning models refuse (temperature, top_p and
max_tokens) is in https://platform.openai.com/docs/guides/reasoning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from .dialect import Target, Written
from .efforts import effort_of
from .neutral import (
    Base64,
    Conversation,
    Document,
    FileId,
    Image,
    JsonFormat,
    Part,
    PlainText,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    Url,
)
from .reasoning_models import never_reasons, reasons
from .report import Loss
from .turns import write_url

Json = dict[str, Any]

CARRIED: Final = frozenset(
    {
        "frequency_penalty", "logit_bias", "moderation", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "seed", "store", "verbosity",
        "web_search_options",
    }
)  # fmt: skip
"""The fields of other callers that mean here what they mean there. Not what only chat's own answers have a place for:
`n`, `logprobs`, `top_logprobs`, `audio`, `modalities`."""

MOST_STOPS: Final = 4


def write_request(conversation: Conversation, target: Target) -> Written:
    """Drops what the API has no place for, and names it. Never raises."""
    loss = Loss(*conversation.lost)
    body: Json = {"model": target.model, "messages": _messages(conversation, loss)}
    _tools(conversation, body, loss)
    _limits(conversation, target, body, loss)
    if conversation.format is not None:
        body["response_format"] = _format(conversation.format)
    _reasoning(conversation.reasoning, target.model, body, loss)
    _account(conversation, body)
    if conversation.stream:
        body["stream"] = True
        if conversation.include_usage:
            body["stream_options"] = {"include_usage": True}
    for name, value in conversation.extras.items():
        if name in CARRIED:
            body[name] = value
        else:
            loss.drop(name)
    return Written(body=msgspec.json.encode(body), loss=loss)


def _messages(conversation: Conversation, loss: Loss) -> list[Json]:
    messages: list[Json] = []
    if conversation.system:
        messages.append({"role": "system", "content": _texts(conversation.system, loss)})
    for turn in conversation.turns:
        match turn.role:
            case Role.SYSTEM:
                messages.append({"role": "system", "content": _texts(turn.parts, loss)})
            case Role.ASSISTANT:
                messages.append(_assistant(turn, loss))
            case Role.USER:
                messages += _user(turn, loss)
    if conversation.cache_control:
        loss.drop("cache_control")
    if conversation.turns and conversation.turns[-1].role is Role.ASSISTANT:
        loss.change("messages", "begun answer not continued")  # the API answers anew
    return messages


def _texts(parts: Iterable[Part], loss: Loss) -> str | list[Json]:
    """Text content: a string where one part says it all, which every imitation of the API takes."""
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            _mark(part, loss)
            texts.append(part.text)
        else:
            loss.drop(f"messages.content.{type(part).__name__.lower()}")
    if len(texts) == 1:
        return texts[0]
    return [{"type": "text", "text": text} for text in texts] if texts else ""


def _mark(part: Text | Image | Document | ToolCall | ToolResult | Tool, loss: Loss) -> None:
    if part.cache_control is not None:
        loss.drop("cache_control")  # OpenAI caches without being asked
    if isinstance(part, Text) and part.citations:
        loss.drop("messages.content.citations")


def _assistant(turn: Turn, loss: Loss) -> Json:
    message: Json = {"role": "assistant"}
    texts = [part for part in turn.parts if isinstance(part, Text)]
    refusals = [part.text for part in turn.parts if isinstance(part, Refusal)]
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    if any(isinstance(part, Thinking | RedactedThinking) for part in turn.parts):
        loss.drop("thinking")
    if any(isinstance(part, Image | Document) for part in turn.parts):
        loss.drop("messages.content(images of assistants)")
    if _text_after_call(turn.parts):
        loss.change("messages", "text moved before tool calls")
    message["content"] = _texts(texts, loss) if texts or not (refusals or calls) else None
    if refusals:
        message["refusal"] = "".join(refusals)
    if calls:
        message["tool_calls"] = [_call(call, loss) for call in calls]
    return message


def _text_after_call(parts: Sequence[Part]) -> bool:
    called = False
    for part in parts:
        called = called or isinstance(part, ToolCall)
        if called and isinstance(part, Text):
            return True
    return False


def _call(call: ToolCall, loss: Loss) -> Json:
    _mark(call, loss)
    if call.freeform:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _user(turn: Turn, loss: Loss) -> Iterable[Json]:
    """The turn's tool messages, then its own message. A tool message takes text only: pictures in results follow."""
    moved: list[Part] = []
    for part in turn.parts:
        if isinstance(part, ToolResult):
            _mark(part, loss)
            if part.is_error:
                loss.drop("tool_result.is_error")
            texts = [inner for inner in part.parts if isinstance(inner, Text)]
            moved += [inner for inner in part.parts if not isinstance(inner, Text)]
            yield {"role": "tool", "tool_call_id": part.call_id, "content": _texts(texts, loss)}
    if moved:
        loss.change("tool_result.content", "images and documents moved")
    rest = [part for part in turn.parts if not isinstance(part, ToolResult)]
    content = [item for part in (*moved, *rest) for item in _content(part, loss)]
    if content:
        only = content[0] if len(content) == 1 else None
        yield {"role": "user", "content": only["text"] if only and only["type"] == "text" else content}
    elif rest or not turn.parts:
        yield {"role": "user", "content": ""}  # nothing of the turn could be carried: it still was a turn


def _content(part: Part, loss: Loss) -> Iterable[Json]:
    match part:
        case Text():
            _mark(part, loss)
            yield {"type": "text", "text": part.text}
        case Image():
            _mark(part, loss)
            if isinstance(part.source, FileId):
                loss.drop("messages.content.image.file_id")
                return
            image: Json = {"url": write_url(part.source)}
            if part.detail:
                image["detail"] = part.detail
            yield {"type": "image_url", "image_url": image}
        case Document():
            _mark(part, loss)
            yield from _document(part, loss)
        case _:
            loss.drop(f"messages.content.{type(part).__name__.lower()}")


def _document(part: Document, loss: Loss) -> Iterable[Json]:
    if part.citations:
        loss.drop("document.citations")
    if part.context is not None:
        loss.change("document.context", "as text")
        yield {"type": "text", "text": part.context}
    match part.source:
        case Base64():
            file: Json = {"file_data": write_url(part.source)}
            if part.title is not None:
                file["filename"] = part.title
            yield {"type": "file", "file": file}
        case PlainText(text=text):
            loss.change("document", "as text")
            yield {"type": "text", "text": text if part.title is None else f"{part.title}\n\n{text}"}
        case Url():
            loss.drop("document.url")
        case FileId():
            loss.drop("document.file_id")


def _tools(conversation: Conversation, body: Json, loss: Loss) -> None:
    if not conversation.tools:
        if conversation.tool_choice is not None and conversation.tool_choice.mode in (
            ToolMode.REQUIRED,
            ToolMode.NAMED,
        ):
            loss.drop("tool_choice")
        return  # whatever else is said about tools says nothing without any
    body["tools"] = [_tool(tool, loss) for tool in conversation.tools]
    if conversation.tool_choice is not None:
        body["tool_choice"] = _tool_choice(conversation.tool_choice, conversation.tools)
    if conversation.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = conversation.parallel_tool_calls


def _tool(tool: Tool, loss: Loss) -> Json:
    _mark(tool, loss)
    found: Json = {"name": tool.name}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.freeform:
        if tool.grammar is not None:
            found["format"] = tool.grammar
        return {"type": "custom", "custom": found}
    if tool.schema is not None:
        found["parameters"] = tool.schema
    if tool.strict is not None:
        found["strict"] = tool.strict
    return {"type": "function", "function": found}


def _tool_choice(choice: ToolChoice, tools: Iterable[Tool]) -> str | Json:
    if choice.mode is not ToolMode.NAMED:
        return str(choice.mode.value)
    kind = "custom" if any(tool.freeform for tool in tools if tool.name == choice.name) else "function"
    return {"type": kind, kind: {"name": choice.name}}


def _limits(conversation: Conversation, target: Target, body: Json, loss: Loss) -> None:
    reasoner = reasons(target.model)
    if conversation.max_tokens is not None:
        body["max_completion_tokens" if reasoner else "max_tokens"] = conversation.max_tokens
    if conversation.stop:
        body["stop"] = list(conversation.stop[:MOST_STOPS])
        if len(conversation.stop) > MOST_STOPS:
            loss.clamp("stop")
    if conversation.top_k is not None:
        loss.drop("top_k")
    sampled = not reasoner or (conversation.reasoning is not None and conversation.reasoning.effort == "none")
    for name, value, highest in (("temperature", conversation.temperature, 2.0), ("top_p", conversation.top_p, 1.0)):
        if value is None:
            continue
        if not sampled and value != 1:
            loss.drop(name)
            continue
        body[name] = min(max(value, 0.0), highest)
        if body[name] != value:
            loss.clamp(name)


def _format(form: JsonFormat) -> Json:
    if form.schema is None:
        return {"type": "json_object"}
    given: Json = {"name": form.name or "answer", "schema": form.schema}
    if form.description is not None:
        given["description"] = form.description
    if form.strict is not None:
        given["strict"] = form.strict
    return {"type": "json_schema", "json_schema": given}


def _reasoning(reasoning: Reasoning | None, model: str, body: Json, loss: Loss) -> None:
    """The effort, where one was given. A budget becomes the effort nearest to it, for models known to reason."""
    if reasoning is None:
        return
    if reasoning.summary is not None:
        loss.drop("reasoning.summary")
    off = reasoning.mode is ReasoningMode.OFF or (reasoning.mode is None and reasoning.effort == "none")
    if never_reasons(model):
        if not off:
            loss.drop("reasoning")
    elif reasoning.effort is not None and reasoning.mode is not ReasoningMode.OFF:
        body["reasoning_effort"] = reasoning.effort
        if reasoning.mode is ReasoningMode.BUDGET:
            loss.change("reasoning", "as effort")
    elif reasoning.mode is ReasoningMode.BUDGET and reasons(model):
        body["reasoning_effort"] = effort_of(reasoning.budget_tokens)
        loss.change("reasoning", "as effort")
    else:
        loss.drop("reasoning")


def _account(conversation: Conversation, body: Json) -> None:
    if conversation.user is not None:
        body["user"] = conversation.user
    if conversation.metadata:
        body["metadata"] = dict(conversation.metadata)
    if conversation.service_tier is not None:
        body["service_tier"] = conversation.service_tier
