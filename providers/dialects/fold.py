"""A stream of neutral events folded into the whole answer it is the pieces of."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from .dialect import malformed
from .neutral import (
    Citation,
    Completion,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from .neutral_events import (
    ArgumentsDelta,
    CitationDelta,
    Ended,
    PartStarted,
    SignatureDelta,
    Started,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)


@attrs.define(eq=False)
class _Open:
    """A part and what has been added to it."""

    part: Part
    pieces: list[str]
    citations: list[Citation]
    signature: str | None = None

    def whole(self) -> Part:
        text = "".join(self.pieces)
        match self.part:
            case Text():
                citations = (*self.part.citations, *self.citations)
                return attrs.evolve(self.part, text=self.part.text + text, citations=citations)
            case Thinking():
                signature = self.signature or self.part.signature
                return attrs.evolve(self.part, text=self.part.text + text, signature=signature)
            case Refusal():
                return Refusal(text=self.part.text + text)
            case ToolCall():
                return attrs.evolve(self.part, arguments=self.part.arguments + text)
            case _:
                return self.part


class Folder:
    """Collects events; `completion` is the answer once `Ended` was fed. Empty texts are no parts of an answer."""

    __slots__ = ("_ended", "_open", "_started")

    def __init__(self) -> None:
        self._started: Started | None = None
        self._ended: Ended | None = None
        self._open: dict[int, _Open] = {}

    def feed(self, events: Iterable[StreamEvent]) -> None:
        for event in events:
            match event:
                case TextDelta() | ThinkingDelta():
                    self._open[event.index].pieces.append(event.text)
                case ArgumentsDelta():
                    self._open[event.index].pieces.append(event.arguments)
                case PartStarted():
                    self._open[event.index] = _Open(event.part, [], [])
                case SignatureDelta():
                    self._open[event.index].signature = event.signature
                case CitationDelta():
                    self._open[event.index].citations.append(event.citation)
                case Started():
                    self._started = event
                case Ended():
                    self._ended = event
                case _:
                    pass

    def text(self, event: TextDelta) -> None:
        """`feed` of this one event."""
        self._open[event.index].pieces.append(event.text)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts so far."""
        whole = (found.whole() for _, found in sorted(self._open.items()))
        return tuple(part for part in whole if not (isinstance(part, Text | Refusal) and not part.text))

    def completion(self) -> Completion:
        """Raises UpstreamFailure(MALFORMED) for a stream that did not start or did not end."""
        if self._started is None or self._ended is None:
            raise malformed("streamed an answer without a beginning or an end")
        return Completion(
            id=self._started.id,
            model=self._started.model,
            parts=self.parts,
            stop=self._ended.stop,
            stop_sequence=self._ended.stop_sequence,
            usage=self._ended.usage or self._started.usage,
            created=self._started.created,
        )


def fold(events: Iterable[StreamEvent]) -> Completion:
    """The answer that `events` are the pieces of. Raises UpstreamFailure(MALFORMED)."""
    folder = Folder()
    folder.feed(events)
    return folder.completion()
