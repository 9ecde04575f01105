"""Streams of Anthropic's message events, read and written.

Shapes: `anthropic.types.raw_message_stream_event`; how they follow each other:
https://platform.claude.com/docs/en/build-with-claude/streaming. Usage stands at the start (the prompt's) and, counted
up, in `message_delta`; what that leaves out stays as the start said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs
import msgspec

from ..interface import Usage
from ..sse import Event
from .anthropic_messages_answers import (
    STOP_WORDS,
    STOPS,
    Block,
    MessageShape,
    StopDetails,
    UsageShape,
    read_citations,
    read_error,
    read_one_citation,
    read_usage,
    refusal_words,
    write_stream_error,
    write_usage,
)
from .anthropic_messages_parts import write_citation
from .dialect import STATUS_OF_KIND, Asked, MalformedEvent, malformed, new_id
from .in_order import InOrder, PartEvent
from .neutral import (
    RedactedThinking,
    Refusal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from .neutral_events import (
    ArgumentsDelta,
    CitationDelta,
    Ended,
    PartEnded,
    PartStarted,
    SignatureDelta,
    Started,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)

_encode: Final = msgspec.json.Encoder().encode


class DeltaShape(msgspec.Struct):
    """The delta of a block, or of the message."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class EventShape(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: DeltaShape | None = None
    content_block: Block | None = None
    message: MessageShape | None = None
    usage: UsageShape | None = None


_decode: Final = msgspec.json.Decoder(EventShape).decode


_ENDED: Final = -1  # stands for the part of a block that has ended


class MessagesReader:
    """The `StreamReader`. Blocks of tools that the provider runs itself are passed over; blocks that come by turns are
    passed on one after another. Raises UpstreamFailure(MALFORMED) on an event that is none of a message's."""

    __slots__ = ("_count", "_empty_calls", "_end", "_order", "_over", "_parts", "_started", "_texts", "_usage")

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}  # a block's index -> its part's
        self._count = 0  # of parts so far
        self._order = InOrder()
        self._empty_calls: set[int] = set()
        self._usage = UsageShape()
        self._end: DeltaShape | None = None
        self._started = self._over = False
        self._texts = 0

    def feed(self, event: Event) -> Sequence[StreamEvent]:
        if self._over:
            return ()
        try:
            shape = _decode(event.data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise MalformedEvent(f"sent an event that is none of a message's: {error}") from None
        if shape.type == "content_block_delta":
            return self._delta(shape)
        match shape.type:
            case "content_block_start":
                return self._block(shape)
            case "content_block_stop":
                out: list[StreamEvent] = []
                self._stop(shape.index, out)
                return out
            case "message_start":
                return self._start(shape.message or MessageShape())
            case "message_delta":
                self._merge(shape.usage)
                self._end = shape.delta
                return ()
            case "message_stop":
                return self._finish()
            case "error":
                return self._error(event.data)
            case _:
                return ()  # `ping`, and what later versions add

    def end(self) -> Sequence[StreamEvent]:
        whole = self._end is not None and self._end.stop_reason is not None
        return self._finish() if whole and not self._over else ()

    def _start(self, message: MessageShape) -> Sequence[StreamEvent]:
        self._started = True
        self._merge(message.usage)
        usage = read_usage(message.usage) if message.usage else None
        return (Started(id=message.id or new_id("msg_"), model=message.model or "", usage=usage),)

    def _merge(self, usage: UsageShape | None) -> None:
        if usage is None:
            return
        for name in UsageShape.__struct_fields__:
            value = getattr(usage, name)
            if value is not None:
                setattr(self._usage, name, value)

    def _block(self, shape: EventShape) -> Sequence[StreamEvent]:
        block = shape.content_block or Block()
        part = _beginning(block)
        if part is None or not self._started:
            return ()
        out: list[StreamEvent] = []
        self._stop(shape.index, out)  # what has not ended and whose index is used again ends with it
        index = self._parts[shape.index] = self._count
        self._count += 1
        if isinstance(part, ToolCall):
            self._empty_calls.add(shape.index)
        self._texts += isinstance(part, Text)
        self._order.add(PartStarted(index=index, part=part), out)
        if isinstance(part, Text) and block.text:
            self._order.add(TextDelta(index, block.text), out)
        elif isinstance(part, Thinking) and block.thinking:
            self._order.add(ThinkingDelta(index, block.thinking), out)
        elif isinstance(part, ToolCall) and bytes(block.input) not in (b"", b"{}"):
            self._empty_calls.discard(shape.index)
            self._order.add(ArgumentsDelta(index, bytes(block.input).decode()), out)
        return out

    def _delta(self, shape: EventShape) -> Sequence[StreamEvent]:
        index, delta = self._parts.get(shape.index), shape.delta
        if index is None or delta is None:
            return ()
        if index == _ENDED:
            raise malformed("streamed more of a content block after its end")
        found = _more(index, delta)
        if found is None:
            return ()
        if type(found) is ArgumentsDelta:
            self._empty_calls.discard(shape.index)
        out: list[StreamEvent] = []
        self._order.add(found, out)
        return out

    def _stop(self, block: int, out: list[StreamEvent]) -> None:
        index = self._parts.get(block, _ENDED)
        if index == _ENDED:
            return
        self._parts[block] = _ENDED
        if block in self._empty_calls:
            self._empty_calls.discard(block)
            self._order.add(ArgumentsDelta(index, "{}"), out)
        self._order.end(index, out)

    def _finish(self) -> Sequence[StreamEvent]:
        if not self._started:
            return ()
        self._over = True
        end = self._end or DeltaShape()
        out: list[StreamEvent] = []
        for block in self._parts:
            self._stop(block, out)
        words = refusal_words(end.stop_details)
        if words and not self._texts:
            index = self._count
            out += (PartStarted(index=index, part=Refusal(text="")), TextDelta(index, words), PartEnded(index=index))
        stop = STOPS.get(end.stop_reason or "end_turn", StopReason.END)
        counted = any(getattr(self._usage, name) is not None for name in UsageShape.__struct_fields__)
        usage = read_usage(self._usage) if counted else None
        out.append(Ended(stop=stop, stop_sequence=end.stop_sequence, usage=usage))
        return out

    def _error(self, data: bytes) -> Sequence[StreamEvent]:
        self._over = True
        found = read_error(500, data)
        return (StreamError(error=attrs.evolve(found, status=STATUS_OF_KIND[found.kind])),)


def _more(index: int, delta: DeltaShape) -> PartEvent | None:
    """What `delta` adds to the part; None for nothing."""
    match delta.type:
        case "text_delta":
            return TextDelta(index, delta.text) if delta.text else None
        case "input_json_delta":
            return ArgumentsDelta(index, delta.partial_json) if delta.partial_json else None
        case "thinking_delta":
            return ThinkingDelta(index, delta.thinking) if delta.thinking else None
        case "signature_delta":
            return SignatureDelta(index, delta.signature) if delta.signature else None
        case "citations_delta":
            citation = read_one_citation(delta.citation)
            return None if citation is None else CitationDelta(index, citation)
        case _:
            return None


def _beginning(block: Block) -> Text | ToolCall | Thinking | RedactedThinking | None:
    match block.type:
        case "text":
            return Text(text="", citations=read_citations(block.citations))
        case "tool_use":
            return ToolCall(id=block.id or new_id("toolu_"), name=block.name or "")
        case "thinking":
            return Thinking(text="", signature=block.signature or None)
        case "redacted_thinking":
            return RedactedThinking(data=block.data or "")
        case _:
            return None


class MessagesWriter:
    """The `StreamWriter`. `message_stop` follows a genuine end only."""

    __slots__ = ()

    def __init__(self, asked: Asked) -> None:
        del asked

    def write(self, events: Iterable[StreamEvent]) -> bytes:
        return b"".join([_text(event) if type(event) is TextDelta else _write(event) for event in events])

    def text(self, event: TextDelta) -> bytes:
        return _text(event)


def _text(event: TextDelta) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"text_delta","text":%b}}\n\n'
    ) % (event.index, _encode(event.text))


