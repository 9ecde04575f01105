"""ConverseStream, read and written. Shapes: see `bedrock_converse_shapes`.

What real streams do, and is read here: text begins without a `contentBlockStart`, every payload has a `p` of padding,
the stop reason comes before the usage, and after a guardrail's intervention the text is the guardrail's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs
import msgspec

from infermux.errors import InvalidRequest

from ..eventstream import EventStreamDecoder, Message, encode, event
from ..sse import Event
from .bedrock_converse_answers import error_object, read_stop, stream_failure
from .bedrock_converse_shapes import (
    BROKEN_STOPS,
    STOP_WORDS,
    UsageShape,
    read_citation,
    read_usage,
    write_citation,
    write_usage,
)
from .dialect import MalformedEvent, new_id
from .fields import Fields
from .in_order import InOrder
from .neutral import (
    ErrorKind,
    ErrorReport,
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

Json = dict[str, Any]
_encode: Final = msgspec.json.Encoder().encode


class ConverseDecoder:
    """The `EventDecoder`: messages of the event stream as events. Exceptions come under their own names; an error that
    the service's model does not know as `error`, with its code as `__type`."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = EventStreamDecoder()

    def feed(self, data: bytes) -> list[Event]:
        """Raises EventStreamCorrupt."""
        return [_event(message) for message in self._decoder.feed(data)]

    def flush(self) -> list[Event]:
        """Nothing: a message that has not ended cannot be read."""
        return []


def _event(message: Message) -> Event:
    if message.type != "error":
        return Event(message.name, message.payload)
    said = {"__type": message.name, "message": message.text(":error-message")}
    return Event("error", _encode(said))


class _ToolInput(msgspec.Struct):
    input: str = ""


class _Reasoning(msgspec.Struct):
    text: str | None = None
    signature: str | None = None
    redactedContent: str | None = None


class _Delta(msgspec.Struct):
    text: str | None = None
    toolUse: _ToolInput | None = None
    reasoningContent: _Reasoning | None = None
    citation: dict[str, Any] | None = None


class _BlockDelta(msgspec.Struct):
    delta: _Delta
    contentBlockIndex: int


class _ToolUse(msgspec.Struct):
    toolUseId: str
    name: str
    type: str | None = None


class _Start(msgspec.Struct):
    toolUse: _ToolUse | None = None


class _BlockStart(msgspec.Struct):
    start: _Start
    contentBlockIndex: int


class _BlockStop(msgspec.Struct):
    contentBlockIndex: int


class _Stop(msgspec.Struct):
    stopReason: str
    additionalModelResponseFields: Any = None


class _Metadata(msgspec.Struct):
    usage: UsageShape | None = None


_deltas: Final = msgspec.json.Decoder(_BlockDelta)
_starts: Final = msgspec.json.Decoder(_BlockStart)
_block_stops: Final = msgspec.json.Decoder(_BlockStop)
_stops: Final = msgspec.json.Decoder(_Stop)
_metadata: Final = msgspec.json.Decoder(_Metadata)


@attrs.define(eq=False)
class _Block:
    """A content block that is open. `index` is its part's, None for a block that is left out or not begun yet."""

    index: int | None = None
    kind: type[Text | Thinking | ToolCall | RedactedThinking] | None = None
    said: bool = False  # whether a tool call has any arguments yet
    signature: str = ""
    redacted: str = ""


