"""Streams of chat completion chunks, read and written. Shapes: see `openai_chat_shapes`.

What real streams do, and is read here: a first chunk without choices (Azure's prompt filter), chunks of nothing but
content filter results, a role-only first delta, usage in a chunk of its own, in the last one or in each, whole tool
calls in one chunk (Ollama), without index, or all with index 0 (Gemini), calls whose arguments come by turns, and no
`[DONE]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs
import msgspec

from ..sse import Event
from .dialect import Asked, MalformedEvent, malformed, new_id
from .in_order import LIMIT, InOrder
from .json_end import JsonEnd
from .neutral import (
    Citation,
    Refusal,
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
    Started,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from .openai_chat_answers import finish_word, write_call, write_stream_error
from .openai_chat_shapes import (
    Choice,
    Chunk,
    Function,
    Message,
    ToolCallShape,
    UsageShape,
    arguments_of,
    citations_of,
    decode,
    read_usage,
    stop_of,
    text_of,
    thinking_of,
    write_annotation,
    write_usage,
)
from .openai_errors import read_error

_encode: Final = msgspec.json.Encoder().encode
_NO_CHOICE: Final = Choice()


@attrs.define(eq=False)
class _Call:
    """A tool call that is being streamed. `part` is its index, None until its name is known.

    `number` is the provider's own index. `early` are the arguments that came before the name, `has_arguments` whether
    any came after it, `end` whether they are whole.
    """

    id: str
    freeform: bool
    number: int | None
    part: int | None = None
    early: str = ""
    has_arguments: bool = False
    end: JsonEnd = attrs.field(factory=JsonEnd)
    ended: bool = False


class ChatReader:
    """The `StreamReader`. Raises UpstreamFailure(MALFORMED) on an event that is no chunk."""

    __slots__ = (
        "_by_index",
        "_calls",
        "_choice",
        "_kind",
        "_last",
        "_open",
        "_order",
        "_over",
        "_parts",
        "_refused",
        "_started",
        "_usage",
    )

    def __init__(self) -> None:
        self._parts = -1  # the index of the newest part, of kind `_kind`
        self._kind: type[Text | Thinking | Refusal | ToolCall] | None = None
        self._order = InOrder()
        self._open: list[_Call] = []  # begun and not ended, in the order of their parts
        self._by_index: dict[int, _Call] = {}
        self._calls: list[_Call] = []
        self._last: _Call | None = None
        self._choice: Choice | None = None
        self._usage: UsageShape | None = None
        self._refused = False
        self._started = self._over = False

    def feed(self, event: Event) -> Sequence[StreamEvent]:
        if self._over:
            return ()
        if event.data.startswith(b"[DONE]"):
            return self._finish()
        try:
            chunk = decode(event.data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise MalformedEvent(f"sent an event that is no chat completion chunk: {error}") from None
        if chunk.error is not None:
            self._over = True
            return (StreamError(error=read_error(500, event.data)),)
        if chunk.usage is not None:
            self._usage = chunk.usage
        choice = _first(chunk)
        if choice is None:
            return ()
        out: list[StreamEvent] = [] if self._started else [self._start(chunk)]
        delta = choice.delta or choice.message
        if delta is not None:
            self._delta(delta, out)
        if choice.finish_reason:
            self._choice = choice
        return out

    def end(self) -> Sequence[StreamEvent]:
        return () if self._over or self._choice is None else self._finish()

    def _start(self, chunk: Chunk) -> StreamEvent:
        self._started = True
        created = chunk.created if isinstance(chunk.created, int) else None
        return Started(id=chunk.id or new_id("chatcmpl-"), model=chunk.model or "", created=created)

    def _delta(self, delta: Message, out: list[StreamEvent]) -> None:
        content = delta.content
        if delta.reasoning_content or delta.reasoning or isinstance(content, list):
            thinking = thinking_of(delta)
            if thinking:
                self._order.add(ThinkingDelta(self._at(Thinking, out), thinking), out)
            content = text_of(content)
        if content:
            self._order.add(TextDelta(self._at(Text, out), content), out)
        if delta.refusal:
            self._refused = True
            self._order.add(TextDelta(self._at(Refusal, out), delta.refusal), out)
        if delta.tool_calls:
            for shape in delta.tool_calls:
                self._call(shape, out)
        elif delta.function_call is not None:
            self._call(ToolCallShape(index=0, function=delta.function_call), out)
        if delta.annotations and self._kind is Text:
            for citation in citations_of(delta.annotations):
                self._order.add(CitationDelta(self._parts, citation), out)

    def _at(self, kind: type[Text | Thinking | Refusal], out: list[StreamEvent]) -> int:
        """The index of the open part of this kind, which begins if there is none."""
        if self._kind is not kind:
            self._begin(kind, kind(text=""), out)
        return self._parts

    def _begin(self, kind: type[Text | Thinking | Refusal | ToolCall], part: Any, out: list[StreamEvent]) -> None:
        self._leave(out)
        self._parts += 1
        self._kind = kind
        self._order.add(PartStarted(index=self._parts, part=part), out)

    def _leave(self, out: list[StreamEvent]) -> None:
        """Another part begins: what cannot go on ends. A call ends when its arguments are whole, so that the next one
        is passed on while it comes; those of several calls may come by turns. Text has no end to be seen: a call that
        takes it ends when the next part begins, as OpenAI streams them."""
        if self._kind is not None and self._kind is not ToolCall:
            self._order.end(self._parts, out)
        for call in [call for call in self._open if call.freeform or call.end.seen or not self._goes_on(call)]:
            self._end_call(call, out)

    def _goes_on(self, call: _Call) -> bool:
        """Whether more of `call` can be told from more of another; see `_known`."""
        return call is (self._last if call.number is None else self._by_index.get(call.number))

    def _end_call(self, call: _Call, out: list[StreamEvent]) -> None:
        if call.part is None:
            return
        if not (call.has_arguments or call.freeform):
            self._order.add(ArgumentsDelta(call.part, "{}"), out)
        self._order.end(call.part, out)
        self._open.remove(call)
        call.ended = True

    def _call(self, shape: ToolCallShape, out: list[StreamEvent]) -> None:
        function = shape.function or shape.custom or Function()
        call = self._known(shape, function)
        if call is None:
            call = self._new(shape)
        text = function.input if isinstance(function.input, str) else arguments_of(function)
        if call.part is None:
            call.early += text
            if len(call.early) > LIMIT:
                raise malformed("streamed too much of a tool call before its name")
            if not function.name:
                return
            text, call.early = call.early, ""
            self._start_call(call, function.name, out)
        if text and call.part is not None:
            self._arguments(call, call.part, text, out)

    def _arguments(self, call: _Call, part: int, text: str, out: list[StreamEvent]) -> None:
        if call.ended:
            if text.isspace() and not call.freeform:
                return
            raise malformed("streamed more of a tool call's arguments after their end")
        call.has_arguments = True
        self._order.add(ArgumentsDelta(part, text), out)
        if call.freeform:
            return
        call.end.feed(text)
        if call.end.seen and part != self._parts:
            self._end_call(call, out)

    def _known(self, shape: ToolCallShape, function: Function) -> _Call | None:
        """The call that `shape` goes on with; None for a new one.

        Another id together with a name is another call, whatever the index says; without an index a name alone is.
        """
        if shape.index is None:
            call = self._last
            if call is None or (shape.id and shape.id != call.id) or (not shape.id and function.name):
                return None
            return call
        call = self._by_index.get(shape.index)
        if call is not None and shape.id and shape.id != call.id and function.name and call.part is not None:
            return None
        return call

    def _new(self, shape: ToolCallShape) -> _Call:
        call = _Call(id=shape.id or new_id("call_"), freeform=shape.custom is not None, number=shape.index)
        self._calls.append(call)
        if shape.index is not None:
            self._by_index[shape.index] = call
        return call

    def _start_call(self, call: _Call, name: str, out: list[StreamEvent]) -> None:
        self._last = call
        self._begin(ToolCall, ToolCall(id=call.id, name=name, freeform=call.freeform), out)
        call.part = self._parts
        self._open.append(call)

    def _finish(self) -> Sequence[StreamEvent]:
        if not self._started:
            return ()  # an end without a beginning is none
        self._over = True
        out: list[StreamEvent] = []
        for call in self._calls:
            if call.part is None:
                raise malformed("streamed a tool call without a name")
        self._leave(out)
        for call in tuple(self._open):
            self._end_call(call, out)
        stop, sequence = stop_of(self._choice or _NO_CHOICE, called=bool(self._calls), refused=self._refused)
        out.append(Ended(stop=stop, stop_sequence=sequence, usage=read_usage(self._usage)))
        return out


def _first(chunk: Chunk) -> Choice | None:
    """The chunk's piece of the first choice."""
    choices = chunk.choices
    if not choices:
        return None
    if not choices[0].index:
        return choices[0]
    return next((choice for choice in choices if not choice.index), None)


