"""How an error is told: in OpenAI's shape, whole or inside a stream."""

from __future__ import annotations

import math

import msgspec

from infermux.errors import InfermuxError, ProviderRefusal

from .exchange import Headers

JSON = (b"content-type", b"application/json")
LONGEST_MESSAGE = 4000  # characters

# `error.type` in the words of OpenAI's API (https://platform.openai.com/docs/guides/error-codes), by status.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 504: "timeout_error"}


def error_object(error: InfermuxError) -> dict[str, object]:
    """`{"error": {message, type, param, code}}`."""
    param = None if error.param is None else _cut(error.param)
    kind = _TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": _cut(error.message), "type": kind, "param": param, "code": error.code}}


def _cut(text: str) -> str:
    """Messages may quote what a caller or a provider sent, which may be long."""
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def error_answer(error: InfermuxError) -> tuple[Headers, bytes]:
    """Headers and body of an error. A provider's own refusal keeps its body and content type."""
    headers = [(b"x-infermux-error", error.code.encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(math.ceil(error.retry_after), 1)))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.provider is not None:
        headers.append((b"x-infermux-provider", error.provider.encode()))
    if isinstance(error, ProviderRefusal) and error.body:
        return [(b"content-type", error.content_type), *headers], error.body
    return [JSON, *headers], msgspec.json.encode(error_object(error))


def error_event(error: InfermuxError) -> bytes:
    """A stream's in-band error, after which no clean ending follows. The `openai` SDK raises APIError for it."""
    return b"data: " + msgspec.json.encode(error_object(error)) + b"\n\n"
