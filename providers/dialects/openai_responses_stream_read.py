"""Streams of response events, read. Shapes: `openai.types.responses.ResponseStreamEvent`.

Imitations of the API leave events out: what was not streamed is taken from the item when it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import msgspec

from ..sse import Event
from .dialect import STATUS_OF_KIND, MalformedEvent, kind_of_status, malformed, new_id
from .in_order import LIMIT, InOrder, PartEvent
from .neutral import (
    ErrorKind,
    ErrorReport,
    RedactedThinking,
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
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from .openai_errors import read_error
from .openai_responses_answers import read_call, read_reasoning
from .openai_responses_shapes import (
    BETWEEN,
    Content,
    Failure,
    Item,
    ResponseShape,
    read_annotation,
    read_annotations,
    read_stop,
    read_usage,
)


class EventShape(msgspec.Struct):
    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item: Item | None = None
    part: Content | None = None
    delta: Any = None
    annotation: Any = None
    response: ResponseShape | None = None


_decode: Final = msgspec.json.Decoder(EventShape).decode
_KINDS: Final = {
    "rate_limit_exceeded": ErrorKind.RATE_LIMIT,
    "rate_limit_error": ErrorKind.RATE_LIMIT,
    "insufficient_quota": ErrorKind.BILLING,
    "authentication_error": ErrorKind.AUTHENTICATION,
    "permission_error": ErrorKind.PERMISSION,
    "not_found_error": ErrorKind.NOT_FOUND,
    "invalid_request_error": ErrorKind.INVALID_REQUEST,
    "invalid_prompt": ErrorKind.INVALID_REQUEST,
    "context_length_exceeded": ErrorKind.INVALID_REQUEST,
    "timeout_error": ErrorKind.TIMEOUT,
}
_ITEM_ENDS: Final = "response.output_item.done"
_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_REASONING: Final = -1  # stands for the content index of what has only one content


@attrs.define(eq=False)
class _Open:
    """A part that has begun. `index` is its own; `paragraph` the part of the summary that its text is in; `function`:
    it is the call of one, which has arguments."""

    index: int
    function: bool = False
    has_text: bool = False
    paragraph: int = 0
    own: bool = False  # reasoning itself is shown, so its summary is not read
    over: bool = False


class ResponsesReader:
    """The `StreamReader`. Items that come by turns are passed on one after another, and so are the parts of a message:
    what is said of a later one waits until the earlier has ended.

    Raises UpstreamFailure(MALFORMED) on an event that is none of a response's.
    """

    __slots__ = ("_called", "_live", "_next", "_order", "_over", "_parts", "_refused", "_size", "_started", "_waiting")

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], _Open] = {}
        self._next = 0
        self._order = InOrder()
        self._live: int | None = None  # the item that has begun and not ended, by its place in the output
        self._waiting: dict[int, list[EventShape]] = {}  # of later items
        self._size = 0  # of what waits, in bytes
        self._started = self._over = self._called = self._refused = False

    def feed(self, event: Event) -> Sequence[StreamEvent]:
        if self._over or event.data.startswith(b"[DONE]"):
            return ()
        try:
            shape = _decode(event.data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise MalformedEvent(f"sent an event that is none of a response's: {error}") from None
        if shape.type == "error":
            return self._error(event.data)
        out: list[StreamEvent] = []
        if shape.response is not None and not self._started:
            self._start(shape.response, out)
        if not self._started:
            return out
        if shape.type in _LAST:
            self._let_through(out, everything=True)
            self._finish(shape.response or ResponseShape(), out)
        elif self._live is not None and shape.output_index > self._live:
            self._wait(shape, len(event.data))
        else:
            self._event(shape, out)
            if shape.type == _ITEM_ENDS and self._waiting:
                self._let_through(out)
        return out

    def end(self) -> Sequence[StreamEvent]:
        return ()

    def _start(self, response: ResponseShape, out: list[StreamEvent]) -> None:
        self._started = True
        created = int(response.created_at) if response.created_at is not None else None
        out.append(Started(id=response.id or new_id("resp_"), model=response.model or "", created=created))

    def _wait(self, shape: EventShape, size: int) -> None:
        self._size += size
        if self._size > LIMIT:
            raise malformed("streamed too much of an item before an earlier one ended")
        self._waiting.setdefault(shape.output_index, []).append(shape)

    def _let_through(self, out: list[StreamEvent], *, everything: bool = False) -> None:
        """What waits for an item that has ended; with `everything`, whatever waits."""
        while self._waiting and (everything or self._live is None):
            for shape in self._waiting.pop(min(self._waiting)):
                self._event(shape, out)
        if not self._waiting:
            self._size = 0

    def _event(self, shape: EventShape, out: list[StreamEvent]) -> None:
        key = (shape.output_index, shape.content_index)
        alone = (shape.output_index, _REASONING)
        match shape.type:
            case "response.output_text.delta":
                self._words(key, Text(text=""), shape.delta, out)
            case "response.refusal.delta":
                self._words(key, Refusal(text=""), shape.delta, out)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self._arguments(alone, shape.delta, out)
            case "response.reasoning_summary_text.delta":
                self._summary(alone, shape, out)
            case "response.reasoning_text.delta":
                self._thinking(alone, shape.delta, out)
            case "response.output_item.added":
                self._live = shape.output_index
                self._item_begins(alone, shape.item or Item(), out)
            case "response.content_part.added":
                self._content_begins(key, shape.part or Content(), out)
            case "response.output_text.annotation.added":
                self._cited(key, shape.annotation, out)
            case "response.content_part.done":
                self._close(key, out)
            case "response.output_item.done":
                if self._live == shape.output_index:
                    self._live = None
                self._item_ends(shape.output_index, shape.item or Item(), out)
            case _:
                return  # what the `done` events say, and what later versions add

    def _begin(self, key: tuple[int, int], part: Any, out: list[StreamEvent]) -> _Open:
        """The part at `key`, which begins if it is not there."""
        found = self._parts.get(key)
        if found is None:
            found = self._parts[key] = _Open(
                index=self._next, function=isinstance(part, ToolCall) and not part.freeform
            )
            self._next += 1
            self._called = self._called or isinstance(part, ToolCall)
            self._refused = self._refused or isinstance(part, Refusal)
            self._order.add(PartStarted(index=found.index, part=part), out)
        return found

    def _add(self, found: _Open, event: PartEvent, out: list[StreamEvent]) -> None:
        if found.over:
            raise malformed("streamed more of an item after its end")
        self._order.add(event, out)

    def _words(self, key: tuple[int, int], part: Text | Refusal, delta: object, out: list[StreamEvent]) -> None:
        found = self._begin(key, part, out)
        if isinstance(delta, str) and delta:
            found.has_text = True
            self._add(found, TextDelta(found.index, delta), out)

    def _arguments(self, key: tuple[int, int], delta: object, out: list[StreamEvent]) -> None:
        found = self._parts.get(key)
        if found is None:
            raise malformed("streamed the arguments of a tool call that had not begun")
        if isinstance(delta, str) and delta:
            found.has_text = True
            self._add(found, ArgumentsDelta(found.index, delta), out)

    def _thinking(self, key: tuple[int, int], delta: object, out: list[StreamEvent]) -> None:
        """Reasoning itself. It comes before its summary, where both are shown."""
        found = self._begin(key, Thinking(text=""), out)
        if found.own or not found.has_text:
            found.own = True
            self._thought(found, delta, out)

    def _summary(self, key: tuple[int, int], shape: EventShape, out: list[StreamEvent]) -> None:
        found = self._begin(key, Thinking(text=""), out)
        if found.own:
            return
        if found.has_text and found.paragraph != shape.summary_index:
            self._thought(found, BETWEEN, out)
        found.paragraph = shape.summary_index
        self._thought(found, shape.delta, out)

    def _thought(self, found: _Open, delta: object, out: list[StreamEvent]) -> None:
        if isinstance(delta, str) and delta:
            found.has_text = True
            self._add(found, ThinkingDelta(found.index, delta), out)

    def _item_begins(self, key: tuple[int, int], item: Item, out: list[StreamEvent]) -> None:
        """A call's arguments are not read here, where they are empty or will be said again."""
        if item.type in ("function_call", "custom_tool_call"):
            self._begin(key, attrs.evolve(read_call(item), arguments=""), out)
        elif item.type == "reasoning" and item.encrypted_content:
            part = read_reasoning(item)
            if isinstance(part, RedactedThinking):
                self._begin(key, part, out)

    def _content_begins(self, key: tuple[int, int], content: Content, out: list[StreamEvent]) -> None:
        if content.type == "output_text":
            self._begin(key, Text(text="", citations=read_annotations(content.annotations)), out)
        elif content.type == "refusal":
            self._begin(key, Refusal(text=""), out)

    def _cited(self, key: tuple[int, int], annotation: object, out: list[StreamEvent]) -> None:
        found, citation = self._parts.get(key), read_annotation(annotation)
        if found is not None and citation is not None and not found.over:
            self._order.add(CitationDelta(found.index, citation), out)

    def _close(self, key: tuple[int, int], out: list[StreamEvent]) -> None:
        found = self._parts.get(key)
        if found is not None and not found.over:
            if found.function and not found.has_text:
                self._order.add(ArgumentsDelta(found.index, "{}"), out)
            found.over = True
            self._order.end(found.index, out)

    def _item_ends(self, output_index: int, item: Item, out: list[StreamEvent]) -> None:
        """What was not streamed of the item, and its end."""
        alone = (output_index, _REASONING)
        if alone in self._parts and self._parts[alone].over:
            return  # said twice
        match item.type:
            case "function_call" | "custom_tool_call":
                call = read_call(item)
                found = self._begin(alone, attrs.evolve(call, arguments=""), out)
                if not found.has_text:
                    self._arguments(alone, call.arguments, out)
            case "reasoning":
                self._reasoning_ends(alone, item, out)
            case "message":
                for number, content in enumerate(item.content or ()):
                    self._content_ends((output_index, number), content, out)
            case _:
                return
        self._close(alone, out)

    def _content_ends(self, key: tuple[int, int], content: Content, out: list[StreamEvent]) -> None:
        if content.type not in ("output_text", "refusal"):
            return
        if key not in self._parts:
            self._content_begins(key, content, out)
            self._words(key, Text(text=""), content.text or content.refusal, out)
        self._close(key, out)

    def _reasoning_ends(self, key: tuple[int, int], item: Item, out: list[StreamEvent]) -> None:
        part = read_reasoning(item)
        if part is None:
            return
        if not isinstance(part, Thinking):
            self._begin(key, part, out)
            return
        found = self._begin(key, Thinking(text=""), out)
        if not found.has_text:
            self._thought(found, part.text, out)
        if part.signature is not None:
            self._add(found, SignatureDelta(found.index, part.signature), out)

    def _finish(self, response: ResponseShape, out: list[StreamEvent]) -> None:
        self._over = True
        if response.status == "failed" or response.error is not None:
            out.append(StreamError(error=_report(response.error or Failure())))
            return
        for key in self._parts:
            self._close(key, out)
        stop = read_stop(response, called=self._called, refused=self._refused)
        out.append(Ended(stop=stop, usage=read_usage(response.usage)))

    def _error(self, data: bytes) -> Sequence[StreamEvent]:
        self._over = True
        found = read_error(500, data)
        kind = _KINDS.get(found.code or "") or _KINDS.get(found.type or "") or kind_of_status(500)
        kind_word = None if found.type == "error" else found.type
        return (StreamError(error=attrs.evolve(found, kind=kind, status=STATUS_OF_KIND[kind], type=kind_word)),)


def _report(failure: Failure) -> ErrorReport:
    kind = _KINDS.get(failure.code or "", ErrorKind.SERVER)
    message = failure.message or "the provider's response failed"
    return ErrorReport(kind=kind, status=STATUS_OF_KIND[kind], message=message, code=failure.code)
