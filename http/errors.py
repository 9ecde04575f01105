"""How an error is told: in the shape of the API that was called, whole or inside a stream."""

from __future__ import annotations

import enum
import math
from typing import Final

import msgspec

from infermux.errors import InfermuxError, ProviderRefusal, ThreadUnsupported

from .exchange import Headers

JSON = (b"content-type", b"application/json")
LONGEST_MESSAGE = 4000  # characters


class Shape(enum.Enum):
    """Whose words an error is told in."""

    OPENAI = "openai"
    RESPONSES = "responses"  # OpenAI's, but for the event inside a stream
    ANTHROPIC = "anthropic"


def shape_of(path: bytes) -> Shape:
    """The shape for callers of `path`."""
    if path.startswith(b"/v1/messages"):
        return Shape.ANTHROPIC
    return Shape.RESPONSES if path.startswith(b"/v1/responses") else Shape.OPENAI


# `error.type` in the words of OpenAI's API (https://platform.openai.com/docs/guides/error-codes), by status.
_OPENAI_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
# In the words of Anthropic's (https://platform.claude.com/docs/en/api/errors; `anthropic.types.shared.error_type`).
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def openai_error(error: InfermuxError) -> dict[str, object]:
    """`{"error": {message, type, param, code}}`."""
    kind = _OPENAI_TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": _cut(error.message), "type": kind, "param": _param(error), "code": error.code}}


def anthropic_error(error: InfermuxError, request_id: bytes | None = None) -> dict[str, object]:
    """`{"type": "error", "error": {type, message}, "request_id"}`, whole and as an event of a stream.

    `request_id` is in `anthropic.types.shared.ErrorResponse`, https://platform.claude.com/docs/en/api/errors, and in
    the events of the API (as quoted in https://github.com/karthink/gptel/pull/1512).

    `details` are what the SDK's tool runner looks at to go on without a thread (`anthropic.lib.threads`, since 2.12).
    """
    kind = _ANTHROPIC_TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "api_error")
    told: dict[str, object] = {"type": kind, "message": _cut(error.message)}
    if isinstance(error, ThreadUnsupported):
        told["details"] = {"error_code": error.code, "unsupported": ["thread"]}
    named = {} if request_id is None else {"request_id": request_id.decode("latin-1")}
    return {"type": "error", "error": told, **named}


def _param(error: InfermuxError) -> str | None:
    return None if error.param is None else _cut(error.param)


def _cut(text: str) -> str:
    """Messages may quote what a caller or a provider sent, which may be long."""
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def error_answer(
    error: InfermuxError, shape: Shape = Shape.OPENAI, *, request_id: bytes | None = None
) -> tuple[Headers, bytes]:
    """Headers and body of an error. A provider's own refusal keeps its body and content type.

    `request_id` is repeated where the shape has a place of its own for it.
    """
    headers = [(b"x-infermux-error", error.code.encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(math.ceil(error.retry_after), 1)))
    if error.is_final:
        headers.append((b"x-should-retry", b"false"))  # what OpenAI's and Anthropic's SDKs go by
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.provider is not None:
        headers.append((b"x-infermux-provider", error.provider.encode()))
    if shape is Shape.ANTHROPIC and request_id is not None:
        headers.append((b"request-id", request_id))
    if isinstance(error, ProviderRefusal) and error.body:
        body = error.body
        if error.rewritten and shape is Shape.ANTHROPIC and request_id is not None:
            body = msgspec.json.encode({**msgspec.json.decode(body), "request_id": request_id.decode("latin-1")})
        return [(b"content-type", error.content_type), *headers], body
    if shape is not Shape.ANTHROPIC:
        return [JSON, *headers], msgspec.json.encode(openai_error(error))
    return [JSON, *headers], msgspec.json.encode(anthropic_error(error, request_id))


def error_event(
    error: InfermuxError, shape: Shape = Shape.OPENAI, *, sequence: int = 0, request_id: bytes | None = None
) -> bytes:
    """A stream's in-band error, after which no clean ending follows.

    The `openai` and `anthropic` SDKs raise for it. That of a response is an event like the others too
    (`openai.types.responses.ResponseErrorEvent`): `sequence` is its number there.
    """
    if shape is Shape.ANTHROPIC:
        return b"event: error\ndata: " + msgspec.json.encode(anthropic_error(error, request_id)) + b"\n\n"
    return _responses_event(error, sequence) if shape is Shape.RESPONSES else _openai_event(error)


def _openai_event(error: InfermuxError) -> bytes:
    return b"data: " + msgspec.json.encode(openai_error(error)) + b"\n\n"


def _responses_event(error: InfermuxError, sequence: int) -> bytes:
    told = {
        "type": "error",
        "code": error.code,
        "message": _cut(error.message),
        "param": _param(error),
        "sequence_number": sequence,
        **openai_error(error),  # where the SDK looks for what it raises
    }
    return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
