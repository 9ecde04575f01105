"""Translation, for each pair of dialects: a request on its way there, and a text event of a stream on its way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle
from typing import Final

import msgspec

from infermux.bench.callers import CHAT, MESSAGES, RESPONSES, Caller
from infermux.providers.dialects import anthropic_messages, bedrock_converse, infinity, openai_chat
from infermux.providers.dialects.dialect import ProviderDialect, Target
from infermux.providers.eventstream import event
from infermux.providers.interface import Endpoint, Usage
from infermux.providers.translate import DIALECTS, translate

from .bodies import WORDS, chat_events
from .case import Act, Case, plain
from .driving import at_once

_CALLERS: Final[dict[Endpoint, Caller]] = {
    Endpoint.CHAT: CHAT,
    Endpoint.MESSAGES: MESSAGES,
    Endpoint.RESPONSES: RESPONSES,
}


class _Events:
    """A provider's stream: what it begins with, then text without end."""

    content_type = b"text/event-stream"
    has_content = True
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()
    estimated_tokens = malformed_events = 0

    def __init__(self, first: Sequence[bytes], texts: Sequence[bytes]) -> None:
        self._reads = chain(first, cycle(texts))

    def last_words(self) -> bytes | None:
        return None

    async def receive(self) -> bytes | None:
        return next(self._reads)

    def close(self) -> None:
        pass


def _chat() -> _Events:
    return _Events((), chat_events(20))


def _messages() -> _Events:
    def named(name: str, **fields: object) -> bytes:
        data = msgspec.json.encode({"type": name, **fields})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    message: dict[str, object] = {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
    }
    first = named("message_start", message={**message, "usage": {"input_tokens": 350, "output_tokens": 1}})
    block = named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    texts = [named("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in WORDS]
    return _Events((first, block), texts)


def _converse() -> _Events:
    first = event("messageStart", b'{"role":"assistant"}')
    texts = [
        event(
            "contentBlockDelta",
            msgspec.json.encode({"contentBlockIndex": 0, "delta": {"text": word}, "p": "abcdefghijkl"[: at + 2]}),
        )
        for at, word in enumerate(WORDS)
    ]
    return _Events((first,), texts)


def _lines() -> _Events:
    return _Events((), [msgspec.json.encode({"Chunk": {"Ok": {"Text": word}}}) + b"\n" for word in WORDS])


_PROVIDERS: Final[Sequence[tuple[ProviderDialect, str, Callable[[], _Events]]]] = (
    (openai_chat.DIALECT, "gpt-4o", _chat),
    (anthropic_messages.DIALECT, "claude-sonnet-4-5", _messages),
    (bedrock_converse.DIALECT, "eu.anthropic.claude-haiku-4-5-20251001-v1:0", _converse),
    (infinity.Infinity("claude"), "claude", _lines),
)


def _cases() -> Iterator[Case]:
    for endpoint, caller in _CALLERS.items():
        for provider, model, events in _PROVIDERS:
            if DIALECTS[endpoint] is not provider:
                target, body = Target(model=model), caller.body(stream=True, prompt_bytes=1500)
                pair = f"{caller.name} to {provider.name}"
                yield plain(f"translate request, {pair}", _request(endpoint, provider, target, body))
                yield plain(f"translate event, {pair}", _event(endpoint, provider, target, body, events))


def _request(endpoint: Endpoint, provider: ProviderDialect, target: Target, body: bytes) -> Callable[[], Act]:
    caller = DIALECTS[endpoint]
    return lambda: lambda: translate(body, caller=caller, provider=provider, target=target).body


def _event(
    endpoint: Endpoint, provider: ProviderDialect, target: Target, body: bytes, events: Callable[[], _Events]
) -> Callable[[], Act]:
    def make() -> Act:
        translation = translate(body, caller=DIALECTS[endpoint], provider=provider, target=target)
        stream = translation.stream(events())
        for _ in range(5):
            assert at_once(stream.receive())
        return lambda: at_once(stream.receive())

    return make


CASES: Final = tuple(_cases())