class ConverseReader:
    """The `StreamReader` of an answer of `model`. Blocks that come by turns are passed on one after another. Raises
    UpstreamFailure(MALFORMED) for an event that is not what its name says."""

    __slots__ = ("_blocks", "_model", "_order", "_over", "_parts", "_started", "_stop", "_usage")

    def __init__(self, model: str = "") -> None:
        self._model = model
        self._blocks: dict[int, _Block] = {}
        self._parts = 0
        self._order = InOrder()
        self._started = False
        self._stop: tuple[StopReason, str | None] | None = None
        self._usage: UsageShape | None = None
        self._over = False

    def feed(self, event: Event) -> Sequence[StreamEvent]:
        if self._over:
            return ()
        out: list[StreamEvent] = []
        try:
            self._event(event, out)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidRequest) as error:
            raise MalformedEvent(f"sent an event {event.event[:64]!r} that is none: {error}") from None
        return out

    def end(self) -> Sequence[StreamEvent]:
        return () if self._over or self._stop is None else self._finish()

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        match event.event:
            case "contentBlockDelta":
                self._delta(_deltas.decode(event.data), out)
            case "messageStart":
                self._start(out)
            case "contentBlockStart":
                self._block_start(_starts.decode(event.data), out)
            case "contentBlockStop":
                self._block_stop(_block_stops.decode(event.data).contentBlockIndex, out)
            case "messageStop":
                self._message_stop(_stops.decode(event.data), out)
            case "metadata":
                self._usage = _metadata.decode(event.data).usage or self._usage
                if self._stop is not None:
                    out += self._finish()
            case "error":
                self._fail(stream_failure("", event.data), out)
            case name if name.endswith("Exception"):
                self._fail(stream_failure(name, event.data), out)
            case _:
                pass  # a kind of event that is newer than this

    def _fail(self, error: ErrorReport, out: list[StreamEvent]) -> None:
        self._over = True
        out.append(StreamError(error=error))

    def _start(self, out: list[StreamEvent]) -> None:
        if not self._started:
            self._started = True
            out.append(Started(id=new_id("msg_"), model=self._model))

    def _block_start(self, shape: _BlockStart, out: list[StreamEvent]) -> None:
        self._start(out)
        block = self._blocks[shape.contentBlockIndex] = _Block()
        call = shape.start.toolUse
        if call is not None and call.type is None:  # with a type it is a tool that Bedrock runs itself
            self._begin(block, ToolCall(id=call.toolUseId, name=call.name), out)
        else:
            block.kind = RedactedThinking  # nothing of it is passed on

    def _begin(self, block: _Block, part: Text | Thinking | ToolCall | RedactedThinking, out: list[StreamEvent]) -> int:
        index = block.index = self._parts
        self._parts += 1
        block.kind = type(part)
        self._order.add(PartStarted(index=index, part=part), out)
        return index

    def _delta(self, shape: _BlockDelta, out: list[StreamEvent]) -> None:
        delta = shape.delta
        block = self._blocks.get(shape.contentBlockIndex)
        if block is None:
            self._start(out)
            block = self._blocks[shape.contentBlockIndex] = _Block()
        if delta.text is not None:
            index = self._at(block, Text, out)
            if index is not None and delta.text:
                self._order.add(TextDelta(index, delta.text), out)
        elif delta.toolUse is not None:
            if block.kind is ToolCall and block.index is not None and delta.toolUse.input:
                block.said = True
                self._order.add(ArgumentsDelta(block.index, delta.toolUse.input), out)
        elif delta.reasoningContent is not None:
            self._thinking(block, delta.reasoningContent, out)
        elif delta.citation is not None:
            index = self._at(block, Text, out)
            if index is not None:
                self._order.add(CitationDelta(index, read_citation(Fields(delta.citation, "citation"))), out)

    def _at(self, block: _Block, kind: type[Text | Thinking], out: list[StreamEvent]) -> int | None:
        """The index of the block's part, which begins now if it has not; None where the block is of another kind."""
        if block.kind is None:
            return self._begin(block, kind(text=""), out)
        return block.index if block.kind is kind else None

    def _thinking(self, block: _Block, shape: _Reasoning, out: list[StreamEvent]) -> None:
        if shape.redactedContent is not None:
            block.redacted += shape.redactedContent
            block.kind = block.kind or RedactedThinking
            return
        index = self._at(block, Thinking, out)
        if index is None:
            return
        if shape.text:
            self._order.add(ThinkingDelta(index, shape.text), out)
        block.signature += shape.signature or ""

    def _block_stop(self, number: int, out: list[StreamEvent]) -> None:
        block = self._blocks.pop(number, None)
        if block is None:
            return
        if block.redacted and block.index is None:
            self._begin(block, RedactedThinking(data=block.redacted), out)
        if block.index is None:
            return
        if block.signature:
            self._order.add(SignatureDelta(block.index, block.signature), out)
        if block.kind is ToolCall and not block.said:
            self._order.add(ArgumentsDelta(block.index, "{}"), out)
        self._order.end(block.index, out)

    def _message_stop(self, shape: _Stop, out: list[StreamEvent]) -> None:
        self._start(out)
        if shape.stopReason in BROKEN_STOPS:
            message = f"the model's output could not be read: {shape.stopReason}"
            self._fail(ErrorReport(kind=ErrorKind.SERVER, status=500, message=message), out)
            return
        for number in sorted(self._blocks):
            self._block_stop(number, out)
        self._stop = read_stop(shape.stopReason, shape.additionalModelResponseFields)

    def _finish(self) -> Sequence[StreamEvent]:
        assert self._stop is not None
        self._over = True
        stop, sequence = self._stop
        return (Ended(stop=stop, stop_sequence=sequence, usage=read_usage(self._usage)),)


