"""A stream of Anthropic's message events that passes through as it came.

Once content flows, a read is only scanned for what can change anything: usage, an error, the end. All of these are
events of a name of their own; a match costs a closer look and a miss is sure. The events before the first content are
taken apart.

Shapes: `anthropic.types.raw_message_stream_event`; the order of events, and errors among them:
https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final, cast

import msgspec

from infermux.errors import UpstreamFailure

from .anthropic_bodies import UsageObject
from .anthropic_errors import classify_in_band
from .interface import Usage
from .sieve import Sieve, readable
from .sse import EventSplitter, SseParser
from .transport import Response
from .watched_stream import WatchedStream

STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_EVENT_WITH_CR: Final = re.compile(rb"[\s\S]*?(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_EMPTY_AT_FIRST: Final = frozenset({"text", "thinking", "tool_use"})
"""Blocks that begin empty and are filled by deltas; any other is whole when it begins."""


class _Part(msgspec.Struct):
    """A delta, or a block that begins. Of these members only those that say something are looked at."""

    type: Any = None
    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    signature: Any = None
    citation: Any = None
    stop_reason: Any = None


class _Message(msgspec.Struct):
    usage: UsageObject | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: _Part | None = None
    content_block: _Part | None = None
    message: _Message | None = None
    usage: UsageObject | None = None


class _Typed(msgspec.Struct):
    type: Any = None


_events: Final = msgspec.json.Decoder(_Event)
_typed: Final = msgspec.json.Decoder(_Typed)


class MessagesStream(WatchedStream):
    """The `Stream` of a provider that speaks Anthropic's dialect; see `interface.Stream` for the contract.

    The genuine end is `message_stop`, after content or a stop reason, or the end of the connection after a stop reason:
    then `message_stop` is added. Events that are broken JSON are left out, and so is what follows the end. An `error`
    event is raised instead of passed on: of its own kind before any content, BROKEN after that.
    """

    ending = STOP

    __slots__ = ("_counted", "_secrets", "_sieve", "_splitter")

    def __init__(self, response: Response, *, secrets: Collection[str] = ()) -> None:
        """Owns `response` from now on. `secrets` are masked in errors."""
        super().__init__(response, response.content_type or b"text/event-stream")
        self._secrets = secrets
        self._splitter = EventSplitter()
        self._sieve = Sieve()
        self._counted: UsageObject | None = None

    @property
    def usage(self) -> Usage | None:
        """Of a stream that has not ended: the prompt's as the start says, the answer's as far as can be told."""
        if self._counted is None:
            return None
        usage = self._counted.usage()
        if self._done:
            return usage
        said = max(usage.completion_tokens, self.estimated_tokens)
        return msgspec.structs.replace(usage, completion_tokens=said, estimated=True)

    @property
    def malformed_events(self) -> int:
        return self._sieve.left_out

    def _take(self, data: bytes) -> bytes:
        whole = self._sieve.sound(self._splitter.feed(data))
        if self.has_content and not _is_special(whole):
            self.estimated_tokens += whole.count(b"\n\n") or bool(whole)  # an event, a few tokens
            return whole
        return self._look_into(whole)

    def _look_into(self, whole: bytes) -> bytes:
        """What of `whole` goes on to the caller: all of it, up to the end. Raises the failure an error event is."""
        content = self.has_content
        end = len(whole)
        for start, stop in _bounds(whole):
            data = _data(whole[start:stop])
            event = None if data is None else _decode(data)
            if data is None or event is None:
                continue
            match event.type:
                case "content_block_delta":
                    content = content or _says_something(event.delta)
                    self.estimated_tokens += 1
                case "content_block_start":
                    content = content or _is_whole(event.content_block)
                case "message_start":
                    self._count(event.message.usage if event.message else None)
                case "message_delta":
                    self._count(event.usage)
                    self._stopped = self._stopped or (event.delta is not None and bool(event.delta.stop_reason))
                    content = content or self._stopped
                case "message_stop":
                    if not content:
                        raise self._broken("ended its stream without any content")
                    self._done = True
                    end = stop
                    break
                case "error":
                    failure = self._in_band(data)
                    if not (self.has_content and start):
                        raise failure
                    end = start  # what came before it is the caller's; the next call raises
                    break
                case _:
                    pass  # `ping`, and what later versions add
        self.has_content = content
        return whole if end == len(whole) else whole[:end]

    def _count(self, usage: UsageObject | None) -> None:
        """What the end leaves out stays as the start said."""
        if usage is not None:
            self._counted = usage if self._counted is None else self._counted.updated(usage)

    def _end_of_framing(self) -> bytes:
        rest = readable(self._splitter.flush().rstrip(b"\r\n"))
        kept = self._look_into(rest + b"\n\n") if rest else b""  # a last event whose empty line is missing
        if not self._done and not self._stopped:
            raise self._broken("ended its stream without a stop reason")
        return kept if self._done else kept + STOP

    def _in_band(self, data: bytes) -> UpstreamFailure:
        return self._failed(classify_in_band(data, secrets=self._secrets))


def _is_special(whole: bytes) -> bool:
    """Whether anything in `whole` may need a closer look: usage, an error, or the end.

    The names, in the data or in the event's own line; a model that writes them costs a look, and two searches are
    cheaper than all the ways in which they can be quoted. `rfind` is faster here than `in`.
    """
    return whole.rfind(b"message_") >= 0 or whole.rfind(b"error") >= 0 or whole.rfind(b"\\u00") >= 0


def _bounds(whole: bytes) -> list[tuple[int, int]]:
    """Where the events in `whole` begin and end, their ends included."""
    if b"\r" in whole:
        return [found.span() for found in _EVENT_WITH_CR.finditer(whole)]
    found: list[tuple[int, int]] = []
    start = 0
    while (end := whole.find(b"\n\n", start)) >= 0:
        found.append((start, end + 2))
        start = end + 2
    return found


def _data(event: bytes) -> bytes | None:
    """The event's data with its type in it; None for an event without any, such as a comment.

    A provider that gives the type only as the event's name is understood too, and an error that is no JSON.
    """
    parser = SseParser()
    found = parser.feed(event) or parser.flush()
    if not found:
        return None
    name, data = found[0]
    data = data.strip()
    if name == "error" and not data.startswith(b"{"):
        return msgspec.json.encode({"type": name, "error": data.decode("utf-8", "replace")})
    if name not in ("", "message") and data.startswith(b"{") and _type_of(data) is None:
        return b'{"type":%b%b' % (msgspec.json.encode(name), b"," + data[1:] if data[1:].strip() != b"}" else b"}")
    return data


def _type_of(data: bytes) -> object:
    try:
        return _typed.decode(data).type
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""


def _decode(data: bytes) -> _Event | None:
    """The event in `data`, its type alone where more of it is odd; None for what is none, which goes on as it is."""
    try:
        return _events.decode(data)
    except msgspec.ValidationError:
        kind = _type_of(data)
        return _Event(type=kind) if isinstance(kind, str) else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _says_something(delta: _Part | None) -> bool:
    if delta is None:
        return False
    return bool(delta.text or delta.thinking or delta.partial_json or delta.signature or delta.citation)


def _is_whole(block: _Part | None) -> bool:
    if block is None:
        return False
    return bool(block.text or block.thinking) or cast("object", block.type) not in _EMPTY_AT_FIRST
