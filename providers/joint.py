"""Joining the rest on to an answer that broke off: see `continuation`, which says where it stands. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from infermux.errors import FailureKind, UpstreamFailure

from .continuation import CannotContinue, Place
from .dialects.dialect import Asked, MalformedEvent, StreamWriter
from .dialects.neutral import RedactedThinking, Text, Thinking
from .dialects.neutral_events import (
    ArgumentsDelta,
    CitationDelta,
    Ended,
    PartEnded,
    PartStarted,
    Started,
    StreamError,
    StreamEvent,
    TextDelta,
)
from .dialects.openai_responses_stream import ResponsesWriter
from .interface import Stream, Usage
from .odd_text import read_again
from .seam import Seam
from .sse import Event
from .translate import DIALECTS


class Joint:
    """Joins the events of a continuation to what the caller has: `feed` returns what goes to the caller next.

    `mark` goes before the event that ends the answer. `before` is what the attempts before this one have used: the
    answer's usage is the sum, as each of them read the prompt, and this one the text so far as well. Thinking of the
    continuation is left out: the caller's answer is beyond it.
    """

    __slots__ = ("_at", "_before", "_decoder", "_first", "_mark", "_next", "_open", "_place", "_reader", "_seam",
                 "_writer", "ended", "left_out")  # fmt: skip

    def __init__(self, place: Place, *, prefill: bool, mark: bytes, before: Usage, now: int = 0) -> None:
        """`now` is the wall time in seconds. Raises CannotContinue where the caller's stream is numbered otherwise."""
        dialect = DIALECTS[place.endpoint]
        self._place = place
        self._mark = mark
        self._before = before
        self._decoder = dialect.decoder()
        self._reader = dialect.stream_reader()
        self._writer = _writer_at(place, dialect.stream_writer(Asked(conversation=place.conversation, now=now)))
        self._seam: Seam | None = Seam(place.text, repeats=not prefill)
        self._at: dict[int, int] = {}  # a part's index in the continuation -> the caller's
        self._open = place.part
        self._next = place.parts
        self._first = True
        self.ended = False
        self.left_out = 0  # events that could not be read

    def feed(self, data: bytes, usage: Usage) -> bytes:
        """`usage` is the continuation's as far as it is known. Raises UpstreamFailure."""
        return self._take(self._read(self._decoder.feed(data)), usage)

    def finish(self, usage: Usage) -> bytes:
        """At the end of the continuation. Raises UpstreamFailure(BROKEN) where it had none."""
        events = self._read(self._decoder.flush())
        written = self._take([*events, *self._reader.end()], usage)
        if not self.ended:
            raise UpstreamFailure(FailureKind.BROKEN, "ended its stream without the event that ends an answer")
        return written

    def _read(self, events: Sequence[Event]) -> list[StreamEvent]:
        found: list[StreamEvent] = []
        for event in events:
            try:
                found += self._reader.feed(event)
            except MalformedEvent:
                again = read_again(self._reader, event)
                found += again or ()
                self.left_out += again is None
        return found

    def _take(self, events: Sequence[StreamEvent], usage: Usage) -> bytes:
        out: list[StreamEvent] = []
        marked = b""
        for event in events:
            if isinstance(event, Ended):
                self.ended = True
                out += self._end_part()
                marked = self._writer.write(out) + self._mark
                out = [attrs.evolve(event, usage=added(self._before, event.usage or usage))]
            else:
                out += self._join(event)
        return marked + self._writer.write(out)

    def _join(self, event: StreamEvent) -> Sequence[StreamEvent]:
        match event:
            case Started() if not self._place.events:
                return (event,)
            case PartStarted():
                return self._begin(event)
            case TextDelta(index, text) if index in self._at:
                return self._text(self._at[index], text)
            case ArgumentsDelta(index, arguments) if index in self._at:
                return (ArgumentsDelta(self._at[index], arguments),)
            case CitationDelta(index, citation) if index in self._at:
                return (CitationDelta(self._at[index], citation),)
            case PartEnded(index=index) if index in self._at and self._at[index] == self._open:
                return self._end_part()
            case StreamError(error=error):
                raise UpstreamFailure(FailureKind.BROKEN, f"broke off with an error: {error.message}")
            case _:
                return ()

    def _begin(self, event: PartStarted) -> Sequence[StreamEvent]:
        """The continuation's first text goes on with the caller's, if that is open; all else is a part of its own."""
        part = event.part
        if isinstance(part, Thinking | RedactedThinking):
            return ()
        if self._first and isinstance(part, Text) and self._open is not None:
            self._first = False
            self._at[event.index] = self._open
            return self._text(self._open, part.text)
        self._first = False
        before = self._end_part()
        self._open = self._at[event.index] = self._next
        self._next += 1
        if not isinstance(part, Text):
            self._seam = None
            return (*before, attrs.evolve(event, index=self._open))
        begun = PartStarted(index=self._open, part=attrs.evolve(part, text=""))
        return (*before, begun, *self._text(self._open, part.text))

    def _text(self, index: int, text: str) -> Sequence[StreamEvent]:
        if self._seam is not None:
            text = self._seam.feed(text)
        return (TextDelta(index, text),) if text else ()

    def _end_part(self) -> Sequence[StreamEvent]:
        """The open part is over, with what the seam has held back of it."""
        index, self._open = self._open, None
        if index is None:
            return ()
        rest = self._seam.flush() if self._seam is not None and not self._first else ""
        return (*((TextDelta(index, rest),) if rest else ()), PartEnded(index=index))