class ConverseWriter:
    """The `StreamWriter`: messages of the event stream."""

    __slots__ = ()

    def write(self, events: Iterable[StreamEvent]) -> bytes:
        return b"".join([self._write(event) for event in events])

    def text(self, event: TextDelta) -> bytes:
        return _delta(event.index, {"text": event.text})

    def _write(self, given: StreamEvent) -> bytes:
        match given:
            case TextDelta():
                return self.text(given)
            case ArgumentsDelta():
                return _delta(given.index, {"toolUse": {"input": given.arguments}})
            case ThinkingDelta():
                return _delta(given.index, {"reasoningContent": {"text": given.text}})
            case SignatureDelta():
                return _delta(given.index, {"reasoningContent": {"signature": given.signature}})
            case CitationDelta():
                return _delta(given.index, {"citation": write_citation(given.citation)})
            case Started():
                return event("messageStart", _encode({"role": "assistant"}))
            case PartStarted():
                return _part(given)
            case PartEnded():
                return event("contentBlockStop", _encode({"contentBlockIndex": given.index}))
            case Ended():
                return _ended(given)
            case StreamError():
                return write_stream_error(given.error)


def _delta(index: int, delta: Json) -> bytes:
    return event("contentBlockDelta", _encode({"contentBlockIndex": index, "delta": delta}))


def _part(given: PartStarted) -> bytes:
    """Only tool calls have a start of their own; of the others the first delta, empty here, is the start."""
    match given.part:
        case ToolCall() as call:
            start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
            begun = event("contentBlockStart", _encode({"contentBlockIndex": given.index, "start": start}))
            more = _delta(given.index, {"toolUse": {"input": call.arguments}}) if call.arguments else b""
            return begun + more
        case Text() as part:
            cited = [_delta(given.index, {"citation": write_citation(citation)}) for citation in part.citations]
            return b"".join((_delta(given.index, {"text": part.text}), *cited))
        case Refusal(text=text):
            return _delta(given.index, {"text": text})
        case Thinking() as part:
            signed = {"reasoningContent": {"signature": part.signature}}
            begun = _delta(given.index, {"reasoningContent": {"text": part.text}})
            return begun + (_delta(given.index, signed) if part.signature is not None else b"")
        case RedactedThinking(data=data):
            return _delta(given.index, {"reasoningContent": {"redactedContent": data}})


def _ended(given: Ended) -> bytes:
    stop: Json = {"stopReason": STOP_WORDS[given.stop]}
    if given.stop_sequence is not None:
        stop["additionalModelResponseFields"] = {"stop_sequence": given.stop_sequence}
    usage = None if given.usage is None else write_usage(given.usage)
    metadata = _encode({"usage": usage, "metrics": {"latencyMs": 0}})
    return event("messageStop", _encode(stop)) + event("metadata", metadata)


_IN_STREAMS: Final = frozenset(
    {
        "InternalServerException",
        "ModelStreamErrorException",
        "ValidationException",
        "ThrottlingException",
        "ServiceUnavailableException",
    }
)


def write_stream_error(error: ErrorReport) -> bytes:
    """An exception of those the stream's model knows, an error otherwise."""
    name, members = error_object(error)
    if name in _IN_STREAMS:
        return event(name[:1].lower() + name[1:], _encode(members), kind="exception")
    headers = {":message-type": "error", ":error-code": name, ":error-message": error.message[:4096]}
    return encode(Message(headers=headers))
