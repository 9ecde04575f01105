"""The protocol's `error` as an `UpstreamFailure`, and back. Pure.

A failure that came over HTTP keeps its status, and means what that status means of any provider. One that did not (no
connection, a timeout, a stream that broke) has the word of its kind as code.
"""

from __future__ import annotations

from typing import Final

import msgspec

from infermux.errors import FailureKind, InfermuxError, NotCarried, UpstreamFailure

from ..classify import MAX_ERROR_BODY, classify, mask
from .messages import BROKEN_JSON, NOTHING, Error

STATUS_OF_CODE: Final = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "not_carried": 400,
    "unauthorized": 401,
    "payment_required": 402,
    "forbidden": 403,
    "model_not_found": 404,
    "not_found": 404,
    "unsupported": 404,
    "timeout": 408,
    "too_large": 413,
    "rate_limited": 429,
    "cancelled": 499,
    "internal": 500,
    "unsupported_version": 501,
    "upstream_error": 502,
    "unavailable": 503,
    "overloaded": 529,
}
"""The codes of the protocol, each with the status it stands for where an error gives none."""

_KINDS: Final = {
    kind.value: kind
    for kind in (
        FailureKind.CONNECT,
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.FIRST_TOKEN_TIMEOUT,
        FailureKind.IDLE_TIMEOUT,
        FailureKind.TOTAL_TIMEOUT,
        FailureKind.BROKEN,
        FailureKind.MALFORMED,
    )
}
_NOT_CARRIED: Final = "not_carried"
_MODEL_NOT_FOUND: Final = "model_not_found"
_MAY_MEAN_THE_MODEL: Final = (403, 404)
_FINAL: Final = 400  # what an error without a known code or status is, that says it is not to be tried again
_PASSING: Final = 503  # ... and of any other


def not_carried(error: Error, *, secrets: tuple[str, ...] = ()) -> NotCarried | None:
    """Where an `error` says that nothing was sent, as the provider has no place for all of it: another one may."""
    if error.code != _NOT_CARRIED:
        return None
    return NotCarried(_masked(error, secrets) or "the provider cannot be given all of it", param=error.param)


def failure_of(error: Error, *, secrets: tuple[str, ...] = ()) -> UpstreamFailure:
    """What `error` is to the router; `secrets` are masked in it."""
    kind = _KINDS.get(error.code)
    if kind is not None and error.status is None:
        return UpstreamFailure(kind, _masked(error, secrets) or error.code, code=error.code)
    status = _status(error)
    headers = {b"content-type": b"application/json"}
    if error.retry_after is not None and error.retry_after >= 0:
        headers[b"retry-after"] = b"%.3f" % min(error.retry_after, 1e9)
    failure = classify(status, headers.get, _body(error, status), now=0.0, secrets=secrets)
    if error.code == _MODEL_NOT_FOUND and status in _MAY_MEAN_THE_MODEL:
        failure.kind = FailureKind.MODEL_NOT_FOUND
    failure.code = failure.code or error.code or None
    return failure


def _masked(error: Error, secrets: tuple[str, ...]) -> str:
    return mask(error.message.encode("utf-8", "replace"), secrets).decode("utf-8", "replace")


def _status(error: Error) -> int:
    if error.status is not None and 400 <= error.status <= 599:
        return error.status
    known = STATUS_OF_CODE.get(error.code)
    if known is not None:
        return known
    return _FINAL if error.retryable is False else _PASSING


def _body(error: Error, status: int) -> bytes:
    """The error for the caller: the process's own words, or ours made of its members, as OpenAI writes errors."""
    body = bytes(error.body)
    if body.startswith(b"{"):
        return body
    type_ = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    inner = {"message": error.message, "type": type_, "param": error.param, "code": error.code or None}
    return msgspec.json.encode({"error": inner})


def error_of(failure: UpstreamFailure) -> Error:
    """What a process says of a failure of its own upstream."""
    by_status = failure.status is not None and 400 <= failure.status <= 599  # else it was no answer over HTTP
    return Error(
        code=(failure.code or _CODES.get(failure.kind, failure.kind.value)) if by_status else _code(failure),
        message=failure.message,
        retryable=failure.kind is not FailureKind.CALLER,
        retry_after=failure.retry_after,
        status=failure.status if by_status else None,
        body=_json(failure.body) if by_status else NOTHING,
    )


def _code(failure: UpstreamFailure) -> str:
    """The word of a failure that no status says."""
    kind = failure.kind.value
    return kind if kind in _KINDS else _CODES.get(failure.kind, kind)


_CODES: Final = {
    FailureKind.SERVER_ERROR: "upstream_error",
    FailureKind.RATE_LIMITED: "rate_limited",
    FailureKind.CREDENTIALS: "unauthorized",
    FailureKind.MODEL_NOT_FOUND: "model_not_found",
    FailureKind.TOTAL_TIMEOUT: "timeout",
    FailureKind.CALLER: "invalid_request",
}


def refusal_of(error: InfermuxError) -> Error:
    """What a process says of a request that it refuses itself."""
    code = _NOT_CARRIED if isinstance(error, NotCarried) else error.code
    return Error(code=code, message=error.message, retryable=False, status=error.status, param=error.param)


def _json(body: bytes | None) -> msgspec.Raw:
    """`body` where it can stand in a message: JSON on one line."""
    if not body or len(body) > MAX_ERROR_BODY:
        return NOTHING
    try:
        return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(body)))
    except BROKEN_JSON:
        return NOTHING
