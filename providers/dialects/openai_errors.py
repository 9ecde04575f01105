"""Errors as OpenAI's APIs have them, for every dialect of that house.

Shapes: `openai.types.shared.ErrorObject`; https://platform.openai.com/docs/guides/error-codes.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..classify import read_error as read_error_body
from .dialect import kind_of_status
from .neutral import ErrorKind, ErrorReport

Json = dict[str, Any]

_TYPES: Final = {
    ErrorKind.INVALID_REQUEST: "invalid_request_error",
    ErrorKind.AUTHENTICATION: "authentication_error",
    ErrorKind.BILLING: "insufficient_quota",
    ErrorKind.PERMISSION: "permission_error",
    ErrorKind.NOT_FOUND: "not_found_error",
    ErrorKind.TOO_LARGE: "invalid_request_error",
    ErrorKind.RATE_LIMIT: "rate_limit_error",
    ErrorKind.TIMEOUT: "timeout_error",
    ErrorKind.OVERLOADED: "server_error",
    ErrorKind.SERVER: "server_error",
}


class _Inner(msgspec.Struct):
    param: str | None = None


class _Error(msgspec.Struct):
    error: _Inner | None = None


_errors: Final = msgspec.json.Decoder(_Error)


def read_error(status: int, body: bytes) -> ErrorReport:
    """Never raises: a body that is no such error is the message."""
    info = read_error_body(body)
    kind = kind_of_status(status)
    if "insufficient_quota" in (info.code, info.type):
        kind = ErrorKind.BILLING
    return ErrorReport(
        kind=kind,
        status=status,
        message=info.message or f"the provider answered {status}",
        type=info.type or None,
        code=info.known_code,
        param=_param(body),
    )


def _param(body: bytes) -> str | None:
    try:
        inner = _errors.decode(body).error
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return inner.param if inner else None


def error_fields(error: ErrorReport) -> Json:
    """The members of the error. The type is the source's own word where it has one: here it is free text."""
    kind = error.type or _TYPES[error.kind]
    return {"message": error.message, "type": kind, "param": error.param, "code": error.code}


def write_error(error: ErrorReport) -> bytes:
    """`{"error": {...}}`."""
    return msgspec.json.encode({"error": error_fields(error)})
