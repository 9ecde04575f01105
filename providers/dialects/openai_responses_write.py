"""Response requests, written. Shapes: `openai.types.responses.response_create_params`.

Nothing is stored (`store` is false) unless the caller asked for it: reasoning comes back encrypted, to be sent again.
What the reasoning models refuse (temperature and top_p) is in https://platform.openai.com/docs/guides/reasoning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from .dialect import Target, Written
from .efforts import effort_of
from .neutral import (
    Base64,
    Conversation,
    Document,
    FileId,
    Image,
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
    ToolMode,
    ToolResult,
    Url,
)
from .openai_responses_shapes import (
    NAME,
    Json,
    of_own_signature,
    write_call,
    write_format,
    write_tool,
    write_tool_choice,
)
from .reasoning_models import never_reasons, reasons
from .report import Loss
from .turns import write_url

CARRIED: Final = frozenset(
    {
        "max_tool_calls", "moderation", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "safety_identifier", "store", "truncation",
    }
)  # fmt: skip
"""The fields of other callers that mean here what they mean there."""

LEAST_TOKENS: Final = 16
"""The API refuses a `max_output_tokens` below this."""
_SUMMARIES: Final = frozenset({"auto", "concise", "detailed"})


def write_request(conversation: Conversation, target: Target) -> Written:
    """Drops what the API has no place for, and names it. Never raises."""
    loss = Loss(*conversation.lost)
    body: Json = {"model": target.model, "input": [], "store": False}
    _system(conversation, body, loss)
    body["input"] += _Input(loss).items(conversation)
    _tools(conversation, body, loss)
    _limits(conversation, target, body, loss)
    if conversation.format is not None:
        body["text"] = {"format": write_format(conversation.format)}
    _reasoning(conversation.reasoning, target.model, body, loss)
    if reasons(target.model):
        body["include"] = ["reasoning.encrypted_content"]
    _account(conversation, body)
    if conversation.stream:
        body["stream"] = True
    for name, value in conversation.extras.items():
        if name in CARRIED:
            body[name] = value
        elif name == "verbosity":
            body.setdefault("text", {})["verbosity"] = value
        else:
            loss.drop(name)
    return Written(body=msgspec.json.encode(body), loss=loss)


def _system(conversation: Conversation, body: Json, loss: Loss) -> None:
    """The first system text as `instructions`, further ones as the developer's message that they are there."""
    if conversation.cache_control is not None:
        loss.drop("cache_control")
    if not conversation.system:
        return
    for part in conversation.system:
        _mark(part, loss)
    body["instructions"] = conversation.system[0].text
    rest = [{"type": "input_text", "text": part.text} for part in conversation.system[1:]]
    if rest:
        body["input"].append({"role": "developer", "content": rest})


def _mark(part: Text | Image | Document | ToolCall | ToolResult | Tool, loss: Loss) -> None:
    if part.cache_control is not None:
        loss.drop("cache_control")  # OpenAI caches without being asked, and only newer models take marks
    if isinstance(part, Text) and part.citations:
        loss.drop("messages.content.citations")


