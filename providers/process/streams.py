"""Answers that came as chunks: streams for the caller, and whole answers put together of pieces."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, Final

import attrs
import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from ..chat_stream import ChatStream
from ..dialects.dialect import Asked, new_id
from ..dialects.fold import fold
from ..dialects.neutral import Conversation
from ..dialects.neutral_events import StreamError, StreamEvent
from ..dialects.openai_chat import DIALECT
from ..interface import Usage
from ..splice import merge_defaults
from ..sse import Event
from ..transport import BODY_LIMIT, too_large
from .answering import Answering
from .messages import BROKEN_JSON, Tokens

_CHUNK: Final = "chat.completion.chunk"


class _Head(msgspec.Struct):
    """What each chunk of an answer has in common."""

    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None


_heads: Final = msgspec.json.Decoder(_Head)


class ProcessChatStream(ChatStream):
    """A `ChatStream` whose end may say what its chunks have not: why it stopped, and the usage."""

    __slots__ = ("_answering", "_legacy", "_model")

    def __init__(
        self,
        answering: Answering,
        model: str,
        *,
        asked_usage: bool,
        legacy: bool = False,
        secrets: Collection[str] = (),
    ) -> None:
        """Owns `answering` from now on; `legacy`: of completions, not chat."""
        super().__init__(answering, asked_usage=asked_usage, secrets=secrets)
        self._answering = answering
        self._model = model
        self._legacy = legacy
        self.dropped = answering.dropped

    def _end_of_framing(self) -> bytes:
        end, added = self._answering.end, b""
        if end is not None and end.stop_reason and not self._stopped:
            self._stopped = self.has_content = True
            piece: dict[str, Any] = {"text": "", "logprobs": None} if self._legacy else {"delta": {}}
            added += self._event([{"index": 0, **piece, "finish_reason": end.stop_reason}])
        if end is not None and end.usage is not None and self.usage is None:
            self.usage = usage_of(end.usage)
            if self._asked_usage:
                added += self._event([], usage=_with_total(end.usage))
        return added + super()._end_of_framing()

    def _event(self, choices: list[dict[str, Any]], **more: object) -> bytes:
        """A chunk like the others of this answer."""
        try:
            head = _heads.decode(self._answering.first)
        except BROKEN_JSON:  # there were none
            kind, id_ = ("text_completion", "cmpl-") if self._legacy else (_CHUNK, "chatcmpl-")
            head = _Head(id=new_id(id_), object=kind, created=int(time.time()), model=self._model)
        common = {name: value for name, value in msgspec.structs.asdict(head).items() if value is not None}
        return b"data: %b\n\n" % msgspec.json.encode({**common, "choices": choices, **more})


async def whole(answering: Answering, model: str, *, chat: bool) -> bytes:
    """The body of a whole answer. Of chat it may have come as the chunks of a stream.

    An end that says why it stopped is an answer, if an empty one: as it is in a stream. Raises UpstreamFailure,
    MALFORMED for no answer, or more than one.
    """
    found: list[bytes] = []
    size = 0
    while (chunks := await answering.chunks()) is not None:
        found += chunks
        size += sum(map(len, chunks))
        if size > BODY_LIMIT:
            answering.close()
            raise too_large(BODY_LIMIT)
    if len(found) == 1 and not (chat and _is_chunk(found[0])):
        return found[0]
    end = answering.end
    if not (chat and (found or (end is not None and end.stop_reason))):
        message = f"answered a request for a whole answer with {len(found)} chunks, which are not those of a chat"
        raise UpstreamFailure(FailureKind.MALFORMED, message, status=200)
    return _folded(answering, found, model)


def with_usage(body: bytes, tokens: Tokens) -> bytes:
    """`body` with the usage that only the end had."""
    return merge_defaults(body, {"usage": msgspec.json.encode(_with_total(tokens))})


def _with_total(tokens: Tokens) -> Tokens:
    """As `openai.types.CompletionUsage` has it: with the total, which a process may leave out."""
    if tokens.total_tokens is not None:
        return tokens
    return msgspec.structs.replace(tokens, total_tokens=tokens.prompt_tokens + tokens.completion_tokens)


def usage_of(tokens: Tokens) -> Usage:
    read, written = tokens.prompt_tokens_details, tokens.completion_tokens_details
    return Usage(
        prompt_tokens=tokens.prompt_tokens,
        completion_tokens=tokens.completion_tokens,
        cached_tokens=(read.cached_tokens or 0) if read else 0,
        cache_write_tokens=(read.cache_write_tokens or 0) if read else 0,
        reasoning_tokens=(written.reasoning_tokens or 0) if written else 0,
    )


def _is_chunk(data: bytes) -> bool:
    try:
        return bool(_heads.decode(data).object == _CHUNK)
    except BROKEN_JSON:
        return False


def _folded(answering: Answering, chunks: list[bytes], model: str) -> bytes:
    """The first choice of a stream, as the answer it is the pieces of."""
    reader = DIALECT.stream_reader()
    end = answering.end
    if end is not None and end.stop_reason:
        finish: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": end.stop_reason}]}
        chunks = [*chunks, msgspec.json.encode(finish)]
    events: list[StreamEvent] = []
    for chunk in chunks:
        events += reader.feed(Event("message", chunk))
    events += reader.end()
    if events and isinstance(events[-1], StreamError):
        raise UpstreamFailure(FailureKind.MALFORMED, f"answered with an error: {events[-1].error.message}", status=200)
    found = fold(events)
    completion = attrs.evolve(found, id=found.id or new_id("chatcmpl-"), model=found.model or model)
    return DIALECT.write_answer(completion, Asked(conversation=Conversation(model=model, turns=())))
