"""What is read of bodies and streams: peeks, server-sent events, the scan of a stream that passes through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Final

from infermux.bench.callers import MODEL
from infermux.providers.chat_stream import ChatStream
from infermux.providers.interface import Call, Endpoint
from infermux.providers.openai_bodies import prepare_body
from infermux.providers.peek import peek_chat, prompt_tokens
from infermux.providers.peek_endpoints import message_tokens, peek_message, peek_response
from infermux.providers.sse import EventSplitter, SseParser

from .case import Act, Case, plain
from .driving import at_once

_TURN: Final = 2000  # bytes of text in a message: a conversation grows by messages, not by one ever longer text
_SENTENCE: Final = 'She said: "What the fox wants from the dog, nobody knows.\nNot even the dog." '
WORDS: Final = (" The", " quick", " brown", " fox", ",", " jumps", " café", " over", " lazy", " dogs")
SIZES: Final = {"10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000}


def conversation(size: int, member: str = "messages", **more: object) -> bytes:
    """A request of about `size` bytes: turns of user and assistant, in the list `member`."""
    text = (_SENTENCE * (_TURN // len(_SENTENCE) + 1))[: min(_TURN, size)]
    turns = [{"role": ("user", "assistant")[at % 2], "content": text} for at in range(max(1, size // (_TURN + 50)))]
    turns.append({"role": "user", "content": "And what does the dog want?"})
    return json.dumps({"model": MODEL, "max_tokens": 256, "temperature": 0.7, **more, member: turns}).encode()


def chat_events(count: int) -> list[bytes]:
    """Events of a chat stream in the middle of its text, as OpenAI sends them."""
    return [
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"%b","choices":'
        b'[{"index":0,"delta":{"content":"%b"},"finish_reason":null}],"usage":null,"obfuscation":"%b"}\n\n'
        % (MODEL.encode(), word.encode(), b"aB3xYz12Q"[: 2 + at % 7])
        for at, word in zip(range(count), cycle(WORDS), strict=False)
    ]


class Endless:
    """A response of which another read of `reads` is always there."""

    status = 200
    headers = ((b"content-type", b"text/event-stream"),)
    content_type = b"text/event-stream"
    framed = True

    def __init__(self, reads: list[bytes]) -> None:
        self._reads: Iterator[bytes] = cycle(reads)

    def get(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    async def read(self, limit: int = 0) -> bytes:
        del limit
        return b""

    async def receive(self) -> bytes | None:
        return next(self._reads)

    def close(self) -> None:
        pass


def _peeks() -> Iterator[Case]:
    shapes: dict[str, tuple[str, Callable[[bytes], object], Callable[[bytes], int]]] = {
        "chat": ("messages", peek_chat, prompt_tokens),
        "messages": ("messages", peek_message, message_tokens),
        "responses": ("input", peek_response, prompt_tokens),
    }
    for name, (member, peek, tokens) in shapes.items():
        for said, size in SIZES.items():
            yield plain(f"peek, {name}, {said}", _peek(peek, tokens, conversation(size, member)))


def _peek(peek: Callable[[bytes], object], tokens: Callable[[bytes], int], body: bytes) -> Callable[[], Act]:
    def act() -> None:
        peek(body)
        tokens(body)

    return lambda: act


def _splitting(reads: int) -> Callable[[], Act]:
    """Reads of so many events each."""
    data = cycle([b"".join(chat_events(100)[at : at + reads]) for at in range(0, 90, reads)])
    feed = EventSplitter().feed
    return lambda: lambda: feed(next(data))


def _parsing() -> Act:
    data, feed = cycle(chat_events(20)), SseParser().feed
    return lambda: feed(next(data))


def _passing() -> Act:
    """What a stream that is passed through does with a read of one event."""
    stream = ChatStream(Endless(chat_events(20)), asked_usage=True)
    return lambda: at_once(stream.receive())


def _preparing() -> Act:
    """The body of a stream for a provider that calls the model otherwise: its model and its options are spliced."""
    body = conversation(1500, stream=True)
    call = Call(endpoint=Endpoint.CHAT, body=body, model="other", requested_model=MODEL, stream=True)
    return lambda: prepare_body(call, {}, ask_usage=True)


CASES: Final = (
    *_peeks(),
    plain("SSE, read of 1 event split", _splitting(1)),
    plain("SSE, read of 10 events split", _splitting(10), per=10),
    plain("SSE, event parsed", _parsing),
    plain("stream passed through, event", _passing),
    plain("body of a stream spliced, 1.5 KB", _preparing),
)