class _Input:
    """Writes the turns as items."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._freeform: set[str] = set()  # ids of the calls of tools that take text

    def items(self, conversation: Conversation) -> Iterator[Json]:
        for turn in conversation.turns:
            match turn.role:
                case Role.USER:
                    yield from self._user(turn.parts)
                case Role.ASSISTANT:
                    yield from self._assistant(turn.parts)
                case Role.SYSTEM:
                    content = list(self._contents(part for part in turn.parts if isinstance(part, Text)))
                    if len(content) < len(turn.parts):
                        self._loss.drop("messages.content(other than text of systems)")
                    yield {"role": "developer", "content": content}

    def _user(self, parts: Iterable[Part]) -> Iterator[Json]:
        rest: list[Part] = []
        for part in parts:
            if isinstance(part, ToolResult):
                yield self._result(part)
            else:
                rest.append(part)
        if rest:
            yield {"role": "user", "content": list(self._contents(rest))}

    def _result(self, part: ToolResult) -> Json:
        _mark(part, self._loss)
        if part.is_error:
            self._loss.drop("tool_result.is_error")
        content = list(self._contents(part.parts))
        plain = len(content) == 1 and content[0]["type"] == "input_text"
        kind = "custom_tool_call_output" if part.call_id in self._freeform else "function_call_output"
        output = content[0]["text"] if plain else content or ""
        return {"type": kind, "call_id": part.call_id, "output": output}

    def _assistant(self, parts: Iterable[Part]) -> Iterator[Json]:
        message: list[Json] = []
        for part in parts:
            content = self._words(part)
            if content is not None:
                message.append(content)
                continue
            if message:
                yield {"role": "assistant", "content": message}
                message = []
            yield from self._item(part)
        if message:
            yield {"role": "assistant", "content": message}

    def _words(self, part: Part) -> Json | None:
        """The content of an assistant's message that `part` is; None for what is an item of its own."""
        match part:
            case Text(text=text):
                _mark(part, self._loss)
                return {"type": "output_text", "text": text}
            case Refusal(text=text):
                return {"type": "refusal", "refusal": text}
            case _:
                return None

    def _item(self, part: Part) -> Iterator[Json]:
        match part:
            case ToolCall():
                _mark(part, self._loss)
                if part.freeform:
                    self._freeform.add(part.id)
                yield write_call(part)
            case Thinking():
                own = of_own_signature(part.signature)
                if own is None:
                    self._loss.drop("thinking")  # the API refuses reasoning it cannot decrypt
                    return
                summary = [{"type": "summary_text", "text": part.text}] if part.text else []
                yield {"type": "reasoning", "id": own[0], "summary": summary, "encrypted_content": own[1]}
            case RedactedThinking():
                self._loss.drop("thinking")
            case _:
                self._loss.drop("messages.content(images of assistants)")

    def _contents(self, parts: Iterable[Part]) -> Iterator[Json]:
        for part in parts:
            match part:
                case Text(text=text):
                    _mark(part, self._loss)
                    yield {"type": "input_text", "text": text}
                case Image():
                    yield from self._image(part)
                case Document():
                    yield from self._document(part)
                case _:
                    self._loss.drop(f"messages.content.{type(part).__name__.lower()}")

    def _image(self, part: Image) -> Iterator[Json]:
        _mark(part, self._loss)
        found: Json = {"type": "input_image", "detail": part.detail or "auto"}
        if not isinstance(part.source, FileId):
            found["image_url"] = write_url(part.source)
        elif part.source.dialect == NAME:
            found["file_id"] = part.source.id
        else:
            self._loss.drop("messages.content.image.file_id")
            return
        yield found

    def _document(self, part: Document) -> Iterator[Json]:
        _mark(part, self._loss)
        if part.citations:
            self._loss.drop("document.citations")
        if part.context is not None:
            self._loss.change("document.context", "as text")
            yield {"type": "input_text", "text": part.context}
        found: Json = {"type": "input_file"}
        match part.source:
            case Base64():
                found["file_data"] = write_url(part.source)
            case Url(url=url):
                found["file_url"] = url
            case FileId(id=file_id, dialect=dialect) if dialect == NAME:
                found["file_id"] = file_id
            case FileId():
                self._loss.drop("document.file_id")
                return
            case PlainText(text=text):
                self._loss.change("document", "as text")
                yield {"type": "input_text", "text": text if part.title is None else f"{part.title}\n\n{text}"}
                return
        if part.title is not None:
            found["filename"] = part.title
        yield found


def _tools(conversation: Conversation, body: Json, loss: Loss) -> None:
    choice = conversation.tool_choice
    if not conversation.tools:
        if choice is not None and choice.mode is not ToolMode.NONE:
            loss.drop("tool_choice")
        if conversation.parallel_tool_calls is not None:
            loss.drop("parallel_tool_calls")
        return
    for tool in conversation.tools:
        _mark(tool, loss)
    body["tools"] = [write_tool(tool) for tool in conversation.tools]
    if choice is not None:
        body["tool_choice"] = write_tool_choice(choice, conversation.tools)
    if conversation.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = conversation.parallel_tool_calls


def _limits(conversation: Conversation, target: Target, body: Json, loss: Loss) -> None:
    if conversation.max_tokens is not None:
        body["max_output_tokens"] = max(conversation.max_tokens, LEAST_TOKENS)
        if conversation.max_tokens < LEAST_TOKENS:
            loss.clamp("max_tokens")
    if conversation.stop:
        loss.drop("stop")
    if conversation.top_k is not None:
        loss.drop("top_k")
    effort = conversation.reasoning.effort if conversation.reasoning is not None else None
    sampled = effort == "none" or not reasons(target.model)
    for name, value, highest in (("temperature", conversation.temperature, 2.0), ("top_p", conversation.top_p, 1.0)):
        if value is None:
            continue
        if not sampled and value != 1:
            loss.drop(name)
            continue
        body[name] = min(max(value, 0.0), highest)
        if body[name] != value:
            loss.clamp(name)


def _reasoning(reasoning: Reasoning | None, model: str, body: Json, loss: Loss) -> None:
    """Effort and summary. A budget becomes the effort nearest to it, for models known to reason."""
    if reasoning is None:
        return
    found: Json = {}
    if never_reasons(model):
        if reasoning.mode is not ReasoningMode.OFF and reasoning.effort != "none":
            loss.drop("reasoning")
        return
    if reasoning.effort is not None:
        found["effort"] = reasoning.effort
        if reasoning.mode is not None:
            loss.change("reasoning", "as effort")
    elif reasoning.mode is ReasoningMode.BUDGET and reasons(model):
        found["effort"] = effort_of(reasoning.budget_tokens)
        loss.change("reasoning", "as effort")
    elif reasoning.mode is not None:
        loss.drop("reasoning")
    if reasoning.summary in _SUMMARIES:
        found["summary"] = reasoning.summary
    elif reasoning.summary is not None:
        loss.drop("reasoning.summary")
    if found:
        body["reasoning"] = found


def _account(conversation: Conversation, body: Json) -> None:
    if conversation.user is not None:
        body["user"] = conversation.user
    if conversation.metadata:
        body["metadata"] = dict(conversation.metadata)
    if conversation.service_tier is not None:
        body["service_tier"] = conversation.service_tier
