"""Translation between two dialects: a caller's request for a provider, and what the provider says for the caller.

Only for dialects that differ; where they are the same, bytes are passed on and nothing here is used. Two readers and
two writers do the work, by way of the neutral form; what neither of them can know alone is done here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import attrs
import msgspec

from infermux.errors import FailureKind, InvalidRequest, NotCarried, UpstreamFailure

from .dialects import anthropic_messages, freeform, json_tool, openai_chat, openai_responses, tool_names
from .dialects.dialect import Asked, Dialect, MalformedEvent, ProviderDialect, Target, Written
from .dialects.fold import Folder
from .dialects.kept_thinking import ThinkingStore
from .dialects.neutral import Conversation, ErrorKind, ErrorReport
from .dialects.neutral_events import (
    Ended,
    Started,
    StreamError,
    StreamEvent,
    TextDelta,
)
from .dialects.report import Loss
from .dialects.text_events import TextEvents
from .dialects.turns import check_tool_results
from .interface import TRACE_HEADERS, Answer, Call, Endpoint, Stream, Usage
from .odd_text import read_again
from .sse import Event

DIALECTS: Final[Mapping[Endpoint, Dialect]] = {
    Endpoint.CHAT: openai_chat.DIALECT,
    Endpoint.MESSAGES: anthropic_messages.DIALECT,
    Endpoint.RESPONSES: openai_responses.DIALECT,
}
"""The dialect that callers of an endpoint speak, of those that can be translated."""

Fetched = Callable[[Conversation, bytes], Awaitable[Conversation]]

_JSON: Final = b"application/json"
_FAILURES: Final = {
    ErrorKind.INVALID_REQUEST: FailureKind.CALLER,
    ErrorKind.AUTHENTICATION: FailureKind.CREDENTIALS,
    ErrorKind.BILLING: FailureKind.CREDENTIALS,
    ErrorKind.PERMISSION: FailureKind.CREDENTIALS,
    ErrorKind.NOT_FOUND: FailureKind.CALLER,
    ErrorKind.TOO_LARGE: FailureKind.CALLER,
    ErrorKind.RATE_LIMIT: FailureKind.RATE_LIMITED,
    ErrorKind.TIMEOUT: FailureKind.SERVER_ERROR,
    ErrorKind.OVERLOADED: FailureKind.SERVER_ERROR,
    ErrorKind.SERVER: FailureKind.SERVER_ERROR,
}


def translate(
    body: bytes,
    *,
    caller: Dialect,
    provider: ProviderDialect,
    target: Target,
    strict: bool = False,
    kept: ThinkingStore | None = None,
    now: float = 0.0,
) -> Translation:
    """`body`, which is in the `caller`'s dialect, for the provider.

    `kept` is the store of thinking for callers that cannot carry it, `now` the wall time in seconds. Raises
    InvalidRequest: for a body that is none of the dialect, for tool calls without results, and, when `strict`, for
    anything that would be dropped, naming it.
    """
    return translate_conversation(
        caller.read_request(body), caller=caller, provider=provider, target=target, strict=strict, kept=kept, now=now
    )


def translate_conversation(
    conversation: Conversation,
    *,
    caller: Dialect,
    provider: ProviderDialect,
    target: Target,
    strict: bool = False,
    kept: ThinkingStore | None = None,
    now: float = 0.0,
) -> Translation:
    """As `translate`, for a request that has been read and perhaps changed (images fetched)."""
    check_tool_results(conversation.turns)
    sent = conversation
    if kept is not None and provider.carries_signatures and not caller.carries_signatures:
        sent = attrs.evolve(sent, turns=kept.put_back(sent.turns, now))
    texts: frozenset[str] = frozenset()
    if not provider.takes_freeform_tools:
        sent, texts = freeform.wrap(sent)
    sent, names = tool_names.rename(sent, provider.longest_tool_name)
    try:
        written = provider.write_request(sent, target)
    except RecursionError:  # a schema nested almost as deeply as JSON can be read, and not quite as it can be written
        raise InvalidRequest("the body is nested too deeply") from None
    if strict and written.loss:
        lost = written.loss.header
        raise NotCarried(f"the provider cannot be given what X-Infermux-Strict insists on: {lost}", param=lost)
    return Translation(
        caller=caller,
        provider=provider,
        written=written,
        asked=Asked(conversation=conversation, now=int(now)),
        model=target.model,
        names=names,
        text_tools=texts,
        kept=kept if provider.carries_signatures and not caller.carries_signatures else None,
    )


@attrs.frozen(kw_only=True, eq=False)
class Translation:
    """One request on its way: what the provider is sent, and how its answer is read for the caller.

    `model` is what the provider was asked for, which an answer that names none is taken to come from. `names` are the
    caller's names of tools by those the provider was given, where they differ; `text_tools` the tools
    that are text to the caller and functions to the provider.
    """

    caller: Dialect
    provider: ProviderDialect
    written: Written
    asked: Asked
    model: str
    names: Mapping[str, str] = attrs.field(factory=dict[str, str])
    text_tools: frozenset[str] = frozenset()
    kept: ThinkingStore | None = None

    @property
    def body(self) -> bytes:
        return self.written.body

    @property
    def dropped(self) -> tuple[str, ...]:
        return self.written.loss.names

    def answer(self, answer: Answer) -> Answer:
        """A whole answer, for the caller. Raises UpstreamFailure(MALFORMED)."""
        completion = self.provider.read_answer(answer.body)
        if not completion.model:
            completion = attrs.evolve(completion, model=self.model)
        if self.names:
            completion = tool_names.restore(completion, self.names)
        if self.kept is not None:
            self.kept.keep(completion.parts, self.asked.now)
        if self.written.json_tool is not None:
            completion = json_tool.unwrap(completion, self.written.json_tool)
        if self.text_tools:
            completion = freeform.unwrap(completion, self.text_tools)
        if completion.usage is None and answer.usage is not None:
            completion = attrs.evolve(completion, usage=answer.usage)
        loss = Loss(*answer.dropped, *self.dropped, *completion.lost)
        return msgspec.structs.replace(
            answer,
            content_type=_JSON,
            body=self.caller.write_answer(completion, self.asked, loss),
            usage=answer.usage or completion.usage,
            dropped=loss.names,
        )

    def stream(self, stream: Stream) -> TranslatedStream:
        """A stream, for the caller. Owns `stream` from now on."""
        return TranslatedStream(self, stream)

    def failure(self, failure: UpstreamFailure) -> UpstreamFailure:
        """A failure with its body in the caller's dialect, so that it can go back as it is."""
        if failure.body is None:
            return failure
        report = self.provider.read_error(failure.status or 500, failure.body)
        if report.code is None and failure.code is not None:
            report = attrs.evolve(report, code=failure.code)
        failure.body = self.caller.write_error(report)
        failure.content_type = _JSON
        failure.rewritten = True
        return failure


