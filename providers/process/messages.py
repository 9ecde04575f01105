"""What the router and a provider process say to each other, a JSON object on a line: docs/provider-protocol.md.

Unknown members are ignored on both sides, so that either can learn something new. Of a message only what routing needs
is decoded: bodies and chunks stay bytes.
"""

from __future__ import annotations

from typing import Final

import msgspec

VERSION: Final = 1
VERSIONS: Final = (1,)
"""Those this code speaks, the newest first."""

NOTHING: Final = msgspec.Raw(b"null")
"""Of a member that is JSON: it is not there."""

REUSE: Final = "reuse"
"""The capability of a connection to carry one request after another."""

LINE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes a line may have, its end included. A larger one ends the connection."""


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that a provider serves. What is None is not known, and then never stands in a request's way.

    `context_window` and `max_output_tokens` in tokens; `images` and `tools`: whether it takes them; `prefill`: whether
    it goes on with an answer that the conversation ends in.
    """

    id: str
    name: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    images: bool | None = None
    tools: bool | None = None
    prefill: bool = False


# What the router says.
class Greeting(msgspec.Struct, frozen=True, tag="hello"):
    """The versions the router speaks and what it can do besides; `client` is for logs."""

    versions: tuple[int, ...]
    capabilities: tuple[str, ...] = ()
    client: str = ""


class ListModels(msgspec.Struct, frozen=True, tag="list_models"):
    """Answered with `Models`."""


class Invoke(msgspec.Struct, frozen=True, tag="invoke", omit_defaults=True):
    """One request: `body` is in the dialect of `endpoint`, the path below `/v1`.

    `strict`: refuse with `not_carried` what the provider cannot be given. `credential` is what to call upstream with,
    where the router has been told; empty: the caller was to give one and did not.
    """

    endpoint: str
    model: str
    body: msgspec.Raw
    stream: bool = False
    strict: bool = False
    headers: dict[str, str] = {}
    credential: str | None = None

    def __repr__(self) -> str:
        return f"Invoke({self.endpoint!r}, {self.model!r}, stream={self.stream})"


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Ends the request of this connection; nothing where there is none."""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Answered with `Pong`."""


# What the process says.
class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The version that is spoken from now on, of those the router offered."""

    version: int
    capabilities: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ("/chat/completions",)
    name: str = ""
    software: str = ""


class Models(msgspec.Struct, frozen=True, tag="models"):
    """In the provider's order: the first is its default."""

    models: tuple[Model, ...]


class Started(msgspec.Struct, frozen=True, tag="started", omit_defaults=True):
    """The request was taken. `dropped` names fields that could not be carried."""

    dropped: tuple[str, ...] = ()


class Chunk(msgspec.Struct, frozen=True, tag="chunk"):
    """An event of the endpoint's stream, or the whole answer."""

    data: msgspec.Raw


class InputDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    reasoning_tokens: int | None = None


class Tokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """Usage as OpenAI's chat completions tell it (`openai.types.CompletionUsage`)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class End(msgspec.Struct, frozen=True, tag="end", omit_defaults=True):
    """The genuine end of the answer. `stop_reason` in OpenAI's words (`stop`, `length`, `tool_calls`, ...)."""

    stop_reason: str | None = None
    usage: Tokens | None = None


class Error(msgspec.Struct, frozen=True, tag="error", omit_defaults=True):
    """The request has failed, and is over. `retry_after` in seconds, `status` the HTTP status that says the same.

    `retryable`: whether it may succeed later or elsewhere. `body` is the error in the endpoint's dialect, for the
    caller.
    """

    code: str = ""
    message: str = ""
    retryable: bool | None = None
    retry_after: float | None = None
    status: int | None = None
    param: str | None = None
    body: msgspec.Raw = NOTHING


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The process is there."""


Asked = Greeting | ListModels | Invoke | Cancel | Ping
Said = Hello | Models | Started | Chunk | End | Error | Pong

_encode: Final = msgspec.json.Encoder().encode
_asked: Final = msgspec.json.Decoder(Asked)
_said: Final = msgspec.json.Decoder(Said)

BROKEN_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding raises for anything that is no message."""


def encode(message: Asked | Said) -> bytes:
    """The message as a line. What is raw in it must have no line end: see `one_line`."""
    return _encode(message) + b"\n"


def read_said(line: bytes) -> Said:
    """What a process says. Raises one of `BROKEN_JSON`."""
    said: Said = _said.decode(line)
    return said


def read_asked(line: bytes) -> Asked:
    """What a router says. Raises one of `BROKEN_JSON`."""
    asked: Asked = _asked.decode(line)
    return asked


def one_line(json: bytes) -> bytes:
    """`json` without line ends: in JSON they stand between tokens only, where a space says the same."""
    if b"\n" in json or b"\r" in json:
        return json.replace(b"\n", b" ").replace(b"\r", b" ")
    return json
