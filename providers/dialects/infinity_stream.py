"""Answers in the words of Infinity's line protocol, read. Shapes: see `infinity_write`, and `remote.rs` beside those.

Two generations are read. In the earlier one a chunk is the item itself (`{"Message": ...}`), in the later one a result
(`{"Ok": {"Text": ...}}`, `{"Err": {"message", "class"}}`). Completed `ToolCall` and `Reasoning` items are what counts;
deltas are for display. So a call begins with its first delta and its arguments come with the completed item; thinking
goes on as it comes, and gets its signature from the completed item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import attrs
import msgspec

from ..interface import Usage
from ..sse import Event
from .dialect import MalformedEvent, kind_of_status, new_id
from .in_order import InOrder
from .neutral import (
    ErrorReport,
    RedactedThinking,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from .neutral_events import (
    ArgumentsDelta,
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
END: Final = "StreamEnd"
_BROKEN_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class LineDecoder:
    """The `EventDecoder`: an event is a line."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Event]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [Event("message", line) for line in lines if line]

    def flush(self) -> list[Event]:
        rest, self._rest = self._rest, b""
        return [Event("message", rest)] if rest else []


def item_of(line: bytes) -> tuple[str, Any]:
    """The kind of a line's item and what it holds; an error is `Error`, the end `StreamEnd`. Raises MalformedEvent."""
    try:
        value: object = msgspec.json.decode(line)
    except _BROKEN_JSON as error:
        raise MalformedEvent(f"sent a line that is no JSON: {error}") from None
    name, held = _only(value)
    if name == "Chunk":
        name, held = _only(held)
    if name == "Ok":
        name, held = _only(held)
    return ("Error", held) if name == "Err" else (name, held)


