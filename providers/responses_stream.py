"""Answers of OpenAI's Responses API that pass through as they came: whole ones, and streams of events.

A stream is only scanned. Each event names its type, in its `event` line, in its data, or both; a model that writes such
a name costs a closer look. Shapes: `openai.types.responses.Response` and
`ResponseStreamEvent` of the openai SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, cast

import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from .classify import classify_in_band, said_in
from .interface import Usage
from .sieve import Sieve, readable
from .sse import EventSplitter, SseParser
from .transport import Response
from .usage_details import Details, counted
from .watched_stream import WatchedStream

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
# What comes before anything is said. Everything that is not here is content, whatever a provider adds.
_BEGINNINGS: Final = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "keepalive",
        "",
    }
)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SILENT_ITEMS: Final = ("message", "reasoning", None)


class _UsageObject(msgspec.Struct):
    """`openai.types.responses.ResponseUsage`; everything may be missing or null."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None

    def usage(self) -> Usage:
        return counted(self.input_tokens, self.output_tokens, self.input_tokens_details, self.output_tokens_details)


class _Response(msgspec.Struct):
    """A response, as far as it is looked at; what is wrong in it is the caller's to see."""

    id: Any = None
    output: Any = None
    status: Any = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None


class _Item(msgspec.Struct):
    type: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    response: _Response | None = None
    item: _Item | None = None


class _Typed(msgspec.Struct):
    type: str = ""


_responses: Final = msgspec.json.Decoder(_Response, float_hook=float)  # 1e999 is a number, too large for msgspec's own
_events: Final = msgspec.json.Decoder(_Event, float_hook=float)
_typed: Final = msgspec.json.Decoder(_Typed)


def read_response(
    body: bytes, *, status: int, secrets: Collection[str] = (), kept: Callable[[str], None] | None = None
) -> Usage | None:
    """Check that `body` is a response; return its usage. `kept` is told its id.

    Raises `UpstreamFailure`: MALFORMED for anything else, and what the error of one that failed means.
    """
    try:
        response = _responses.decode(body)
    except _UNREADABLE:
        message = "answered with something that is no JSON object"
        raise UpstreamFailure(FailureKind.MALFORMED, message, status=status) from None
    if response.error:
        raise classify_in_band({"error": response.error}, body, secrets=secrets)
    if not isinstance(response.output, list):
        message = "answered with JSON that is no response: it has no `output`"
        raise UpstreamFailure(FailureKind.MALFORMED, message, status=status)
    if kept is not None and isinstance(response.id, str):
        kept(response.id)
    return response_usage(response.usage, response.service_tier)


def response_usage(value: object, tier: object = None) -> Usage | None:
    """The usage in a decoded usage object, for a response of that service tier; None for what is none."""
    if not isinstance(value, dict):
        return None
    try:
        return msgspec.convert(cast("object", value), _UsageObject).usage().served_in(tier)
    except msgspec.ValidationError:
        return None


class ResponsesStream(WatchedStream):
    """The `Stream` of a response; see `interface.Stream` for the contract.

    A genuine end is `response.completed`, `response.incomplete` or `response.failed`: the last is an answer like the
    others where content came before it. Until then a failed response and an `error` event are raised as what they
    mean; after that an `error` event is BROKEN.
    """

    __slots__ = ("_kept", "_secrets", "_sieve", "_splitter", "usage")

    def __init__(
        self,
        response: Response,
        *,
        secrets: Collection[str] = (),
        dropped: tuple[str, ...] = (),
        kept: Callable[[str], None] | None = None,
    ) -> None:
        """Owns `response` from now on. `secrets` are masked in errors, `dropped` was not sent, `kept` gets the id."""
        super().__init__(response, response.content_type or b"text/event-stream", dropped=dropped)
        self._kept = kept
        self._secrets = secrets
        self._splitter = EventSplitter()
        self._sieve = Sieve()
        self.usage: Usage | None = None

    @property
    def malformed_events(self) -> int:
        return self._sieve.left_out

    def _take(self, data: bytes) -> bytes:
        whole = self._sieve.sound(self._splitter.feed(data))
        if not self.has_content or _is_special(whole):
            self._look_into(whole)
        else:
            self.estimated_tokens += whole.count(b"\n\n") or bool(whole)
        return whole

    def _end_of_framing(self) -> bytes:
        whole = (readable(self._splitter.flush()) or b"") + b"\n\n"  # a last event whose empty line is missing
        self._look_into(whole)
        if not self._done:
            raise self._broken("ended its stream without the event that ends a response")
        return whole

    def _look_into(self, whole: bytes) -> None:
        """Note what the events in `whole` say. Raises the failure an error is."""
        parser = SseParser()
        for name, data in (*parser.feed(whole), *parser.flush()):
            event = _decode(data)
            if event is not None or name == "error":  # an error is one, whatever its data
                event = event or _Event()
                self._look_at(event.type or name, event, data)

    def _look_at(self, kind: str, event: _Event, data: bytes) -> None:
        if self._kept is not None and event.response is not None and isinstance(event.response.id, str):
            self._kept(event.response.id)  # already of the first event: whoever breaks the stream off can go on from it
            self._kept = None
        if kind == "error":
            raise self._in_band(data)
        if kind in _ENDS:
            response = event.response or _Response()
            if kind == "response.failed" and not self.has_content:
                raise self._in_band(msgspec.json.encode({"error": response.error}))
            self.usage = response_usage(response.usage, response.service_tier)
            self._done = self.has_content = True
        elif kind not in _BEGINNINGS or (event.item is not None and event.item.type not in _SILENT_ITEMS):
            self.has_content = True
            self.estimated_tokens += 1

    def _in_band(self, data: bytes) -> UpstreamFailure:
        return self._failed(classify_in_band(said_in(data), data, secrets=self._secrets))


def _is_special(whole: bytes) -> bool:
    """Whether anything in `whole` may need a closer look: an error, or the end, named in the data or beside it.

    A key's letters may be escapes. `rfind` is faster here than `in`, and all of these than one pattern.
    """
    return (
        whole.rfind(b"error") >= 0
        or whole.rfind(b"response.completed") >= 0
        or whole.rfind(b"response.incomplete") >= 0
        or whole.rfind(b"response.failed") >= 0
        or whole.rfind(b"\\u00") >= 0
    )


def _decode(data: bytes) -> _Event | None:
    """The event in `data`, its type alone where the rest is odd; None for what is no JSON object, such as `[DONE]`."""
    try:
        return _events.decode(data)
    except msgspec.ValidationError:
        pass
    except _UNREADABLE:
        return None
    try:
        return _Event(type=_typed.decode(data).type)
    except _UNREADABLE:
        return None
