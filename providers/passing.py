"""Answers that go on as they came, whatever they are: pictures, speech, transcripts, scores."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from .chat_stream import usage_of
from .interface import Answer, Endpoint, Stream, Usage
from .responses_stream import response_usage
from .transport import Response

PASSED: Final = frozenset({Endpoint.IMAGES, Endpoint.AUDIO, Endpoint.MODERATIONS, Endpoint.RERANK})
WHOLE: Final = 1024 * 1024
"""Bytes of JSON up to which an answer is read whole: until then another provider can still take its place."""


class _Body(msgspec.Struct):
    usage: Any = None


_bodies: Final = msgspec.json.Decoder(_Body)


async def passed(response: Response) -> Answer | Stream:
    """The answer in `response`, a 2xx: whole where it is JSON and not large, else as a stream. Owns `response`."""
    kind = response.content_type.partition(b";")[0].strip().lower()
    held: list[bytes] = []
    try:
        size = 0
        while kind == b"application/json" or kind.endswith(b"+json") or not size:
            data = await response.receive()
            if data is None:
                body = b"".join(held)
                response.close()
                return Answer(response.status, response.content_type, body, passed_usage(body))
            held.append(data)
            size += len(data)
            if size > WHOLE:
                break
    except BaseException:
        response.close()
        raise
    return PassedStream(response, b"".join(held))


def passed_usage(body: bytes) -> Usage | None:
    """The usage in an answer, in the words of either of OpenAI's APIs; None where there is none."""
    try:
        usage: object = _bodies.decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(usage, dict):
        return None
    fields = cast("dict[str, object]", usage)
    return response_usage(fields) if "input_tokens" in fields else usage_of(fields)


class PassedStream:
    """The `Stream` of bytes that nobody looks into: its end is that of the framing, its content begins at once."""

    __slots__ = ("_first", "_response", "content_type", "dropped", "estimated_tokens", "has_content", "usage")

    def __init__(self, response: Response, first: bytes) -> None:
        """Owns `response` from now on; `first` was read of it already."""
        self._response = response
        self._first = first
        self.content_type = response.content_type or b"application/octet-stream"
        self.dropped: tuple[str, ...] = ()
        self.has_content = bool(first)
        self.usage: Usage | None = None
        self.estimated_tokens = 0

    malformed_events = 0

    async def receive(self) -> bytes | None:
        if self._first:
            first, self._first = self._first, b""
            return first
        data = await self._response.receive()
        self.has_content = True
        return data

    def last_words(self) -> None:
        """Nobody knows what is missing."""

    def close(self) -> None:
        self._response.close()
