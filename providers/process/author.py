"""What a provider is to its author: a class with `models` and `invoke`. See `serve`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import msgspec

from .messages import NOTHING, Error, Invoke, Tokens

CHAT = "/chat/completions"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `body` is in the dialect of `endpoint`, the path below `/v1`: OpenAI's chat completions mostly.

    `credential` is what the router was told to call upstream with, if anything; `headers` are those of the caller that
    belong to the dialect, and of the trace it is part of.
    """

    model: str
    body: dict[str, Any]
    endpoint: str = CHAT
    stream: bool = False
    headers: Mapping[str, str] = {}
    credential: str | None = None

    def __repr__(self) -> str:
        return f"Request({self.endpoint!r}, model={self.model!r}, stream={self.stream})"

    @property
    def text(self) -> str:
        """The text of the last user message, "" without one."""
        for message in reversed(_dicts(self.body.get("messages"))):
            if message.get("role") == "user":
                return _text_of(message.get("content"))
        return ""


def request_of(asked: Invoke) -> Request:
    """Raises msgspec.MsgspecError for a body that is no object."""
    return Request(
        model=asked.model,
        body=msgspec.json.decode(asked.body, type=dict[str, Any]),
        endpoint=asked.endpoint,
        stream=asked.stream,
        headers=asked.headers,
        credential=asked.credential,
    )


def _dicts(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in _dicts(content) if part.get("type") == "text")


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an answer, for a provider that knows more of it than that it is over. Yield it last.

    `stop_reason` is one of OpenAI's: `stop`, `length`, `tool_calls`, `content_filter`. Token counts None: unknown.
    """

    stop_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def tokens(self) -> Tokens | None:
        if self.prompt_tokens is None and self.completion_tokens is None:
            return None
        prompt, completion = self.prompt_tokens or 0, self.completion_tokens or 0
        return Tokens(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class ProviderError(Exception):
    """Raise it to refuse a request, or to break an answer off.

    `code` is one of the protocol's (`invalid_request`, `rate_limited`, `model_not_found`, `unavailable`, ...) or your
    own, `status` the HTTP status that says the same. `retry_after` in seconds. `body` is the error for the caller in
    the endpoint's dialect, where there is one: it goes back as it is.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.error = Error(
            code=code,
            message=message,
            retryable=retryable,
            retry_after=retry_after,
            status=status,
            body=NOTHING if body is None else msgspec.Raw(msgspec.json.encode(body)),
        )


class Provider(Protocol):
    """What `serve` takes. `models`: a list of `Model`, or a method that returns one; the first is the default.

    `invoke(request)` answers: it yields the pieces of the answer, or returns it whole. It may be an async function or
    generator, which runs on trio, or a plain one, which runs in a thread of its own, so that it may block. A piece is
    a text, or a dict: a chunk of a chat completion (or event of the request's endpoint), or the whole answer. An
    exception is an error of that request, and of no other: `ProviderError` says which.

    `endpoints`, where there is such an attribute, lists the paths below `/v1` that it serves.
    """

    @property
    def models(self) -> Any: ...
    @property
    def invoke(self) -> Any: ...
