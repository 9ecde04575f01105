"""Thinking that a caller's dialect cannot carry, kept by tool-call id and put back on the next turn.

A model that thinks and then calls a tool wants its thinking back, with its signature, together with the result. A
caller whose dialect has no place for a signature sends back the tool call only, but under the same id.

An id alone is no proof: the call must have the same name and arguments too. What is kept is lost when it is too old,
when there is too much, and when the process ends; the request then goes without, which providers take.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import attrs

from .neutral import Part, RedactedThinking, Role, Thinking, ToolCall, Turn
from .turns import arguments_object

_ENTRY_BYTES: Final = 512
"""What an entry takes beside its text, roughly."""

Kept = Thinking | RedactedThinking


@attrs.frozen(kw_only=True)
class _Entry:
    name: str
    arguments: str
    thinking: tuple[Kept, ...]
    until: float
    size: int


class ThinkingStore:
    """Bounded in entries, in bytes and in time. Times are seconds on any one clock, passed in."""

    def __init__(self, *, most: int = 10_000, most_bytes: int = 64 * 1024 * 1024, seconds: float = 3600.0) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"ThinkingStore({len(self._entries)} entries, {self._bytes} bytes)"

    def keep(self, parts: Iterable[Part], now: float) -> None:
        """Keep the signed thinking of an answer, each piece with the tool call it comes before."""
        thinking: list[Kept] = []
        for part in parts:
            if isinstance(part, RedactedThinking) or (isinstance(part, Thinking) and part.signature is not None):
                thinking.append(part)
            elif isinstance(part, ToolCall) and thinking:
                self._put(part, tuple(thinking), now)
                thinking.clear()

    def _put(self, call: ToolCall, thinking: tuple[Kept, ...], now: float) -> None:
        self._forget(call.id)
        text = sum(len(part.text) if isinstance(part, Thinking) else len(part.data) for part in thinking)
        signatures = sum(len(part.signature or "") for part in thinking if isinstance(part, Thinking))
        size = _ENTRY_BYTES + len(call.arguments) + text + signatures
        if size > self._most_bytes:
            return
        until = now + self._seconds
        entry = _Entry(name=call.name, arguments=call.arguments, thinking=thinking, until=until, size=size)
        self._entries[call.id] = entry
        self._bytes += size
        while self._entries:  # the oldest are first, and every one lives as long as the others
            oldest = next(iter(self._entries))
            full = len(self._entries) > self._most or self._bytes > self._most_bytes
            if not full and self._entries[oldest].until > now:
                break
            self._forget(oldest)

    def _forget(self, call_id: str) -> None:
        entry = self._entries.pop(call_id, None)
        if entry is not None:
            self._bytes -= entry.size

    def put_back(self, turns: Iterable[Turn], now: float) -> tuple[Turn, ...]:
        """`turns` with the thinking that was kept for them, where they have no signed thinking of their own."""
        return tuple(self._restored(turn, now) if turn.role is Role.ASSISTANT else turn for turn in turns)

    def _restored(self, turn: Turn, now: float) -> Turn:
        if any(
            isinstance(part, RedactedThinking) or (isinstance(part, Thinking) and part.signature) for part in turn.parts
        ):
            return turn
        kept = {id(part): found for part in turn.parts if (found := self._get(part, now))}
        if not kept:
            return turn
        parts: list[Part] = []
        first = True
        for part in turn.parts:
            thinking = kept.get(id(part), ())
            if first and thinking:
                parts[:0] = thinking  # the turn's first thinking comes before its text
            else:
                parts += thinking
            first = first and not isinstance(part, ToolCall)
            if not isinstance(part, Thinking):  # the unsigned words of it, which the signed ones say again
                parts.append(part)
        return attrs.evolve(turn, parts=tuple(parts))

    def _get(self, part: Part, now: float) -> tuple[Kept, ...]:
        entry = self._entries.get(part.id) if isinstance(part, ToolCall) else None
        if entry is None or not isinstance(part, ToolCall) or entry.until <= now or entry.name != part.name:
            return ()
        same = entry.arguments == part.arguments
        if not same and arguments_object(entry.arguments) != arguments_object(part.arguments):
            return ()
        return entry.thinking