def _only(value: object) -> tuple[str, Any]:
    """The variant of an enum as serde writes it: a string, or an object of one member."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict) and len(cast("Json", value)) == 1:
        return next(iter(cast("Json", value).items()))
    raise MalformedEvent("sent a line that is no answer of Infinity's line protocol")


def error_text(held: object) -> tuple[str, str]:
    """The message and the class of an error; the earlier generation has no class."""
    if isinstance(held, dict):
        fields = cast("Json", held)
        return str(fields.get("message", "")), str(fields.get("class", ""))
    return str(held), ""


def usage_of(held: object) -> Usage | None:
    """The usage of `Final`. `input_tokens` may leave out the cached ones, which `total_tokens` then shows."""
    usage: object = cast("Json", held).get("usage") if isinstance(held, dict) else None
    if not isinstance(usage, dict):
        return None
    fields = cast("Json", usage)
    given, said, total, cached = (
        _count(fields.get(name)) for name in ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens")
    )
    return Usage(prompt_tokens=max(given, total - said, cached), completion_tokens=said, cached_tokens=cached)


def _count(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0


@attrs.define(eq=False)
class _Call:
    """A tool call that began with a delta."""

    index: int
    name: str


class InfinityReader:
    """The `StreamReader` of an answer of `model`. Raises MalformedEvent."""

    __slots__ = ("_calls", "_error", "_kind", "_model", "_order", "_over", "_parts", "_started", "_thought",
                 "_tools", "_usage")  # fmt: skip

    def __init__(self, model: str) -> None:
        self._model = model
        self._started = self._over = self._tools = False
        self._parts = 0
        self._order = InOrder()
        self._kind: type[Text | Thinking] | None = None  # of the part that is open
        self._thought = ""  # in the open part of thinking
        self._calls: dict[str, _Call] = {}
        self._error: tuple[str, str] | None = None
        self._usage: Usage | None = None

    def feed(self, event: Event) -> Sequence[StreamEvent]:
        if self._over:
            return ()
        said: list[StreamEvent] = []
        self._item(*item_of(event.data), said)
        out: list[StreamEvent] = []
        for found in said:
            if isinstance(found, PartEnded):
                self._order.end(found.index, out)
            elif isinstance(found, Started | Ended | StreamError):
                out.append(found)
            else:
                self._order.add(found, out)
        return out

    def _item(self, kind: str, held: Any, out: list[StreamEvent]) -> None:
        match kind:
            case "Message" | "Text":
                self._text(_string(held), out)
            case "ReasoningDelta":
                self._thinking(_string(_first(held, "reasoning", "text")), out)
            case "Reasoning":
                self._reasoning(held, out)
            case "ToolCallDelta":
                self._call_delta(held, out)
            case "ToolCall":
                self._call(held, out)
            case "Final":
                self._begin(out)
                self._usage = usage_of(held)
                self._error = None  # what comes after an error and is whole was mended
            case "Error":
                self._error = self._error or error_text(held)
            case "StreamEnd":
                self._finish(out)
            case _:
                pass  # `InvokeStarted`, or a kind of item that is newer than this

    def end(self) -> Sequence[StreamEvent]:
        return ()

    def _begin(self, out: list[StreamEvent]) -> None:
        if not self._started:
            self._started = True
            out.append(Started(id=new_id("msg_"), model=self._model))

    def _open(self, part: Text | Thinking | RedactedThinking | ToolCall, out: list[StreamEvent]) -> int:
        self._begin(out)
        index = self._parts
        self._parts += 1
        out.append(PartStarted(index=index, part=part))
        return index

    def _close(self, out: list[StreamEvent]) -> None:
        """The open text or thinking is over. Tool calls end by themselves."""
        if self._kind is not None:
            out.append(PartEnded(index=self._parts - 1))
        self._kind = None
        self._thought = ""

    def _at(self, kind: type[Text | Thinking], out: list[StreamEvent]) -> int:
        """The open part of this kind. One that tool calls began after is not gone on with: parts are in order."""
        if self._kind is not kind:
            self._close(out)
            self._open(kind(text=""), out)
            self._kind = kind
        return self._parts - 1

    def _text(self, text: str, out: list[StreamEvent]) -> None:
        if text:
            out.append(TextDelta(self._at(Text, out), text))

    def _thinking(self, text: str, out: list[StreamEvent]) -> None:
        if text:
            out.append(ThinkingDelta(self._at(Thinking, out), text))
            self._thought += text

    def _reasoning(self, held: object, out: list[StreamEvent]) -> None:
        """A completed block: `content` is a piece of it, or all of them."""
        content: object = cast("Json", held).get("content") if isinstance(held, dict) else None
        for piece in cast("list[object]", content) if isinstance(content, list) else [content]:
            fields = cast("Json", piece) if isinstance(piece, dict) else {}
            inner: object = fields.get("content")
            match fields.get("type"):
                case "text":
                    said = cast("Json", inner) if isinstance(inner, dict) else {}
                    self._whole_thinking(_string(said.get("text", "")), said.get("signature"), out)
                case "summary":
                    self._whole_thinking(_string(inner), None, out)
                case "redacted" if isinstance(inner, dict):
                    self._close(out)
                    data = _string(cast("Json", inner).get("data", ""))
                    out.append(PartEnded(index=self._open(RedactedThinking(data=data), out)))
                case _:
                    pass  # encrypted for another kind of provider

    def _whole_thinking(self, text: str, signature: object, out: list[StreamEvent]) -> None:
        """What was said of it by deltas is not said again; where that was something else, the whole follows it."""
        if self._kind is not Thinking or not text.startswith(self._thought):
            self._close(out)
        self._thinking(text[len(self._thought) :], out)
        if isinstance(signature, str):
            out.append(SignatureDelta(self._at(Thinking, out), signature))
        self._close(out)

    def _call_delta(self, held: object, out: list[StreamEvent]) -> None:
        fields = _fields(held)
        name, text = _only(fields.get("content"))
        key = _key(fields)
        call = self._calls.get(key)
        if call is None and name == "Name":
            self._start_call(key, fields, _string(text), out)
        elif call is not None:
            out.append(ArgumentsDelta(call.index, ""))  # so that those who wait see that it goes on

    def _start_call(self, key: str, fields: Mapping[str, Any], name: str, out: list[StreamEvent]) -> _Call:
        self._close(out)
        self._tools = True
        index = self._open(ToolCall(id=_string(fields.get("id")) or new_id("call_"), name=name), out)
        call = self._calls[key] = _Call(index, name)
        return call

    def _call(self, held: object, out: list[StreamEvent]) -> None:
        fields = _fields(held)
        function = _fields(fields["function"]) if "function" in fields else fields
        name, arguments = _string(function.get("name")), function.get("arguments")
        key = _key(fields)
        call = self._calls.get(key) or self._start_call(key, fields, name, out)
        if call.name != name:
            raise MalformedEvent(f"completed a call of {name[:64]!r} that began as one of {call.name[:64]!r}")
        del self._calls[key]
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        out.append(ArgumentsDelta(call.index, "{}" if text in ("", "null") else text))
        out.append(PartEnded(index=call.index))

    def _finish(self, out: list[StreamEvent]) -> None:
        self._over = True
        if self._error is None and self._calls:
            self._error = "ended its stream before a tool call that it began was complete", ""
        if self._error is not None:
            message, class_ = self._error
            status = STATUS_OF_CLASS.get(class_, 500)
            out.append(StreamError(error=ErrorReport(kind=kind_of_status(status), status=status, message=message)))
            return
        if not self._started:
            return  # an end without a beginning is none
        self._close(out)
        out.append(Ended(stop=StopReason.TOOL_USE if self._tools else StopReason.END, usage=self._usage))


STATUS_OF_CLASS: Final = {"Transient": 503, "Throttled": 429, "ContextOverflow": 400, "Fatal": 400}
"""`completion::ErrorClass` of the later generation."""


def _fields(held: object) -> Json:
    if not isinstance(held, dict):
        raise MalformedEvent("sent an item that is no object")
    return cast("Json", held)


def _first(held: object, *names: str) -> object:
    fields = _fields(held)
    return next((fields[name] for name in names if name in fields), "")


def _key(fields: Mapping[str, Any]) -> str:
    """What tells one call from another; ids of providers may repeat, the internal one is made by the runtime."""
    return _string(fields.get("internal_call_id") or fields.get("id"))


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
