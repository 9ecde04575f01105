"""The JSON Anthropic's API is sent and answers with: what is changed in the one, what is read in the other.

Pure. Shapes: https://platform.claude.com/docs/en/api/messages and `anthropic.types` of the anthropic SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from .anthropic_errors import classify_in_band
from .interface import Call, Usage
from .splice import merge_defaults, splice


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class UsageObject(msgspec.Struct):
    """`anthropic.types.Usage`, as far as it is used; everything may be missing or null."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None
    service_tier: Any = None

    def usage(self) -> Usage:
        """`input_tokens` are those neither read from a cache nor written to one: the whole prompt is all three."""
        read, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        details = self.output_tokens_details
        return Usage(
            prompt_tokens=(self.input_tokens or 0) + read + written,
            completion_tokens=self.output_tokens or 0,
            cached_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=(details.thinking_tokens or 0) if details else 0,
        ).served_in(self.service_tier)

    def updated(self, later: UsageObject) -> UsageObject:
        """These numbers, with those of `later` where it has any."""
        fields = {name: getattr(later, name) for name in self.__struct_fields__ if getattr(later, name) is not None}
        return msgspec.structs.replace(self, **fields)


class _Message(msgspec.Struct):
    content: list[msgspec.Raw]
    stop_reason: str
    usage: UsageObject | None = None


class _Anything(msgspec.Struct):
    type: Any = None
    error: Any = None
    content: Any = None
    input_tokens: Any = None


class _Model(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False
    last_id: str | None = None


_messages: Final = msgspec.json.Decoder(_Message)
_anything: Final = msgspec.json.Decoder(_Anything)
_pages: Final = msgspec.json.Decoder(_Page)
_NO_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def prepare_body(call: Call, extra: Mapping[str, bytes]) -> bytes:
    """The body to send: `call.body` itself where nothing is to be changed.

    `extra` are JSON values by name. Raises `UpstreamFailure(CALLER)` for a body that is no JSON object.
    """
    try:
        body = call.body
        if call.model != call.requested_model or call.remove:
            changes = {} if call.model == call.requested_model else {"model": msgspec.json.encode(call.model)}
            body = splice(body, changes, call.remove)
        return merge_defaults(body, extra) if extra else body
    except ValueError as error:
        message = f"The body cannot be forwarded: {error}."
        answer = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        raise UpstreamFailure(
            FailureKind.CALLER,
            message,
            status=400,
            body=msgspec.json.encode(answer),
            content_type=b"application/json",
        ) from error


def read_message(body: bytes, *, status: int, secrets: Sequence[str] = ()) -> Usage | None:
    """Check that `body` is a whole message; return its usage.

    Raises `UpstreamFailure`: MALFORMED for anything else, and what an `error` object in its place means.
    """
    try:
        message = _messages.decode(body)
    except _NO_JSON:
        raise _no_message(body, status, secrets) from None
    return message.usage.usage() if message.usage else None


def _no_message(body: bytes, status: int, secrets: Sequence[str]) -> UpstreamFailure:
    try:
        answer = _anything.decode(body)
    except _NO_JSON:
        return malformed("answered with something that is no JSON object", status)
    if answer.error:
        return classify_in_band(body, secrets=secrets)
    if not isinstance(answer.content, list):
        return malformed("answered with JSON that is no message: it has no `content`", status)
    return malformed("answered with a message that is not whole: it has no `stop_reason`", status)


def check_count(body: bytes, *, status: int, secrets: Sequence[str] = ()) -> None:
    """Check that `body` is a count of tokens. Raises as `read_message`."""
    try:
        answer = _anything.decode(body)
    except _NO_JSON:
        raise malformed("answered with something that is no JSON object", status) from None
    if answer.error:
        raise classify_in_band(body, secrets=secrets)
    if not isinstance(answer.input_tokens, int):
        raise malformed("answered with JSON that is no count of tokens: it has no `input_tokens`", status)


def read_models(body: bytes) -> tuple[Sequence[str], str | None]:
    """The names on one page of models, and the id after which the next page begins, None on the last."""
    try:
        page = _pages.decode(body)
    except _NO_JSON:
        raise malformed("answered the request for its models with something that is no list of models", 200) from None
    return [model.id for model in page.data], page.last_id if page.has_more else None


def malformed(message: str, status: int) -> UpstreamFailure:
    """The failure of a 2xx that is not what the endpoint answers."""
    return UpstreamFailure(FailureKind.MALFORMED, message, status=status)
