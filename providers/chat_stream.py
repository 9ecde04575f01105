"""A stream of OpenAI chat chunks that passes through as it came.

Once content flows, a read that is one event is decoded once, as far as what can change anything: usage, an error, a
finish reason. A read of several events is scanned: a few searches for these and the end. A model may write
what looks like one of them: a match costs a closer look, a miss is sure. A key's letters may be escapes: any escape of
one of the first 256 characters is a match. Only events that match are taken apart, and those before the first content,
to see which one has it.

Shapes: `openai.types.chat.ChatCompletionChunk` of the openai SDK; the in-band error is what its `Stream` raises on
(`data: {"error": ...}`); vLLM's older one is flat (`{"object": "error", "message": ...}`); an event whose own name is
`error` is one too, whatever its data.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final, cast

import msgspec

from infermux.errors import UpstreamFailure

from .classify import classify_in_band, said_in
from .interface import Usage
from .sieve import Sieve, events_of, readable
from .sse import EventSplitter, SseParser
from .transport import Response
from .usage_details import Details, counted
from .watched_stream import WatchedStream

DONE: Final = b"data: [DONE]\n\n"
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*[^n\s]')
_UNUSUAL: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Chunk(msgspec.Struct):
    """The members of a chunk that are looked at, of any type: what is wrong in them is the caller's to see."""

    choices: Any = None
    usage: Any = None
    error: Any = None
    object: Any = None
    service_tier: Any = None


class _Going(msgspec.Struct, gc=False):
    finish_reason: None = None


class _Usual(msgspec.Struct, gc=False):
    """A chunk that changes nothing: no usage, no error (a flat one has a message), no end.

    Whatever is something else does not fit. Other members are skipped.
    """

    choices: list[_Going]
    usage: None = None
    error: None = None
    message: None = None


