"""What a dialect is: one module that reads and writes one wire format. No dialect module knows another.

Everything here is synchronous and does no I/O. Readers of what callers sent raise `InvalidRequest` with the field's
path and nothing else; readers of what providers sent raise `UpstreamFailure(MALFORMED)` and nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import attrs
import msgspec

from infermux.errors import FailureKind, InvalidRequest, UpstreamFailure

from ..sse import Event
from .neutral import (
    Completion,
    Conversation,
    ErrorKind,
    ErrorReport,
)
from .neutral_events import StreamEvent, TextDelta
from .report import Loss


@attrs.frozen(kw_only=True)
class Target:
    """The provider a request is written for. `model` is the provider's name for the model.

    `max_tokens` is the model's own maximum where the settings or the provider say it; a dialect that requires a bound
    looks there, then in its own table, then takes `default_max_tokens`.
    """

    model: str
    max_tokens: int | None = None
    default_max_tokens: int = 4096


@attrs.frozen(kw_only=True)
class Written:
    """A request in the provider's dialect, and what of the conversation it does not carry.

    `json_tool` names the tool that was added to get a JSON answer out of a model that has no other way: the arguments
    it is called with are the answer's text.
    """

    body: bytes
    loss: Loss
    json_tool: str | None = None


@attrs.frozen(kw_only=True)
class Asked:
    """What was asked, for the writers of answers. `now` is the wall time in seconds since the epoch."""

    conversation: Conversation
    now: int = 0


class EventDecoder(Protocol):
    """Cuts a provider's stream into events, whatever the chunks: `sse.SseParser` for server-sent events."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """The events that ended with `data`."""
        ...

    def flush(self) -> Sequence[Event]:
        """What is left when the stream has ended."""
        ...


class StreamReader(Protocol):
    """Reads one stream of a provider. Sans-I/O; one object per stream."""

    def feed(self, event: Event) -> Sequence[StreamEvent]:
        """What `event` says. `Started` comes first, then parts, then at most one `Ended` or `StreamError`.

        Raises MalformedEvent for one that is none of the dialect's: it can be left out, and the next one be read.
        """
        ...

    def end(self) -> Sequence[StreamEvent]:
        """At the end of the bytes: what was held back for it. No `Ended` until now means that the stream broke."""
        ...


class StreamWriter(Protocol):
    """Writes one stream for a caller. One object per stream."""

    def write(self, events: Iterable[StreamEvent]) -> bytes:
        """Whole events of the caller's dialect, b"" where it says nothing for these."""
        ...

    def text(self, event: TextDelta) -> bytes:
        """`write` of this one event, of which there are most."""
        ...


class ProviderDialect(Protocol):
    """What a dialect is that providers speak: requests written, answers read."""

    @property
    def name(self) -> str:
        """Such as `openai.chat`."""
        ...

    @property
    def carries_signatures(self) -> bool:
        """Whether signed and redacted thinking can be written into requests and answers."""
        ...

    @property
    def takes_freeform_tools(self) -> bool:
        """Whether every provider of this dialect has tools that take text; elsewhere they become functions of one."""
        ...

    @property
    def longest_tool_name(self) -> int:
        """The most characters that the API takes for a tool's name, of `a-z A-Z 0-9 _ -`."""
        ...

    @property
    def text_key(self) -> bytes | None:
        """The member of a stream's events that text is the value of, for `TextEvents`; None where events do not repeat.

        A reader that has one must read each event by itself: of a text that goes on it keeps nothing.
        """
        ...

    def write_request(self, conversation: Conversation, target: Target) -> Written:
        """Raises InvalidRequest for what cannot be left out without changing what is asked."""
        ...

    def read_answer(self, body: bytes) -> Completion: ...
    def decoder(self) -> EventDecoder: ...
    def stream_reader(self) -> StreamReader: ...
    def read_error(self, status: int, body: bytes) -> ErrorReport:
        """Never raises: a body that is no error of this dialect is the message."""
        ...


class Dialect(ProviderDialect, Protocol):
    """A wire format that callers speak too. Stateless: one object serves every request."""

    def read_request(self, body: bytes) -> Conversation: ...

    def write_answer(self, completion: Completion, asked: Asked, loss: Loss | None = None) -> bytes:
        """What has no place in the caller's dialect is named in `loss`, where there is one; `completion.lost` is the
        reader's to name."""
        ...

    def stream_writer(self, asked: Asked) -> StreamWriter: ...
    def write_error(self, error: ErrorReport) -> bytes: ...

    def write_stream_error(self, error: ErrorReport) -> bytes:
        """The event that tells a caller in the middle of a stream. Nothing follows it."""
        ...


KIND_OF_STATUS: Final[Mapping[int, ErrorKind]] = {
    400: ErrorKind.INVALID_REQUEST,
    401: ErrorKind.AUTHENTICATION,
    402: ErrorKind.BILLING,
    403: ErrorKind.PERMISSION,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.TIMEOUT,
    413: ErrorKind.TOO_LARGE,
    429: ErrorKind.RATE_LIMIT,
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.TIMEOUT,
    529: ErrorKind.OVERLOADED,
}
STATUS_OF_KIND: Final[Mapping[ErrorKind, int]] = {
    ErrorKind.INVALID_REQUEST: 400,
    ErrorKind.AUTHENTICATION: 401,
    ErrorKind.BILLING: 402,
    ErrorKind.PERMISSION: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.TOO_LARGE: 413,
    ErrorKind.RATE_LIMIT: 429,
    ErrorKind.TIMEOUT: 504,
    ErrorKind.OVERLOADED: 529,
    ErrorKind.SERVER: 500,
}


def kind_of_status(status: int) -> ErrorKind:
    """The kind of error that an HTTP status is, where nothing says it better."""
    found = KIND_OF_STATUS.get(status)
    if found is not None:
        return found
    return ErrorKind.INVALID_REQUEST if 400 <= status < 500 else ErrorKind.SERVER


def new_id(prefix: str) -> str:
    """An id for what a provider left without one; it cannot be guessed."""
    return prefix + secrets.token_hex(12)


def decode_request(body: bytes) -> object:
    """The JSON of a caller. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


def malformed(what: str) -> UpstreamFailure:
    """The failure of a provider whose answer is not what its dialect says it is."""
    return UpstreamFailure(FailureKind.MALFORMED, what)


class MalformedEvent(UpstreamFailure):
    """One event of a stream is not what its dialect says it is; the others may be."""

    def __init__(self, what: str) -> None:
        super().__init__(FailureKind.MALFORMED, what)
