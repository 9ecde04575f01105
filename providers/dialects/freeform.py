"""Tools that take text, for providers that know only functions: a function of one string, unwrapped again.

OpenAI's custom tools are such (`openai.types.chat.chat_completion_custom_tool_param`); coding agents send patches
through them. It works on the neutral form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import msgspec

from .dialect import malformed
from .json_end import JsonEnd
from .neutral import (
    Completion,
    Conversation,
    Part,
    Tool,
    ToolCall,
)
from .neutral_events import (
    ArgumentsDelta,
    PartEnded,
    PartStarted,
    StreamEvent,
)
from .turns import arguments_object

_SCHEMA: Final[Mapping[str, object]] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


def wrap(conversation: Conversation) -> tuple[Conversation, frozenset[str]]:
    """`conversation` with its text tools and their calls as functions, and the names of these tools."""
    names = frozenset(tool.name for tool in conversation.tools if tool.freeform)
    used = any(isinstance(part, ToolCall) and part.freeform for turn in conversation.turns for part in turn.parts)
    if not names and not used:
        return conversation, names
    turns = tuple(attrs.evolve(turn, parts=tuple(map(_wrap_call, turn.parts))) for turn in conversation.turns)
    tools = tuple(map(_wrap_tool, conversation.tools))
    lost = (*conversation.lost, "tools.custom(as function)")
    return attrs.evolve(conversation, turns=turns, tools=tools, lost=lost), names


def _wrap_tool(tool: Tool) -> Tool:
    if not tool.freeform:
        return tool
    words = [tool.description or "", "The input is plain text."]
    if tool.grammar is not None and tool.grammar.get("type") != "text":
        words.append("It must follow this grammar: " + msgspec.json.encode(tool.grammar).decode())
    description = " ".join(word for word in words if word)
    return attrs.evolve(tool, description=description, schema=_SCHEMA, freeform=False, grammar=None)


def _wrap_call(part: Part) -> Part:
    if not isinstance(part, ToolCall) or not part.freeform:
        return part
    arguments = msgspec.json.encode({"input": part.arguments}).decode()
    return attrs.evolve(part, arguments=arguments, freeform=False)


def _text(arguments: str) -> str:
    """The text in the function's arguments; arguments of another shape are the text themselves."""
    value = arguments_object(arguments)[0].get("input")
    return value if isinstance(value, str) else arguments


def unwrap(completion: Completion, names: frozenset[str]) -> Completion:
    """The answer with the calls of `names` as calls of text tools."""
    parts = tuple(
        attrs.evolve(part, arguments=_text(part.arguments), freeform=True)
        if isinstance(part, ToolCall) and part.name in names
        else part
        for part in completion.parts
    )
    return attrs.evolve(completion, parts=parts)


@attrs.define(eq=False)
class _Held:
    """The arguments of a call so far."""

    pieces: list[str] = attrs.field(factory=list[str])
    end: JsonEnd = attrs.field(factory=JsonEnd)

    def add(self, arguments: str) -> bool:
        """Whether they are now whole, by their own account. Of what is no such object it may never be said."""
        self.pieces.append(arguments)
        seen = self.end.seen
        self.end.feed(arguments)
        if seen:
            return False  # and yet it was no object: looked at once is enough
        return self.end.seen and isinstance(arguments_object(self.text)[0].get("input"), str)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class UnwrapEvents:
    """`unwrap` for a stream. The text comes at once when the arguments are whole, which may be long before the provider
    says so: half of an escape cannot be undone."""

    __slots__ = ("_held", "_names", "_told")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held: dict[int, _Held] = {}
        self._told: set[int] = set()  # the calls whose text has been told, and that have not ended

    def feed(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        out: list[StreamEvent] = []
        for event in events:
            match event:
                case PartStarted(part=ToolCall() as call) if call.name in self._names:
                    self._held[event.index] = _Held()
                    out.append(attrs.evolve(event, part=attrs.evolve(call, arguments="", freeform=True)))
                    self._add(event.index, call.arguments, out)
                case ArgumentsDelta() if event.index in self._held:
                    self._add(event.index, event.arguments, out)
                case ArgumentsDelta() if event.index in self._told:
                    if not event.arguments.isspace():
                        raise malformed("streamed more of a tool call's arguments after their end")
                case PartEnded():
                    if event.index in self._held:
                        self._tell(event.index, out)
                    self._told.discard(event.index)
                    out.append(event)
                case _:
                    out.append(event)
        return out

    def _add(self, index: int, arguments: str, out: list[StreamEvent]) -> None:
        if self._held[index].add(arguments):
            self._tell(index, out)

    def _tell(self, index: int, out: list[StreamEvent]) -> None:
        self._told.add(index)
        out.append(ArgumentsDelta(index, _text(self._held.pop(index).text)))
