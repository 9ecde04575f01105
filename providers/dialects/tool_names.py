"""Names of tools that a provider's API refuses: shortened and respelled for it, and put back in the answer.

All of them take ASCII letters, digits, `_` and `-`; how many is the dialect's (`Dialect.longest_tool_name`). Programs
that name tools after servers and packages (`mcp__plugin_github__create_pull_request_review`, `calendar.create`) get
beyond both. It works on the neutral form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from .neutral import (
    Completion,
    Conversation,
    Part,
    ToolCall,
)
from .neutral_events import PartStarted, StreamEvent

_REFUSED: Final = re.compile(r"[^a-zA-Z0-9_-]")
_DIGITS: Final = 8  # of the hash that tells one shortened name from another


def rename(conversation: Conversation, longest: int) -> tuple[Conversation, Mapping[str, str]]:
    """`conversation` with names of at most `longest` characters, and the caller's names by those.

    The same name becomes the same wherever it stands, and in every request whose other names do not take it: prompts
    that are cached stay so. Two names never become one.
    """
    given = dict.fromkeys(_names(conversation))
    refused = [name for name in given if not name or len(name) > longest or _REFUSED.search(name)]
    if not refused:
        return conversation, {}
    taken = set(given)
    written: dict[str, str] = {}
    for name in refused:
        written[name] = _respelled(name, longest, taken)
        taken.add(written[name])
    return _written(conversation, written), {new: name for name, new in written.items()}


def _names(conversation: Conversation) -> Iterator[str]:
    yield from (tool.name for tool in conversation.tools)
    if conversation.tool_choice is not None and conversation.tool_choice.name is not None:
        yield conversation.tool_choice.name
    for turn in conversation.turns:
        yield from (part.name for part in turn.parts if isinstance(part, ToolCall))


def _respelled(name: str, longest: int, taken: set[str]) -> str:
    """As much of `name` as there is room for, and a hash of the whole."""
    base = _REFUSED.sub("_", name)[: longest - _DIGITS - 1] or "tool"
    number = 0
    while True:
        salted = name if number == 0 else f"{number} {name}"
        found = f"{base}_{hashlib.sha256(salted.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}"
        if found not in taken:
            return found
        number += 1


def _written(conversation: Conversation, names: Mapping[str, str]) -> Conversation:
    def of_part(part: Part) -> Part:
        if isinstance(part, ToolCall) and part.name in names:
            return attrs.evolve(part, name=names[part.name])
        return part

    choice = conversation.tool_choice
    if choice is not None and choice.name is not None:
        choice = attrs.evolve(choice, name=names.get(choice.name, choice.name))
    return attrs.evolve(
        conversation,
        tools=tuple(attrs.evolve(tool, name=names.get(tool.name, tool.name)) for tool in conversation.tools),
        tool_choice=choice,
        turns=tuple(attrs.evolve(turn, parts=tuple(map(of_part, turn.parts))) for turn in conversation.turns),
        lost=(*conversation.lost, "tools.name(rewritten)"),
    )


def restore(completion: Completion, names: Mapping[str, str]) -> Completion:
    """The answer with the caller's names."""
    parts = tuple(
        attrs.evolve(part, name=names[part.name]) if isinstance(part, ToolCall) and part.name in names else part
        for part in completion.parts
    )
    return attrs.evolve(completion, parts=parts)


def restore_events(events: Iterable[StreamEvent], names: Mapping[str, str]) -> list[StreamEvent]:
    """`restore` for a stream: a call's name comes whole with its start."""
    return [
        attrs.evolve(event, part=attrs.evolve(event.part, name=names[event.part.name]))
        if isinstance(event, PartStarted) and isinstance(event.part, ToolCall) and event.part.name in names
        else event
        for event in events
    ]
