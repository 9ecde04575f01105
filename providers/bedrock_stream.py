"""A ConverseStream answer that passes through as it came, checked for what it means.

Whole messages go on. Once content flows, a message that is a delta by its headers is not decoded: what changes anything
are the others, the end, the usage, an exception. Whoever reads the deltas decodes them, and checks their checksums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio

from infermux.errors import FailureKind, UpstreamFailure

from .bedrock_errors import classify_message
from .dialects.bedrock_converse_shapes import UsageShape, read_usage
from .eventstream import EventStreamSplitter, Message, decode
from .interface import Usage
from .transport import Response

CONTENT_TYPE: Final = b"application/vnd.amazon.eventstream"
DRAIN_SECONDS: Final = 0.1
"""How long after the last message the end of the framing is waited for, so that the connection can be used again."""

_DELTA: Final = b":event-type\x07\x00\x11contentBlockDelta"
"""The header of the messages there are most of. It is looked for among the headers only, where no model writes."""


class _Metadata(msgspec.Struct):
    usage: UsageShape | None = None


class _Payload(msgspec.Struct):
    delta: dict[str, Any] | None = None
    start: dict[str, Any] | None = None


_metadata: Final = msgspec.json.Decoder(_Metadata)
_payloads: Final = msgspec.json.Decoder(_Payload)


class ConverseStream:
    """The `Stream` of a native answer; see `interface.Stream` for the contract.

    A genuine end is the metadata after `messageStop`, or the end of the framing after it. An exception is raised
    instead of passed on: of its own kind before any content was returned, BROKEN after that.
    """

    __slots__ = ("_done", "_ended", "_failure", "_response", "_secrets", "_splitter", "_stopped", "estimated_tokens",
                 "has_content", "usage")  # fmt: skip

    content_type = CONTENT_TYPE
    dropped: tuple[str, ...] = ()
    malformed_events = 0  # whoever reads them finds out

    def __init__(self, response: Response, *, secrets: Callable[[], tuple[str, ...]]) -> None:
        """Owns `response` from now on. `secrets` are masked in errors."""
        self._response = response
        self._secrets = secrets
        self._splitter = EventStreamSplitter()
        self._stopped = self._done = self._ended = False
        self._failure: UpstreamFailure | None = None
        self.has_content = False
        self.usage: Usage | None = None
        self.estimated_tokens = 0

    async def receive(self) -> bytes | None:
        if self._failure is not None:
            raise self._failure
        while not self._done and not self._ended:
            data = await self._receive()
            if data is None:
                self._ended = True
                if not self._stopped or self._splitter.pending:
                    raise self._broken("ended its stream without the event that ends an answer")
                return None
            kept = self._take(data)
            if kept:
                return kept
        if not self._ended:
            await self._drain()
        return None

    def last_words(self) -> bytes | None:
        return b"" if self._stopped else None

    def close(self) -> None:
        self._response.close()

    async def _receive(self) -> bytes | None:
        """A connection that breaks after the stop reason takes nothing of the answer with it."""
        try:
            return await self._response.receive()
        except UpstreamFailure:
            if not self._stopped:
                raise
            return None

    def _take(self, data: bytes) -> bytes:
        """The whole messages that ended with `data`."""
        messages = self._splitter.feed(data)
        content = self.has_content
        for raw in messages:
            if content and raw.find(_DELTA, 12, 12 + int.from_bytes(raw[4:8])) >= 0:
                self.estimated_tokens += 1
            elif self._look_into(decode(raw)):
                content = True
        self.has_content = content
        return b"".join(messages)

    def _look_into(self, message: Message) -> bool:
        """Whether the message has content, or ends it."""
        if message.type != "event":
            raise self._raised(message)
        match message.name:
            case "messageStop":
                self._stopped = True
                return True
            case "metadata":
                self.usage = _usage(message.payload) or self.usage
                self._done = self._stopped
                return False
            case "contentBlockDelta" | "contentBlockStart":
                content = _has_content(message.payload)
                self.estimated_tokens += content
                return content
            case _:
                return False

    def _raised(self, message: Message) -> UpstreamFailure:
        failure = classify_message(message, secrets=self._secrets())
        if self.has_content:
            failure.kind = FailureKind.BROKEN
        self._failure = failure
        return failure

    def _broken(self, what: str) -> UpstreamFailure:
        self._failure = UpstreamFailure(FailureKind.BROKEN, what, status=self._response.status)
        return self._failure

    async def _drain(self) -> None:
        """Read to the end of the framing if it comes at once. The stream has ended well, whatever happens here."""
        self._ended = True
        with trio.move_on_after(DRAIN_SECONDS):
            try:
                while await self._response.receive() is not None:
                    pass
            except UpstreamFailure:
                pass


def _usage(payload: bytes) -> Usage | None:
    try:
        return read_usage(_metadata.decode(payload).usage)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _has_content(payload: bytes) -> bool:
    """Whether a delta says anything: a first one may be empty. The start of a tool call says its name."""
    try:
        shape = _payloads.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return True
    return bool(shape.start) or (shape.delta is not None and any(shape.delta.values()))
