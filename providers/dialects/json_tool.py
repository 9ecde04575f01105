"""JSON answers from models that have no response format: a tool they must call, unwrapped again.

The model is given one more tool whose arguments are the answer, and is made to call some tool. What it calls the tool
with is the answer's text, whole and streamed. It works on the neutral form, for any dialect that lacks the format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import attrs

from .neutral import (
    Completion,
    Conversation,
    StopReason,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from .neutral_events import (
    ArgumentsDelta,
    CitationDelta,
    Ended,
    PartEnded,
    PartStarted,
    StreamEvent,
    TextDelta,
)

_NAME: Final = "json_answer"
_DESCRIPTION: Final = "Give the final answer. Its arguments are the whole answer; call it exactly once."
_OPEN: Final[Mapping[str, object]] = {"type": "object"}

# What Anthropic's native structured output refuses in a schema:
# https://platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema limitations".
_REFUSED: Final = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
        "maxItems", "uniqueItems", "contains", "patternProperties", "propertyNames", "minProperties", "maxProperties",
        "if", "then", "else", "not", "oneOf", "dependentRequired", "dependentSchemas", "prefixItems",
    }
)  # fmt: skip
_DEEPEST: Final = 64


def wants_object(conversation: Conversation) -> bool:
    """Whether the schema asked for is an object's, the only kind a tool's arguments can have."""
    form = conversation.format
    return form is not None and form.schema is not None and form.schema.get("type", "object") == "object"


def with_json_tool(conversation: Conversation) -> tuple[Conversation, str]:
    """`conversation` with the tool in place of its format, and the tool's name. Its schema must be an object's.

    With other tools the model may still call those: then it must call one of them or this. One that the caller itself
    requires is left alone.
    """
    form = conversation.format
    assert form is not None
    name = _NAME
    while any(tool.name == name for tool in conversation.tools):
        name += "_"
    schema = {**_OPEN, **(form.schema or {})}
    tool = Tool(name=name, description=form.description or _DESCRIPTION, schema=schema)
    given = conversation.tool_choice
    if given is not None and given.mode is ToolMode.NAMED:
        choice = given
    elif not conversation.tools or (given is not None and given.mode is ToolMode.NONE):
        choice = ToolChoice(mode=ToolMode.NAMED, name=name)
    else:
        choice = ToolChoice(mode=ToolMode.REQUIRED)
    tools = (*conversation.tools, tool)
    return attrs.evolve(conversation, tools=tools, tool_choice=choice, format=None), name


def unwrap(completion: Completion, name: str) -> Completion:
    """The answer with the call of the tool as its text. Other text is the model talking to itself, and is left out."""
    if not any(isinstance(part, ToolCall) and part.name == name for part in completion.parts):
        return completion
    parts = tuple(
        Text(text=part.arguments) if isinstance(part, ToolCall) and part.name == name else part
        for part in completion.parts
        if not isinstance(part, Text)
    )
    called = any(isinstance(part, ToolCall) for part in parts)
    return attrs.evolve(completion, parts=parts, stop=_stop(completion.stop, called=called))


def _stop(stop: StopReason, *, called: bool) -> StopReason:
    return StopReason.END if stop is StopReason.TOOL_USE and not called else stop


class UnwrapEvents:
    """`unwrap` for a stream. Text is held back until the end, as only then it is known not to be left out."""

    __slots__ = ("_called", "_held", "_indexes", "_name", "_next", "_text", "_unwrapped")

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: list[StreamEvent] = []
        self._text: set[int] = set()
        self._unwrapped: set[int] = set()
        self._indexes: dict[int, int] = {}
        self._next = 0
        self._called = False

    def feed(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        out: list[StreamEvent] = []
        for event in events:
            self._event(event, out)
        return out

    def _event(self, event: StreamEvent, out: list[StreamEvent]) -> None:
        match event:
            case PartStarted(part=Text()):
                self._text.add(event.index)
                self._held.append(event)
            case PartStarted():
                out.append(self._started(event))
            case TextDelta() | PartEnded() | CitationDelta() if event.index in self._text:
                self._held.append(event)
            case ArgumentsDelta() if event.index in self._unwrapped:
                out.append(TextDelta(self._indexes[event.index], event.arguments))
            case Ended():
                if not self._unwrapped:
                    out += [self._moved(held) for held in self._held]
                    out.append(event)
                else:
                    out.append(attrs.evolve(event, stop=_stop(event.stop, called=self._called)))
            case _:
                out.append(self._moved(event))

    def _started(self, event: PartStarted) -> StreamEvent:
        part = event.part
        if isinstance(part, ToolCall) and part.name == self._name:
            self._unwrapped.add(event.index)
            event = attrs.evolve(event, part=Text(text=part.arguments))
        else:
            self._called = self._called or isinstance(part, ToolCall)
        return self._moved(event)

    def _moved(self, event: StreamEvent) -> StreamEvent:
        """`event` with the index its part has among those that are passed on."""
        index = getattr(event, "index", None)
        if index is None:
            return event
        if index not in self._indexes:
            self._indexes[index] = self._next
            self._next += 1
        return cast("StreamEvent", attrs.evolve(cast("Any", event), index=self._indexes[index]))


def fits_native(schema: object, depth: int = 0) -> bool:
    """Whether Anthropic's native structured output takes `schema`: objects closed, nothing it does not support."""
    if depth > _DEEPEST:
        return False
    if isinstance(schema, list):
        return all(fits_native(item, depth + 1) for item in cast("list[object]", schema))
    if not isinstance(schema, dict):
        return True
    fields = cast("dict[str, object]", schema)
    if fields.get("type") == "object" and fields.get("additionalProperties") is not False:
        return False
    for key, value in fields.items():
        if key in _REFUSED or (key == "minItems" and value not in (0, 1)):
            return False
        if key in ("properties", "$defs", "definitions"):  # names of the caller's own, not keywords
            if not isinstance(value, dict):
                return False
            if not fits_native(list(cast("dict[str, object]", value).values()), depth + 1):
                return False
        elif key not in ("enum", "const", "default", "examples", "required") and not fits_native(value, depth + 1):
            return False
    return True