class TranslatedStream:
    """The `Stream` of a provider in the caller's dialect; see `interface.Stream` for the contract."""

    __slots__ = (
        "_decoder",
        "_ended",
        "_folder",
        "_json",
        "_left_out",
        "_over",
        "_plain",
        "_reader",
        "_stream",
        "_text",
        "_text_events",
        "_translation",
        "_writer",
    )

    content_type = b"text/event-stream"

    def __init__(self, translation: Translation, stream: Stream) -> None:
        self._translation = translation
        self._stream = stream
        self._decoder = translation.provider.decoder()
        self._reader = translation.provider.stream_reader()
        key = translation.provider.text_key
        self._text_events = None if key is None else TextEvents(key)
        self._writer = translation.caller.stream_writer(translation.asked)
        self._json = json_tool.UnwrapEvents(translation.written.json_tool) if translation.written.json_tool else None
        self._text = freeform.UnwrapEvents(translation.text_tools) if translation.text_tools else None
        self._folder = Folder() if translation.kept is not None else None
        self._plain = self._json is None and self._text is None and not translation.names
        self._ended = self._over = False
        self._left_out = 0

    @property
    def has_content(self) -> bool:
        return self._stream.has_content

    @property
    def usage(self) -> Usage | None:
        return self._stream.usage

    @property
    def estimated_tokens(self) -> int:
        return self._stream.estimated_tokens

    @property
    def malformed_events(self) -> int:
        return self._stream.malformed_events + self._left_out

    @property
    def dropped(self) -> tuple[str, ...]:
        return (*self._stream.dropped, *self._translation.dropped)

    def close(self) -> None:
        self._stream.close()

    def last_words(self) -> bytes | None:
        if self._ended:
            return b""
        return None if self._stream.last_words() is None else self._finish()

    async def receive(self) -> bytes | None:
        while not self._over:
            try:
                data = await self._stream.receive()
            except UpstreamFailure as failure:
                if not self._ended:
                    raise self._translation.failure(failure) from None
                data = None  # after the answer's end bytes are only waited for to free the connection
            if data is not None:
                written = b"" if self._ended else self._read(data)
            else:
                self._over = True
                written = b"" if self._ended else self._finish()
            if written:
                return written
        return None

    def _read(self, data: bytes) -> bytes:
        like_before = self._text_events
        if like_before is not None:
            text = like_before.read(data)
            if text is not None:
                return self._write_text(text) if self._plain else self._write([text])
        left_out = self._left_out
        events = self._read_events(self._decoder.feed(data))
        if like_before is not None:
            like_before.note(data, events if self._left_out == left_out else ())
        return self._write(events)

    def _read_events(self, found: Iterable[Event]) -> list[StreamEvent]:
        """What can be read of `found`: the others are left out, and counted."""
        feed = self._reader.feed
        events: list[StreamEvent] = []
        for event in found:
            try:
                events += feed(event)
            except MalformedEvent:
                again = read_again(self._reader, event)
                events += again or ()
                self._left_out += again is None
        return events

    def _write_text(self, event: TextDelta) -> bytes:
        """As `_write`, where nothing stands between the reader and the writer."""
        if self._folder is not None:
            self._folder.text(event)
        return self._writer.text(event)

    def _finish(self) -> bytes:
        """The stream has genuinely ended: what was held back for that. Raises BROKEN where the dialect had no end."""
        events = self._read_events(self._decoder.flush())
        events += self._reader.end()
        written = self._write(events)
        if not self._ended:
            raise UpstreamFailure(FailureKind.BROKEN, "ended its stream without the event that ends an answer")
        return written

    def _write(self, events: list[StreamEvent]) -> bytes:
        if not events:
            return b""
        first, last = events[0], events[-1]
        if type(first) is Started and not first.model:
            events[0] = attrs.evolve(first, model=self._translation.model)
        if type(last) is StreamError:
            raise self._in_band(last.error)
        if type(last) is Ended:
            self._ended = True
            if last.usage is None and self._stream.usage is not None:
                events[-1] = attrs.evolve(last, usage=self._stream.usage)
        if self._translation.names:
            events = tool_names.restore_events(events, self._translation.names)
        if self._folder is not None:
            self._keep(self._folder, events)
        if self._json is not None:
            events = self._json.feed(events)
        if self._text is not None:
            events = self._text.feed(events)
        return self._writer.write(events)

    def _keep(self, folder: Folder, events: Iterable[StreamEvent]) -> None:
        folder.feed(events)
        if self._ended and self._translation.kept is not None:
            self._translation.kept.keep(folder.parts, self._translation.asked.now)

    def _in_band(self, error: ErrorReport) -> UpstreamFailure:
        kind = FailureKind.BROKEN if self.has_content else _FAILURES[error.kind]
        body = self._translation.caller.write_error(error)
        message = f"broke off with an error: {error.message}"
        failure = UpstreamFailure(kind, message, status=error.status, code=error.code, body=body, content_type=_JSON)
        failure.rewritten = True
        return failure