class UsageObject(msgspec.Struct):
    """`openai.types.CompletionUsage`, as far as it is used; everything may be missing or null."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None

    def usage(self) -> Usage:
        if self.prompt_tokens_details is None and self.completion_tokens_details is None:
            return Usage(self.prompt_tokens or 0, self.completion_tokens or 0)
        return counted(
            self.prompt_tokens, self.completion_tokens, self.prompt_tokens_details, self.completion_tokens_details
        )


_chunks: Final = msgspec.json.Decoder(_Chunk, float_hook=float)  # 1e999 is a number, too large for msgspec's own
_usual: Final = msgspec.json.Decoder(_Usual).decode


def usage_of(value: object) -> Usage | None:
    """The usage in a decoded usage object; None for what is none."""
    try:
        return msgspec.convert(value, UsageObject).usage()
    except msgspec.ValidationError:
        return None


class ChatStream(WatchedStream):
    """The `Stream` of an OpenAI-shaped answer; see `interface.Stream` for the contract.

    Hidden from the caller: the usage event (no choices, a usage object) unless `asked_usage`, comments that come before
    any content, and events that are broken JSON. Added: `[DONE]` where a provider leaves it out at a genuine end. A
    genuine end is `[DONE]`, or the end of the connection after a finish reason; either needs content or a finish reason
    before it. An in-band error is raised instead of passed on: of its own kind before any content was returned, BROKEN
    after that.
    """

    ending = DONE

    __slots__ = ("_asked_usage", "_secrets", "_sieve", "_splitter", "usage")

    def __init__(self, response: Response, *, asked_usage: bool, secrets: Collection[str] = ()) -> None:
        """Owns `response` from now on. `secrets` are masked in errors."""
        super().__init__(response, response.content_type or b"text/event-stream")
        self._asked_usage = asked_usage
        self._secrets = secrets
        self._splitter = EventSplitter()
        self._sieve = Sieve()
        self.usage: Usage | None = None

    @property
    def malformed_events(self) -> int:
        return self._sieve.left_out

    def _take(self, data: bytes) -> bytes:
        # Before its end, nearly every read is one event that nothing begins before: it is told for less than by parts.
        if self.has_content and not self._splitter.tail and _is_usual(data):
            self.estimated_tokens += 1
            return data
        whole = self._sieve.sound(self._splitter.feed(data))
        if self.has_content and not _is_special(whole):
            self.estimated_tokens += whole.count(b"\n\n") or bool(whole)  # an event, a token: true of most providers
            return whole
        return self._look_into(whole)

    def _look_into(self, whole: bytes) -> bytes:
        """What of `whole` goes on to the caller. Raises the failure an in-band error is."""
        kept: list[bytes] = []
        content = self.has_content
        for event in events_of(whole):
            name, data = _data(event)
            if data is None:
                if content:
                    kept.append(event)
            elif data == b"[DONE]":
                self._finish_by_done(content)
                kept.append(event)
                break
            else:
                chunk = _decode(data)
                if name == "error" or (chunk is not None and (chunk.error or chunk.object == "error")):
                    failure = self._in_band(data)
                    if self.has_content and kept:
                        return b"".join(kept)  # what came before it is the caller's; the next call raises
                    raise failure
                if chunk is None:
                    kept.append(event)
                    continue
                if not self._take_usage(chunk):
                    kept.append(event)
                    has_some = self._take_choices(chunk.choices)
                    content = content or has_some
                    self.estimated_tokens += has_some
        self.has_content = content
        return b"".join(kept)

    def _take_usage(self, chunk: _Chunk) -> bool:
        """Remember the usage; True when the chunk is the usage event that is to be hidden."""
        usage: object = chunk.usage
        if not isinstance(usage, dict):
            return False
        found = usage_of(cast("object", usage))
        if found is not None:
            self.usage = found.served_in(chunk.service_tier)
        return chunk.choices == [] and not self._asked_usage

    def _take_choices(self, choices: object) -> bool:
        """Whether a chunk's choices carry content or a finish reason."""
        content = False
        for choice in cast("list[object]", choices) if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            fields = cast("dict[str, object]", choice)
            if fields.get("finish_reason"):
                self._stopped = content = True
            content = content or bool(fields.get("text"))  # of a legacy completion
            delta = fields.get("delta")
            if isinstance(delta, dict):
                members = cast("dict[str, object]", delta)
                content = content or any(value for key, value in members.items() if key != "role")
        return content

    def _finish_by_done(self, content: bool) -> None:
        if not content:
            raise self._broken("ended its stream without any content")
        self._done = True

    def _end_of_framing(self) -> bytes:
        rest = readable(self._splitter.flush().rstrip(b"\r\n")) or b""
        kept = b""
        if rest and (_data(rest)[1] == b"[DONE]" or _decode(_data(rest)[1] or b"") is not None):
            kept = self._look_into(rest + b"\n\n")  # a last event whose empty line is missing
        if not self._done and not self._stopped:
            raise self._broken("ended its stream without a finish reason")
        return kept if self._done else kept + DONE

    def _in_band(self, data: bytes) -> UpstreamFailure:
        return self._failed(classify_in_band(said_in(data), data, secrets=self._secrets))


def _is_usual(event: bytes) -> bool:
    """Whether `event` is a whole one, of one line, that is sound JSON and changes nothing. False: look closer."""
    if event[:7] != b"data: {" or event.find(b"\n") != len(event) - 2 or event[-1] != 10:
        return False
    try:
        if not event.isascii():
            event.decode()  # strings that are skipped are not looked into
        _usual(event[6:])
    except _UNUSUAL:
        return False
    return True


def _is_special(whole: bytes) -> bool:
    """Whether anything in `whole` needs a closer look: usage, a finish reason, an error, or the end."""
    return (
        _FINISH.search(whole) is not None
        or b"[DONE]" in whole
        or whole.rfind(b"error") >= 0  # a key, an object, the event's name
        or whole.rfind(b"\\u00") >= 0
        or (b'"usage"' in whole and _USAGE.search(whole) is not None)
    )


def _data(event: bytes) -> tuple[str, bytes | None]:
    """The event's name and data; None for an event without any, such as a comment."""
    if event.startswith(b"data: {") and event.find(b"\n") >= len(event) - 2 and b"\r" not in event:
        return "", event[6:].strip()
    parser = SseParser()
    found = parser.feed(event) or parser.flush()
    return (found[0].event, found[0].data.strip()) if found else ("", None)


def _decode(data: bytes) -> _Chunk | None:
    """The chunk in `data`; None for what is no JSON object, which goes on as it is."""
    try:
        return _chunks.decode(data)
    except _UNUSUAL:
        return None
