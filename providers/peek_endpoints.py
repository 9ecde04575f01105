"""What the router must know of a request's body, for every endpoint but chat completions (`peek`).

Fields and types are those of the SDKs: `openai.types.completion_create_params`, `openai.types.embedding_create_params`,
`openai.types.responses.response_create_params`, `anthropic.types.message_create_params` and
`message_count_tokens_params`. What the router has no use for is left to the provider to judge. Where a field may have
many shapes only its first byte is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from infermux.errors import InvalidRequest

from .interface import Endpoint
from .peek import (
    LONGEST_MODEL,
    PREFIX_BYTES,
    TOKENS_PER_FILE,
    Message,
    Number,
    Preferences,
    StreamOptions,
    conversation_prefix,
    decode_body,
    long_model,
    no_messages,
    peek_chat,
    prompt_tokens,
    tokens_bound,
)


class Peek(Protocol):
    """What every endpoint's peek tells. `completion_bound`: tokens the answer may have at most, None without a bound.

    `asked_usage`: the caller gets the usage its stream carries; False: it is hidden from it.
    """

    @property
    def model(self) -> str | None: ...
    @property
    def stream(self) -> bool | None: ...
    @property
    def provider(self) -> Preferences | None: ...
    @property
    def completion_bound(self) -> int | None: ...
    @property
    def asked_usage(self) -> bool: ...


_NOTHING: Final = msgspec.Raw(b"null")


class CompletionPeek(msgspec.Struct, frozen=True):
    """A legacy completion. No prompt is allowed: some servers take `prompt_embeds` in its place."""

    prompt: msgspec.Raw = _NOTHING
    model: str | None = None
    stream: bool | None = None
    max_tokens: Number | None = None
    n: Number | None = None
    best_of: Number | None = None
    stream_options: StreamOptions | None = None
    provider: Preferences | None = None

    @property
    def completion_bound(self) -> int | None:
        return tokens_bound(self.max_tokens, self.n, self.best_of)

    @property
    def asked_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class EmbeddingPeek(msgspec.Struct, frozen=True):
    """An embeddings request: texts, or tokens."""

    input: msgspec.Raw
    model: str | None = None
    dimensions: Number | None = None
    encoding_format: str | None = None
    provider: Preferences | None = None
    stream: bool | None = None

    completion_bound = 0
    asked_usage = True


class ResponsePeek(msgspec.Struct, frozen=True):
    """A response. `input` may be missing: a stored prompt or the response before can stand for it."""

    model: str | None = None
    input: msgspec.Raw = _NOTHING
    stream: bool | None = None
    max_output_tokens: Number | None = None
    previous_response_id: str | None = None
    store: msgspec.Raw = _NOTHING
    conversation: msgspec.Raw = _NOTHING
    background: msgspec.Raw = _NOTHING
    provider: Preferences | None = None

    asked_usage = True  # it is part of `response.completed`

    @property
    def is_stored(self) -> bool:
        """Whether the provider is to keep the response, which it does unless it is told not to."""
        return bytes(self.store) != b"false"

    @property
    def is_stateful(self) -> bool:
        """Whether it leaves something at the provider, or goes on from what is there."""
        said = bytes(self.background)
        return (
            self.is_stored
            or self.previous_response_id is not None
            or bytes(self.conversation) != b"null"
            or said not in (b"null", b"false")
        )

    @property
    def completion_bound(self) -> int | None:
        return tokens_bound(self.max_output_tokens)


class MessagesPeek(msgspec.Struct, frozen=True):
    """A request for a message. Whether `max_tokens` must be there is the provider's to say."""

    messages: list[Message]
    model: str | None = None
    stream: bool | None = None
    max_tokens: Number | None = None
    provider: Preferences | None = None

    asked_usage = True  # it is part of `message_start` and `message_delta`

    @property
    def completion_bound(self) -> int | None:
        return tokens_bound(self.max_tokens)


class CountPeek(msgspec.Struct, frozen=True):
    """A request to count the tokens of a prompt."""

    messages: list[Message]
    model: str | None = None
    provider: Preferences | None = None

    stream = False
    completion_bound = 0
    asked_usage = True


class PassedPeek(msgspec.Struct, frozen=True):
    """What is passed on as it came: only the model matters."""

    model: str | None = None
    stream: bool | None = None
    provider: Preferences | None = None

    completion_bound = 0
    asked_usage = True


