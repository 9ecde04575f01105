"""Infinity's line protocol on the wire: one request a connection, answered by lines.

`"ListModels"` is answered by `{"Models": [...]}`, `{"InvokeModel": {"model_id", "request"}}` by `"InvokeStarted"`,
chunks and `"StreamEnd"`; either by `{"Error": ...}`. What requests and chunks hold is in `dialects.infinity_write` and
`dialects.infinity_stream`, with their source. Closing the connection cancels.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from ..classify import classify, mask
from ..dialects.dialect import MalformedEvent
from ..dialects.infinity_stream import STATUS_OF_CLASS, error_text, item_of, usage_of
from ..interface import Usage
from .link import Link
from .messages import Model

LIST_MODELS: Final = b'"ListModels"\n'
CONTENT_TYPE: Final = b"application/x-ndjson"
_CONTENT: Final = frozenset({"Message", "Text", "ToolCall", "ToolCallDelta", "Reasoning", "ReasoningDelta"})
_DELTAS: Final = frozenset({"Message", "Text", "ReasoningDelta"})
# What errors without a class say, in the words of rig, the AWS SDK and the APIs behind them.
_WORDS: Final = (
    (re.compile(r"throttl|too many requests|rate.?limit|quota|please wait before trying", re.IGNORECASE), "Throttled"),
    (
        re.compile(r"too long|exceed.{0,40}context|context.{0,40}exceed|maximum context|input length", re.IGNORECASE),
        "ContextOverflow",
    ),
    (re.compile(r"access ?denied|credential|unauthori[sz]ed|expired ?token|security token", re.IGNORECASE), "Denied"),
    (re.compile(r"validation|invalid request|bad request|malformed input", re.IGNORECASE), "Fatal"),
)
_STATUS: Final = {**STATUS_OF_CLASS, "Denied": 403}
_CODES: Final = {"ContextOverflow": "context_length_exceeded", "Throttled": "rate_limited"}


class _Entry(msgspec.Struct):
    """`ModelEntry`."""

    model_id: str
    display_name: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    supports_image_input: bool = False


class _Models(msgspec.Struct):
    Models: list[_Entry]


_models: Final = msgspec.json.Decoder(_Models)


def read_models(line: bytes) -> tuple[Model, ...]:
    """The answer to `"ListModels"`. Raises UpstreamFailure for an `Error`, what msgspec does for anything else."""
    if line.startswith(b'{"Error"'):
        raise failure_of(item_of(line)[1])
    return tuple(
        Model(
            id=entry.model_id,
            name=entry.display_name,
            context_window=entry.context_window,
            max_output_tokens=entry.max_output_tokens,
            images=entry.supports_image_input,
        )
        for entry in _models.decode(line).Models
    )


def invoke_line(model: str, request: bytes) -> bytes:
    """`request` is JSON on one line."""
    return b'{"InvokeModel":{"model_id":%b,"request":%b}}\n' % (msgspec.json.encode(model), request)


def failure_of(held: object, *, secrets: tuple[str, ...] = ()) -> UpstreamFailure:
    """What an `Error` is. The earlier generation gives a text only, so its words have to do."""
    message, class_ = error_text(held)
    if not class_ or class_ == "Fatal":
        class_ = next((name for pattern, name in _WORDS if pattern.search(message)), class_)
    status = _STATUS.get(class_, 500)
    error = {"message": message, "type": "provider_error", "param": None, "code": _CODES.get(class_)}
    body = mask(msgspec.json.encode({"error": error}), secrets)
    return classify(status, {b"content-type": b"application/json"}.get, body, now=0.0, secrets=secrets)


class InfinityStream:
    """The `Stream` of an answer as it came: whole lines. See `interface.Stream`; `link` is the connection's own."""

    content_type = CONTENT_TYPE
    dropped: tuple[str, ...] = ()
    malformed_events = 0  # whoever reads the lines finds out

    def __init__(self, link: Link, *, secrets: tuple[str, ...]) -> None:
        """Owns `link` from now on."""
        self._link: Link | None = link
        self._secrets = secrets
        self._lines: list[bytes] = []
        self._ended: bool = False
        self._error: Any = None
        self.has_content = False
        self.estimated_tokens = 0
        self.usage: Usage | None = None

    async def begin(self) -> None:
        """Return when the request was taken. Raises Gone, UpstreamFailure."""
        link = self._held()
        try:
            lines = await link.receive()
            kind, held = _item(link, lines[0])
            if kind == "Error":
                raise failure_of(held, secrets=self._secrets)
            if kind != "InvokeStarted":
                raise link.malformed(f"answered InvokeModel with {kind[:64]!r} in place of 'InvokeStarted'")
        except BaseException:
            self.close()
            raise
        self._lines = lines[1:]

    async def receive(self) -> bytes | None:
        while not self._ended:
            link = self._held()
            try:
                lines, self._lines = self._lines or await link.receive(), []
                for line in lines:
                    self._note(*_item(link, line))
            except BaseException:  # cancellation too: what was received is lost, so is the connection
                self.close()
                raise
            return b"".join([line + b"\n" for line in lines])
        return None

    def _note(self, kind: str, held: object) -> None:
        if kind in _CONTENT:
            self.has_content = True
            self.estimated_tokens += kind in _DELTAS
        elif kind == "Final":
            self.usage = usage_of(held) or self.usage
            self.has_content, self._error = True, None
        elif kind == "Error":
            self._error = held
        elif kind == "StreamEnd":
            self._end()

    def _end(self) -> None:
        """An error that nothing came after is what the answer ended with."""
        self._ended = True
        self.close()
        if self._error is None and self.has_content:
            return
        if self._error is None:
            raise UpstreamFailure(FailureKind.BROKEN, "ended its stream without any content")
        failure = failure_of(self._error, secrets=self._secrets)
        if self.has_content:
            failure.kind = FailureKind.BROKEN
        raise failure

    def last_words(self) -> None:
        """Only the end says that an answer is whole."""

    def _held(self) -> Link:
        if self._link is None:
            raise UpstreamFailure(FailureKind.BROKEN, "the connection was closed")
        return self._link

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _item(link: Link, line: bytes) -> tuple[str, Any]:
    try:
        return item_of(line)
    except MalformedEvent as error:
        raise link.malformed(error.message) from None
