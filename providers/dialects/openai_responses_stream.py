"""Streams of response events, written.

Shapes: `openai.types.responses.ResponseStreamEvent`; how they follow each other:
https://platform.openai.com/docs/api-reference/responses-streaming, and `openai.lib.streaming.responses`, which insists.
Each event has its number, each item the same id in all of its events.

An item is told to be done when the next one begins or the answer ends: only then is it known whether it was cut off,
and whether more text belongs to the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs
import msgspec

from .dialect import Asked
from .neutral import (
    Citation,
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
    PartEnded,
    PartStarted,
    SignatureDelta,
    Started,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from .openai_responses_answers import (
    ItemIds,
    ItemPart,
    end_response,
    item_type,
    write_content,
    write_item,
    write_response,
    write_stream_error,
)
from .openai_responses_shapes import Json, incomplete_reason, seal, write_annotations, write_call, write_usage

_encode: Final = msgspec.json.Encoder().encode
_FAILURE_CODES: Final = {ErrorKind.RATE_LIMIT: "rate_limit_exceeded", ErrorKind.INVALID_REQUEST: "invalid_prompt"}
_OTHER_FAILURE: Final = "server_error"


@attrs.define(eq=False)
class _Part:
    """A part that is being streamed. `head` and `tail` stand around the number and the text of its deltas.

    `told`: the caller knows that it began; a reasoning summary is told of with its first text.
    """

    part: ItemPart
    place: Json
    head: bytes
    tail: bytes
    pieces: list[str]
    signature: str | None
    citations: list[Citation]
    told: bool = True
    over: bool = False

    def whole(self) -> ItemPart:
        text = "".join(self.pieces)
        match self.part:
            case Text():
                return attrs.evolve(self.part, text=text, citations=tuple(self.citations))
            case Refusal():
                return Refusal(text=text)
            case Thinking():
                return Thinking(text=text, signature=self.signature)
            case ToolCall():
                return attrs.evolve(self.part, arguments=text)
            case RedactedThinking():
                return self.part


@attrs.define(eq=False)
class _Item:
    id: str
    kind: str
    parts: list[_Part]

    def write(self, *, incomplete: bool = False) -> Json:
        return write_item([part.whole() for part in self.parts], self.id, incomplete=incomplete)


class ResponsesWriter:
    """The `StreamWriter`. `response.completed` and `response.incomplete` follow a genuine end only."""

    __slots__ = ("_asked", "_ids", "_items", "_parts", "_refused", "_response", "_sequence")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._ids = ItemIds()
        self._sequence = -1
        self._response: Json = {}
        self._items: list[_Item] = []
        self._parts: dict[int, _Part] = {}
        self._refused = False

    def write(self, events: Iterable[StreamEvent]) -> bytes:
        return b"".join([self._write(event) for event in events])

    def resume(self, *, items: Sequence[tuple[str, str]], response: Json, sequence: int) -> bool:
        """Go on in a stream that another one began, after all of its events were written here as well.

        `items` are the types and ids of the items it has told of, `response` is the response as it began, `sequence`
        the number of its last event. False where the items here are others: this writer cannot go on with it.
        """
        if [kind for kind, _ in items] != [item.kind for item in self._items]:
            return False
        for item, (_, known) in zip(self._items, items, strict=True):
            ours, theirs = (b'"item_id":%b' % _encode(name) for name in (item.id, known))
            item.id = known
            for part in item.parts:
                part.place["item_id"] = known
                part.head = part.head.replace(ours, theirs, 1)
        self._response |= response
        self._sequence = sequence
        return True

    def text(self, event: TextDelta) -> bytes:
        return self._delta(self._parts[event.index], event.text)

    def _write(self, event: StreamEvent) -> bytes:
        if isinstance(event, TextDelta | ThinkingDelta):
            return self._delta(self._parts[event.index], event.text)
        match event:
            case ArgumentsDelta(index, arguments):
                return self._delta(self._parts[index], arguments)
            case PartStarted():
                return self._part(event)
            case PartEnded(index=index):
                return self._part_ended(self._parts[index])
            case SignatureDelta(index, signature):
                self._parts[index].signature = signature
                return b""
            case CitationDelta(index, citation):
                self._parts[index].citations.append(citation)
                return b""
            case Started():
                return self._started(event)
            case Ended():
                return self._ended(event)
            case StreamError(error=error):
                return self._failed(error)

    def _event(self, name: str, fields: Json) -> bytes:
        self._sequence += 1
        body = _encode({"type": name, "sequence_number": self._sequence, **fields})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), body)

    def _started(self, event: Started) -> bytes:
        created = event.created if event.created is not None else self._asked.now
        self._response = write_response(event.id, event.model, created, self._asked)
        fields: Json = {"response": self._response}
        return self._event("response.created", fields) + self._event("response.in_progress", fields)

    def _delta(self, part: _Part, text: str) -> bytes:
        before = b"" if part.told else self._summary_begins(part)
        part.pieces.append(text)
        self._sequence += 1
        return b'%b%b%d,"delta":%b%b' % (before, part.head, self._sequence, _encode(text), part.tail)

    def _part(self, event: PartStarted) -> bytes:
        out = [self._part_ended(part) for part in self._parts.values() if not part.over]
        if not self._items or self._items[-1].kind != "message" or item_type(event.part) != "message":
            out.append(self._item_begins(event.part))
        item = self._items[-1]
        part = self._parts[event.index] = _PARTS[type(event.part)](item, len(self._items) - 1, event.part)
        item.parts.append(part)
        self._refused = self._refused or isinstance(event.part, Refusal)
        if item.kind == "message":
            empty = Text(text="") if isinstance(event.part, Text) else Refusal(text="")
            out.append(self._event("response.content_part.added", {**part.place, "part": write_content(empty)}))
        text = _text(event.part)
        if text:
            out.append(self._delta(part, text))
        return b"".join(out)

    def _item_begins(self, part: ItemPart) -> bytes:
        out = self._item_ends()
        kind = item_type(part)
        index = len(self._items)
        item = _Item(id=self._ids.of(part, index), kind=kind, parts=[])
        self._items.append(item)
        shape = {"id": item.id, "status": "in_progress", **_beginning(part)}
        return out + self._event("response.output_item.added", {"output_index": index, "item": shape})

    def _item_ends(self, *, incomplete: bool = False) -> bytes:
        if not self._items:
            return b""
        item = self._items[-1].write(incomplete=incomplete)
        return self._event("response.output_item.done", {"output_index": len(self._items) - 1, "item": item})

    def _summary_begins(self, part: _Part) -> bytes:
        part.told = True
        empty = {"type": "summary_text", "text": ""}
        return self._event("response.reasoning_summary_part.added", {**part.place, "part": empty})

    def _part_ended(self, part: _Part) -> bytes:
        if part.over:
            return b""
        part.over = True
        whole = part.whole()
        match whole:
            case Text(text=text):
                return self._text_ended(part, whole, text)
            case Refusal(text=text):
                done = self._event("response.refusal.done", {**part.place, "refusal": text})
                return done + self._event("response.content_part.done", {**part.place, "part": write_content(whole)})
            case ToolCall(freeform=True, arguments=text):
                return self._event("response.custom_tool_call_input.done", {**part.place, "input": text})
            case ToolCall():
                arguments = whole.arguments or "{}"
                fields = {**part.place, "name": whole.name, "arguments": arguments}
                return self._event("response.function_call_arguments.done", fields)
            case Thinking(text=text) if part.told:
                done = self._event("response.reasoning_summary_text.done", {**part.place, "text": text})
                summary = {"type": "summary_text", "text": text}
                return done + self._event("response.reasoning_summary_part.done", {**part.place, "part": summary})
            case _:
                return b""

    def _text_ended(self, part: _Part, whole: Text, text: str) -> bytes:
        out = [
            self._event(
                "response.output_text.annotation.added",
                {**part.place, "annotation_index": number, "annotation": annotation},
            )
            for number, annotation in enumerate(write_annotations(whole))
        ]
        out.append(self._event("response.output_text.done", {**part.place, "text": text, "logprobs": []}))
        out.append(self._event("response.content_part.done", {**part.place, "part": write_content(whole)}))
        return b"".join(out)

    def _ended(self, event: Ended) -> bytes:
        reason = incomplete_reason(event.stop, refused=self._refused)
        cut = reason is not None
        out = [self._part_ended(part) for part in self._parts.values() if not part.over]
        out.append(self._item_ends(incomplete=cut))
        last = len(self._items) - 1
        output = [item.write(incomplete=cut and index == last) for index, item in enumerate(self._items)]
        end_response(self._response, output, reason)
        if event.usage is not None:
            self._response["usage"] = write_usage(event.usage)
        out.append(self._event(f"response.{self._response['status']}", {"response": self._response}))
        return b"".join(out)

    def _failed(self, error: ErrorReport) -> bytes:
        """The error, and the response as far as it came: programs wait for the one or for the other."""
        self._sequence += 1
        out = write_stream_error(error, self._sequence)
        if not self._response:
            return out
        code = error.code or _FAILURE_CODES.get(error.kind, _OTHER_FAILURE)
        self._response["status"] = "failed"
        self._response["error"] = {"code": code, "message": error.message}
        self._response["output"] = [item.write(incomplete=item is self._items[-1]) for item in self._items]
        return out + self._event("response.failed", {"response": self._response})


def _text(part: ItemPart) -> str:
    """What a part has already when it begins."""
    match part:
        case Text(text=text) | Refusal(text=text) | Thinking(text=text) | ToolCall(arguments=text):
            return text
        case RedactedThinking():
            return ""


def _beginning(part: ItemPart) -> Json:
    """What an item says when it begins, without id and status."""
    match part:
        case Text() | Refusal():
            return {"type": "message", "role": "assistant", "content": []}
        case ToolCall(freeform=freeform):
            return {**write_call(part), "input" if freeform else "arguments": ""}
        case Thinking() | RedactedThinking():
            return {"type": "reasoning", "summary": [], "encrypted_content": seal(part)}


def _streamed(name: str, part: ItemPart, place: Json, tail: bytes = b"") -> _Part:
    """A part whose deltas are events of this name."""
    kind = f"response.{name}.delta"
    known = _encode({"type": kind, **place})
    return _Part(
        part=part,
        place=place,
        head=b'event: %b\ndata: %b,"sequence_number":' % (kind.encode(), known[:-1]),
        tail=tail + b"}\n\n",
        pieces=[],
        signature=part.signature if isinstance(part, Thinking) else None,
        citations=list(part.citations) if isinstance(part, Text) else [],
    )


def _of_text(item: _Item, index: int, part: ItemPart) -> _Part:
    place = {"item_id": item.id, "output_index": index, "content_index": len(item.parts)}
    return _streamed("output_text", part, place, b',"logprobs":[]')


def _of_refusal(item: _Item, index: int, part: ItemPart) -> _Part:
    place = {"item_id": item.id, "output_index": index, "content_index": len(item.parts)}
    return _streamed("refusal", part, place)


def _of_call(item: _Item, index: int, part: ItemPart) -> _Part:
    name = "custom_tool_call_input" if item.kind == "custom_tool_call" else "function_call_arguments"
    return _streamed(name, part, {"item_id": item.id, "output_index": index})


def _of_thinking(item: _Item, index: int, part: ItemPart) -> _Part:
    place = {"item_id": item.id, "output_index": index, "summary_index": 0}
    found = _streamed("reasoning_summary_text", part, place)
    found.told = False
    return found


_PARTS: Final[dict[type[Any], Callable[[_Item, int, ItemPart], _Part]]] = {
    Text: _of_text,
    Refusal: _of_refusal,
    ToolCall: _of_call,
    Thinking: _of_thinking,
    RedactedThinking: _of_thinking,
}