_passed: Final = msgspec.json.Decoder(PassedPeek)
_completion: Final = msgspec.json.Decoder(CompletionPeek)
_embedding: Final = msgspec.json.Decoder(EmbeddingPeek)
_response: Final = msgspec.json.Decoder(ResponsePeek)
_message: Final = msgspec.json.Decoder(MessagesPeek)
_count: Final = msgspec.json.Decoder(CountPeek)
_DATA: Final = re.compile(rb'"data"\s*:\s*"[A-Za-z0-9+/=_-]{64,}+"')
_any: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def peek_completion(body: bytes) -> CompletionPeek:
    """Raises InvalidRequest, whose `param` names the field, as all of these do."""
    peek: CompletionPeek = decode_body(_completion, body)
    _check_model(peek)
    _check_first(peek.prompt, b'"[n', "prompt", "a string, or an array of strings or tokens")
    return peek


def peek_embedding(body: bytes) -> EmbeddingPeek:
    peek: EmbeddingPeek = decode_body(_embedding, body)
    _check_model(peek)
    text = _check_first(peek.input, b'"[', "input", "a string, or an array of strings or tokens")
    if text in (b'""', b"[]"):
        raise InvalidRequest("input must not be empty", param="input")
    if peek.dimensions is not None and peek.dimensions < 1:
        raise InvalidRequest("dimensions must be 1 or more", param="dimensions")
    if peek.stream:
        raise InvalidRequest("embeddings cannot be streamed", param="stream")
    return peek


def peek_response(body: bytes) -> ResponsePeek:
    peek: ResponsePeek = decode_body(_response, body)
    _check_model(peek)
    _check_first(peek.input, b'"[n', "input", "a string or an array of items")
    return peek


def peek_message(body: bytes) -> MessagesPeek:
    peek: MessagesPeek = decode_body(_message, body)
    _check_messages(peek)
    return peek


def peek_count(body: bytes) -> CountPeek:
    peek: CountPeek = decode_body(_count, body)
    _check_messages(peek)
    return peek


def peek_passed(body: bytes) -> PassedPeek:
    peek: PassedPeek = decode_body(_passed, body)
    _check_model(peek)
    return peek


PEEKS: Final[Mapping[Endpoint, Callable[[bytes], Peek]]] = {
    Endpoint.CHAT: peek_chat,
    Endpoint.COMPLETIONS: peek_completion,
    Endpoint.EMBEDDINGS: peek_embedding,
    Endpoint.RESPONSES: peek_response,
    Endpoint.MESSAGES: peek_message,
    Endpoint.COUNT_TOKENS: peek_count,
}


def estimated_prompt(peek: Peek, body: bytes) -> int:
    """Tokens of the prompt: counted where it came as tokens, else the body's bytes at four a token."""
    prompt = peek.input if isinstance(peek, EmbeddingPeek) else getattr(peek, "prompt", b"")
    text = bytes(prompt)
    if text.startswith(b"[") and b'"' not in text:
        return text.count(b",") + 1
    return message_tokens(body)


def message_tokens(body: bytes) -> int:
    """As `prompt_tokens`, for files as Anthropic's API has them: base64 in a member of its own."""
    if b'"base64"' not in body:
        return prompt_tokens(body)
    files = sum(1 for _ in _DATA.finditer(body))
    return prompt_tokens(_DATA.sub(b"", body)) + files * TOKENS_PER_FILE


# What a conversation begins with, per endpoint: the members whose beginnings are the same while it grows.
_BEGINNINGS: Final[Mapping[Endpoint, tuple[str, ...]]] = {
    Endpoint.COMPLETIONS: ("prompt",),
    Endpoint.EMBEDDINGS: ("input",),
    Endpoint.RESPONSES: ("prompt_cache_key", "instructions", "input"),
    Endpoint.MESSAGES: ("system", "messages"),
    Endpoint.COUNT_TOKENS: ("system", "messages"),
}


def beginning(endpoint: Endpoint, body: bytes) -> bytes:
    """The beginning of a request's conversation, enough to tell conversations apart; b"" where it has none.

    Of a list only the first item counts: the others may not have been there a turn ago. The body is one that was
    peeked at.
    """
    names = _BEGINNINGS.get(endpoint)
    if names is None:
        return conversation_prefix(body)
    members = _any.decode(body)
    found = [_first_item(bytes(members[name]))[:PREFIX_BYTES] for name in names if name in members]
    return b"".join(found)


def _first_item(value: bytes) -> bytes:
    if not value.startswith(b"["):
        return value
    items = msgspec.json.decode(value, type=list[msgspec.Raw])
    return bytes(items[0]) if items else b""


def _check_model(peek: Peek) -> None:
    if peek.model is not None and len(peek.model) > LONGEST_MODEL:
        raise long_model()


def _check_messages(peek: MessagesPeek | CountPeek) -> None:
    if not peek.messages:
        raise no_messages()
    _check_model(peek)


def _check_first(value: msgspec.Raw, allowed: bytes, field: str, what: str) -> bytes:
    text = bytes(value)
    if text[0] not in allowed:
        raise InvalidRequest(f"{field} must be {what}", param=field)
    return text
