"""What the router must know of a request's body, read without building the body.

The fields and their types are those of the chat completions API (`openai.types.chat.completion_create_params`);
everything else in the body is left as it is, for the provider to judge. The other endpoints are in `peek_endpoints`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from infermux.errors import InvalidRequest

PREFIX_BYTES = 2048  # of each of the first two messages
LONGEST_MODEL = 1024  # characters of a model's name: it is remembered, logged and sent back in a header
PRICES = ("prompt", "completion")  # what `provider.max_price` can bound
TOKENS_PER_FILE = 1000  # about what a large image costs (OpenAI's tiles: 85 to 1105)
_BASE64 = re.compile(rb";base64,[A-Za-z0-9+/=_-]*+")
BYTES_PER_TOKEN = 4  # the usual estimate where no tokenizer is at hand


Number = int | float
"""An integer, as JSON has them: it does not tell 100 from 1e2. What is to be made of 1.5 is the provider's affair."""


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `provider` object of a request: how the caller narrows or reorders the candidates."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    sort: str | None = None
    max_price: dict[str, float] | None = None


class Message(msgspec.Struct, frozen=True):
    """Only that it is an object with a role; content is the provider's to judge."""

    role: str


class ChatPeek(msgspec.Struct, frozen=True):
    """A chat completion request, as far as routing needs it."""

    messages: list[Message]
    model: str | None = None
    stream: bool | None = None
    max_tokens: Number | None = None
    max_completion_tokens: Number | None = None
    n: Number | None = None
    stream_options: StreamOptions | None = None
    provider: Preferences | None = None

    @property
    def completion_bound(self) -> int | None:
        """Tokens the answer may have at most, None when the caller set no bound."""
        bound = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return tokens_bound(bound, self.n)

    @property
    def asked_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


_ONE = (None,)
_SEMICOLON: Final = ord(";")
MOST_TOKENS = 2**53  # what is bounded by more is reckoned as this: it is multiplied with prices, in floats


def tokens_bound(each: Number | None, *choices: Number | None) -> int | None:
    """Tokens that so many choices may have together, of `each` at most; None where nothing bounds them."""
    if type(each) is int and 0 <= each <= MOST_TOKENS and choices == _ONE:
        return each  # nearly always
    if each is None:
        return None
    together = math.ceil(max(each, 0)) * math.ceil(max((1, *(number or 1 for number in choices))))
    return min(together, MOST_TOKENS)


class _Messages(msgspec.Struct, frozen=True):
    messages: list[msgspec.Raw]


_chat = msgspec.json.Decoder(ChatPeek)
_messages = msgspec.json.Decoder(_Messages)
_PATH = re.compile(r"at `\$\.?([^`]*)`")
_MISSING = re.compile(r"required field `([^`]+)`")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")


def peek_chat(body: bytes) -> ChatPeek:
    """Read a chat completion request. Raises InvalidRequest, whose `param` names the field."""
    peek: ChatPeek = decode_body(_chat, body)
    if not peek.messages:
        raise no_messages()
    if peek.model is not None and len(peek.model) > LONGEST_MODEL:
        raise long_model()
    check_preferences(peek.provider)
    return peek


def check_preferences(preferences: Preferences | None) -> None:
    """What the types do not say. Raises InvalidRequest."""
    if preferences is not None and preferences.max_price is not None:
        _check_prices(preferences.max_price)


def _check_prices(bounds: Mapping[str, float]) -> None:
    """A bound that is misspelt would bound nothing."""
    for name in bounds:
        if name not in PRICES:
            field = f"provider.max_price.{name}"
            raise InvalidRequest(f"{field} is not a known field; known are {' and '.join(PRICES)}", param=field)


def prompt_tokens(body: bytes) -> int:
    """An estimate of a request's prompt: its bytes (messages, tools and all) at four a token.

    Inline images and files count as `TOKENS_PER_FILE` each: their base64 says nothing about their tokens.
    """
    length = len(body)
    if _SEMICOLON not in body or b";base64," not in body:  # to look for one byte takes next to nothing
        return length // BYTES_PER_TOKEN + 1
    files = [match.end() - match.start() for match in _BASE64.finditer(body)]
    return (length - sum(files)) // BYTES_PER_TOKEN + TOKENS_PER_FILE * len(files) + 1


def conversation_prefix(body: bytes) -> bytes:
    """The beginning of the conversation: the same while it grows, and enough to tell conversations apart."""
    messages = _messages.decode(body).messages[:2]
    return b"".join(bytes(memoryview(message)[:PREFIX_BYTES]) for message in messages)


def no_messages() -> InvalidRequest:
    return InvalidRequest("messages must hold at least one message", param="messages")


def long_model() -> InvalidRequest:
    return InvalidRequest(f"model is longer than {LONGEST_MODEL} characters", param="model")


def decode_body(decoder: Any, body: bytes) -> Any:
    """What `decoder` makes of a caller's body. Raises InvalidRequest, whose `param` names the field."""
    if not body:
        raise InvalidRequest("the body is empty; it must be a JSON object")
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not valid UTF-8 (at byte {error.start})") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise _wrong_shape(str(error)) from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None


def _wrong_shape(said: str) -> InvalidRequest:
    path = _PATH.search(said)
    at = path.group(1) if path else ""
    missing = _MISSING.search(said)
    if missing:
        field = f"{at}.{missing.group(1)}" if at else missing.group(1)
        return InvalidRequest(f"{field} is required", param=field)
    unknown = _UNKNOWN.search(said)
    if unknown:
        field = f"{at}.{unknown.group(1)}" if at else unknown.group(1)
        return InvalidRequest(f"{field} is not a known field", param=field)
    plain = said.split(" - at ", maxsplit=1)[0].replace("`", "")
    if not at:
        return InvalidRequest(f"the body must be a JSON object: {plain}")
    return InvalidRequest(f"{at}: {plain}", param=at)
