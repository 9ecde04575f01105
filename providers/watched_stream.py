"""What streams of all wire formats have in common: reading, failing for good, reading to the end of the framing.

Each format says what it makes of the bytes. It is called once per read, and each call counts: a thousand streams are
read at once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

import trio

from infermux.errors import FailureKind, UpstreamFailure

from .arrivals import Polled, polled
from .transport import Response

DRAIN_SECONDS: Final = 0.1
"""How long after an answer's last event the end of the framing is waited for: the connection can then be used again."""


class WatchedStream(Polled):
    """A `Stream` whose bytes go on as they came and are watched for what they mean; see `interface.Stream`.

    A failure is raised by every later `receive` too. `ending` is what follows the reason to stop in an answer that is
    whole, where callers wait for it.
    """

    ending: ClassVar[bytes] = b""

    __slots__ = (
        "_done",
        "_drained",
        "_failure",
        "_polled",
        "_response",
        "_stopped",
        "content_type",
        "dropped",
        "estimated_tokens",
        "has_content",
    )

    def __init__(self, response: Response, content_type: bytes, *, dropped: tuple[str, ...] = ()) -> None:
        """Owns `response` from now on."""
        self._response = response
        self._polled = polled(response)
        self._failure: UpstreamFailure | None = None
        self._done = False  # the end was seen, genuine or not: what follows it does not go on
        self._stopped = False  # a reason to stop was seen: the answer is whole, however its connection ends
        self._drained = False
        self.content_type = content_type
        self.dropped = dropped
        self.has_content = False
        self.estimated_tokens: int = 0

    async def receive(self) -> bytes | None:
        while not self._done:
            try:
                data = await self._response.receive()
            except UpstreamFailure as failure:
                if not self._stopped:
                    self._failed(failure)
                    raise
                data = None
            if data is None:
                kept = self._end_of_framing()
                self._done = self._drained = True
                return kept or None
            kept = self._take(data)
            if kept:
                return kept
        if self._failure is not None:
            raise self._failure
        if not self._drained:
            await self._drain()
        return None

    def descriptor(self) -> int | None:
        return None if self._polled is None or self._done else self._polled.descriptor()

    @property
    def over(self) -> bool:
        return self._done or (self._polled is not None and self._polled.over)

    def receive_now(self) -> bytes:
        if self._done or self._polled is None:
            return b""
        try:
            data = self._polled.receive_now()
        except UpstreamFailure as failure:
            if not self._stopped:
                self._failed(failure)
            _let_go(failure)
            return b""
        try:
            return self._take(data) if data else b""
        except UpstreamFailure as failure:
            self._ended_by(failure)
            _let_go(failure)
            return b""

    def last_words(self) -> bytes | None:
        if not self._stopped:
            return None
        return b"" if self._done and self._failure is None else self.ending

    @property
    def malformed_events(self) -> int:
        """0 where whoever reads the events finds out."""
        return 0

    def close(self) -> None:
        self._response.close()

    @abstractmethod
    def _take(self, data: bytes) -> bytes:
        """What of `data`, and of what was held before it, goes on to the caller. Raises what an error in it means."""

    @abstractmethod
    def _end_of_framing(self) -> bytes:
        """The last bytes for the caller. Raises BROKEN unless the end is genuine."""

    def _failed(self, failure: UpstreamFailure) -> UpstreamFailure:
        """What to raise for an error of the provider's: its own kind before any content, BROKEN after that."""
        if self.has_content:
            failure.kind = FailureKind.BROKEN
        return self._ended_by(failure)

    def _broken(self, what: str) -> UpstreamFailure:
        return self._ended_by(UpstreamFailure(FailureKind.BROKEN, what, status=self._response.status))

    def _ended_by(self, failure: UpstreamFailure) -> UpstreamFailure:
        self._done = True
        self._failure = failure
        return failure

    async def _drain(self) -> None:
        """Read to the end of the framing if it comes at once. The stream has ended well, whatever happens here."""
        self._drained = True
        if self._polled is not None and self._polled.over:
            return
        with trio.move_on_after(DRAIN_SECONDS):
            try:
                while await self._response.receive() is not None:
                    pass
            except UpstreamFailure:
                pass


def _let_go(failure: UpstreamFailure) -> None:
    """Let go of the frames it came through, and its causes did: they have the stream, which keeps the failure.

    Those of what waits know nothing of who called them; those of what does not wait do.
    """
    error: BaseException | None = failure
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
