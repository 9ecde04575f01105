"""A ConverseStream answer that passes through as it came, checked for what it means.

Whole messages go on. Once content flows, a message that is a delta by its headers is not decoded: what changes anything
are the others, the end, the usage, an exception. Whoever reads the deltas decodes them, and checks their checksums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from .bedrock_errors import classify_message
from .dialects.bedrock_converse_shapes import UsageShape, read_usage
from .eventstream import EventStreamSplitter, Message, decode
from .interface import Usage
from .transport import Response
from .watched_stream import WatchedStream

CONTENT_TYPE: Final = b"application/vnd.amazon.eventstream"
_DELTA: Final = b":event-type\x07\x00\x11contentBlockDelta"
"""The header of the messages there are most of. It is looked for among the headers only, where no model writes."""


class _Metadata(msgspec.Struct):
    usage: UsageShape | None = None


class _Payload(msgspec.Struct):
    delta: dict[str, Any] | None = None
    start: dict[str, Any] | None = None


_metadata: Final = msgspec.json.Decoder(_Metadata)
_payloads: Final = msgspec.json.Decoder(_Payload)


class ConverseStream(WatchedStream):
    """The `Stream` of a native answer; see `interface.Stream` for the contract.

    A genuine end is the metadata after `messageStop`, or the end of the framing after it. An exception is raised
    instead of passed on: of its own kind before any content was returned, BROKEN after that.
    """

    __slots__ = ("_secrets", "_splitter", "usage")

    def __init__(self, response: Response, *, secrets: Callable[[], tuple[str, ...]]) -> None:
        """Owns `response` from now on. `secrets` are masked in errors."""
        super().__init__(response, CONTENT_TYPE)
        self._secrets = secrets
        self._splitter = EventStreamSplitter()
        self.usage: Usage | None = None

    def _end_of_framing(self) -> bytes:
        if not self._stopped or self._splitter.pending:
            raise self._broken("ended its stream without the event that ends an answer")
        return b""

    def _take(self, data: bytes) -> bytes:
        messages = self._splitter.feed(data)
        content = self.has_content
        for at, raw in enumerate(messages):
            if content and raw.find(_DELTA, 12, 12 + int.from_bytes(raw[4:8])) >= 0:
                self.estimated_tokens += 1
                continue
            try:
                content = self._look_into(decode(raw)) or content
            except UpstreamFailure:
                if not (self.has_content and at and self._done):
                    raise
                return b"".join(messages[:at])  # what came before it is the caller's; the next call raises
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
        return self._ended_by(failure)


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