def _writer_at(place: Place, writer: StreamWriter) -> StreamWriter:
    """The writer, standing where the caller stands."""
    writer.write(place.events)
    if isinstance(writer, ResponsesWriter) and place.events:
        known = writer.resume(items=place.ids, response=place.response, sequence=place.sequence)
        if not known:
            raise CannotContinue("the answer has items that only its provider knows")
    return writer


def added(first: Usage, second: Usage) -> Usage:
    """The tokens of two attempts together; estimated where one of them is."""
    return Usage(
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        cached_tokens=first.cached_tokens + second.cached_tokens,
        reasoning_tokens=first.reasoning_tokens + second.reasoning_tokens,
        estimated=first.estimated or second.estimated,
        cache_write_tokens=first.cache_write_tokens + second.cache_write_tokens,
    )


class JoinedStream:
    """A continuation as the `Stream` that the caller's goes on with. `usage` is the continuation's own."""

    __slots__ = ("_joint", "_over", "_stream")

    def __init__(self, stream: Stream, joint: Joint) -> None:
        """Owns `stream` from now on."""
        self._stream = stream
        self._joint = joint
        self._over = False

    @property
    def content_type(self) -> bytes:
        return self._stream.content_type

    @property
    def has_content(self) -> bool:
        return self._stream.has_content

    @property
    def usage(self) -> Usage | None:
        return self._stream.usage

    @property
    def dropped(self) -> tuple[str, ...]:
        return self._stream.dropped

    @property
    def estimated_tokens(self) -> int:
        return self._stream.estimated_tokens

    @property
    def malformed_events(self) -> int:
        return self._stream.malformed_events + self._joint.left_out

    def last_words(self) -> bytes | None:
        if self._joint.ended:
            return b""
        return None if self._stream.last_words() is None else self._joint.finish(self._used)

    async def receive(self) -> bytes | None:
        while not self._over:
            written = await self._next()
            if written:
                return written
        return None

    async def _next(self) -> bytes:
        """After the answer's end the provider's bytes are only waited for to free the connection."""
        joint, stream = self._joint, self._stream
        try:
            data = await stream.receive()
        except UpstreamFailure:
            if not joint.ended:
                raise
            data = None
        if data is not None:
            return b"" if joint.ended else joint.feed(data, self._used)
        self._over = True
        return b"" if joint.ended else joint.finish(self._used)

    @property
    def _used(self) -> Usage:
        stream = self._stream
        return stream.usage or Usage(completion_tokens=stream.estimated_tokens, estimated=True)

    def close(self) -> None:
        self._stream.close()