class ChatWriter:
    """The `StreamWriter`. `[DONE]` follows a genuine end only."""

    __slots__ = ("_asked", "_calls", "_citations", "_freeform", "_head", "_length", "_refusals", "_start", "_tail")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._head = self._tail = b""
        self._calls: dict[int, int] = {}  # a part's index -> the tool call's own
        self._refusals: set[int] = set()
        self._freeform: set[int] = set()
        self._citations: list[Citation] = []
        self._length = self._start = 0  # of the text so far, in characters, and where the open part of it began

    def write(self, events: Iterable[StreamEvent]) -> bytes:
        return b"".join([self.text(event) if type(event) is TextDelta else self._write(event) for event in events])

    def _write(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta():
                return self.text(event)
            case ThinkingDelta():
                return self._chunk(b'{"reasoning_content":%b}' % _encode(event.text))
            case ArgumentsDelta():
                return self._arguments(event)
            case Started():
                return self._started(event)
            case PartStarted():
                return self._part(event)
            case PartEnded():
                return self._part_ended()
            case CitationDelta():
                self._citations.append(event.citation)
                return b""
            case Ended():
                return self._ended(event)
            case StreamError():
                return write_stream_error(event.error)
            case _:
                return b""

    def _chunk(self, delta: bytes) -> bytes:
        return b"".join((self._head, delta, self._tail))

    def _started(self, event: Started) -> bytes:
        created = event.created if event.created is not None else self._asked.now
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[{"index":0,"delta":'
            % (_encode(event.id), created, _encode(event.model))
        )
        usage = b',"usage":null' if self._asked.conversation.include_usage else b""
        self._tail = b',"logprobs":null,"finish_reason":null}]%b}\n\n' % usage
        return self._chunk(b'{"role":"assistant","content":""}')

    def text(self, event: TextDelta) -> bytes:
        if event.index in self._refusals:
            return self._chunk(b'{"refusal":%b}' % _encode(event.text))
        self._length += len(event.text)
        return b'%b{"content":%b}%b' % (self._head, _encode(event.text), self._tail)

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        where = b'"custom":{"input"' if event.index in self._freeform else b'"function":{"arguments"'
        number = self._calls.get(event.index, 0)
        return self._chunk(b'{"tool_calls":[{"index":%d,%b:%b}}]}' % (number, where, _encode(event.arguments)))

    def _part(self, event: PartStarted) -> bytes:
        match event.part:
            case ToolCall():
                number = self._calls[event.index] = len(self._calls)
                call = {"index": number, **write_call(event.part)}
                if event.part.freeform:
                    self._freeform.add(event.index)
                else:
                    call["function"] = {"name": event.part.name, "arguments": event.part.arguments}
                return self._chunk(_encode({"tool_calls": [call]}))
            case Refusal(text=text):
                self._refusals.add(event.index)
                return self.text(TextDelta(event.index, text)) if text else b""
            case Text(text=text):
                self._start = self._length
                self._citations += event.part.citations
                return self.text(TextDelta(event.index, text)) if text else b""
            case Thinking(text=text):
                return self._write(ThinkingDelta(event.index, text)) if text else b""
            case _:
                return b""

    def _part_ended(self) -> bytes:
        """A text's citations come when its end is known, where they stand."""
        if not self._citations:
            return b""
        found = [write_annotation(citation, self._start, self._length) for citation in self._citations]
        self._citations.clear()
        annotations = [annotation for annotation in found if annotation is not None]
        return self._chunk(_encode({"annotations": annotations})) if annotations else b""

    def _ended(self, event: Ended) -> bytes:
        word = finish_word(event.stop, refused=bool(self._refusals))
        choice: dict[str, Any] = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": word}
        if event.stop_sequence is not None:
            choice["stop_reason"] = event.stop_sequence
        before = self._head[: self._head.index(b'"choices":')]
        asked = self._asked.conversation.include_usage
        last = b'%b"choices":[%b]%b}\n\n' % (before, _encode(choice), b',"usage":null' if asked else b"")
        if asked and event.usage is not None:
            last += b'%b"choices":[],"usage":%b}\n\n' % (before, _encode(write_usage(event.usage)))
        return last + b"data: [DONE]\n\n"
