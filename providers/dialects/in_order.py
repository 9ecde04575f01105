"""Parts that a provider streams side by side, one after another: in the neutral form one part is open at a time."""

from __future__ import annotations

from typing import Final

from .dialect import malformed
from .neutral import ToolCall
from .neutral_events import (
    ArgumentsDelta,
    CitationDelta,
    PartEnded,
    PartStarted,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)

PartEvent = PartStarted | TextDelta | ThinkingDelta | SignatureDelta | ArgumentsDelta | CitationDelta | PartEnded

LIMIT: Final = 16 * 1024 * 1024
"""The most characters that wait for an earlier part to end."""

_AN_EVENT: Final = 64  # what an event costs beside its text, roughly


class InOrder:
    """Passes on the events of the earliest part that is open; those of later ones wait until it has ended.

    `out` takes what can be passed on. Raises UpstreamFailure(MALFORMED)
    when more than LIMIT would wait.
    """

    __slots__ = ("_live", "_size", "_waiting")

    def __init__(self) -> None:
        self._live = 0  # the part whose events are passed on; one more than the newest when all have ended
        self._waiting: dict[int, list[PartEvent]] = {}
        self._size = 0

    def __repr__(self) -> str:
        return f"InOrder(live={self._live}, waiting={self._size})"

    def add(self, event: PartEvent, out: list[StreamEvent]) -> None:
        """An event of a part that has not ended. A part's first is its start, and starts come in the order of index."""
        index = event.index
        if index == self._live:
            out.append(event)
            return
        self._size += _size(event)
        if self._size > LIMIT:
            raise malformed("streamed too much of a part before an earlier one ended")
        self._waiting.setdefault(index, []).append(event)

    def end(self, index: int, out: list[StreamEvent]) -> None:
        """The part has ended; the next one, if there is one, is passed on from here."""
        self.add(PartEnded(index=index), out)
        if index != self._live:
            return
        self._live += 1
        while (events := self._waiting.pop(self._live, None)) is not None:
            out += events
            self._size -= sum(_size(event) for event in events)
            if type(events[-1]) is not PartEnded:
                return
            self._live += 1


def _size(event: PartEvent) -> int:
    match event:
        case TextDelta(text=text) | ThinkingDelta(text=text) | ArgumentsDelta(arguments=text):
            return _AN_EVENT + len(text)
        case PartStarted(part=ToolCall(id=call_id, name=name)):
            return _AN_EVENT + len(call_id) + len(name)
        case CitationDelta(citation=citation):
            return _AN_EVENT + len(citation.cited_text) + len(citation.title or "") + len(citation.url or "")
        case _:
            return _AN_EVENT