def _write(event: StreamEvent) -> bytes:
    match event:
        case TextDelta():
            return _text(event)
        case ArgumentsDelta(index, arguments):
            return _delta(index, b'{"type":"input_json_delta","partial_json":%b}' % _encode(arguments))
        case ThinkingDelta(index, text):
            return _delta(index, b'{"type":"thinking_delta","thinking":%b}' % _encode(text))
        case SignatureDelta(index, signature):
            return _delta(index, b'{"type":"signature_delta","signature":%b}' % _encode(signature))
        case CitationDelta(index, citation):
            found = write_citation(citation)
            if found is None:
                return b""
            return _delta(index, _encode({"type": "citations_delta", "citation": found}))
        case PartStarted():
            return _part(event)
        case PartEnded(index=index):
            return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index
        case Started():
            return _message_start(event)
        case Ended():
            return _message_end(event)
        case StreamError(error=error):
            return write_stream_error(error)


def _delta(index: int, delta: bytes) -> bytes:
    return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n' % (
        index,
        delta,
    )


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **fields}))


def _part(event: PartStarted) -> bytes:
    """A block begins empty; what its part holds already follows as its first delta."""
    index, part = event.index, event.part
    more = b""
    block: dict[str, Any]
    match part:
        case Text(text=text) | Refusal(text=text):
            block = {"type": "text", "text": ""}
            more = _text(TextDelta(index, text)) if text else b""
        case Thinking():
            block = {"type": "thinking", "thinking": "", "signature": part.signature or ""}
            more = _write(ThinkingDelta(index, part.text)) if part.text else b""
        case RedactedThinking(data=data):
            block = {"type": "redacted_thinking", "data": data}
        case ToolCall():
            block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            more = _write(ArgumentsDelta(index, part.arguments)) if part.arguments else b""
    return _event("content_block_start", {"index": index, "content_block": block}) + more


def _message_start(event: Started) -> bytes:
    message: dict[str, Any] = {
        "id": event.id,
        "type": "message",
        "role": "assistant",
        "model": event.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": write_usage(event.usage or Usage()),
    }
    return _event("message_start", {"message": message})


def _message_end(event: Ended) -> bytes:
    delta = {"stop_reason": STOP_WORDS[event.stop], "stop_sequence": event.stop_sequence}
    end = _event("message_delta", {"delta": delta, "usage": write_usage(event.usage)})
    return end + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