async def send_translated(
    send: Callable[[Call], Awaitable[Answer | Stream]],
    call: Call,
    *,
    endpoint: Endpoint,
    provider: ProviderDialect,
    target: Target,
    kept: ThinkingStore | None = None,
    images: Fetched | None = None,
) -> Answer | TranslatedStream:
    """Send `call`, whose body is in the dialect of its own endpoint, to a provider that speaks another one.

    `send` is the adapter's own, `endpoint` the one it is called at. `images` puts images in place of their addresses,
    for a provider that takes only bytes: see `ImageFetcher.fetched`. Raises InvalidRequest and UpstreamFailure.
    """
    caller = DIALECTS[call.endpoint]
    asked = caller.read_request(call.body)
    conversation = asked if images is None else await images(asked, call.body)
    translation = translate_conversation(
        conversation, caller=caller, provider=provider, target=target, strict=call.strict, kept=kept, now=time.time()
    )
    if conversation is not asked:  # the images are in the body that is sent; nothing needs them as long as the answer
        translation = attrs.evolve(translation, asked=attrs.evolve(translation.asked, conversation=asked))
    sent = msgspec.structs.replace(
        call,
        endpoint=endpoint,
        body=translation.body,
        model=target.model,
        requested_model=target.model,
        stream=translation.asked.conversation.stream,
        asked_usage=False,  # the adapter asks for it and hides it; `Stream.usage` has it
        remove=(),
        headers=tuple([pair for pair in call.headers if pair[0] in TRACE_HEADERS]),  # others are of its dialect
        strict=False,
    )
    try:
        answer = await send(sent)
    except UpstreamFailure as failure:
        raise translation.failure(failure) from None
    return translation.answer(answer) if isinstance(answer, Answer) else translation.stream(answer)
