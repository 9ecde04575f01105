"""How the description tells of errors: what each status can mean, in the shape of the API that was called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from infermux.errors import (
    ConfigError,
    FailureKind,
    Forbidden,
    HeadTooLarge,
    InfermuxError,
    InternalError,
    InvalidRequest,
    PayloadTooLarge,
    PolicyError,
    ProviderError,
    RequestTimeout,
    ShuttingDown,
    Unauthorized,
    UnmetExpectation,
    UpstreamTimeout,
)

from ..errors import LONGEST_MESSAGE, Shape, anthropic_error, openai_error
from .shapes import TEXT, Schema, listed, maybe, one_of, record

ErrorKind = type[InfermuxError]


FRONT_DOOR: Final[tuple[ErrorKind, ...]] = (
    InvalidRequest,
    RequestTimeout,
    PayloadTooLarge,
    UnmetExpectation,
    HeadTooLarge,
    InternalError,
    ShuttingDown,
)
"""What any request can come to before anybody has looked at what it asks."""
GUARDED: Final[tuple[ErrorKind, ...]] = (Unauthorized, Forbidden)

_HEADERS: Final[dict[str, Schema]] = {
    "X-Infermux-Error": {"description": "the error's code", "required": True, "schema": {"type": "string"}},
}
_RETRY: Final[Schema] = {
    "description": "seconds after which it is worth another try",
    "schema": {"type": "integer", "minimum": 1},
}
_CHALLENGE: Final[Schema] = {"description": "what is asked for", "required": True, "schema": {"const": "Bearer"}}
_PROVIDER: Final[Schema] = {"description": "the provider that it is about", "schema": TEXT}
_NO_RETRY: Final[Schema] = {
    "description": "`false`: an operator ended it, it is not to be sent again",
    "schema": {"const": "false"},
}


def error_responses(kinds: Iterable[ErrorKind], shapes: Iterable[Shape] = (Shape.OPENAI,)) -> dict[str, Any]:
    """The responses of an operation that can come to `kinds`, by status."""
    by_status: dict[int, list[tuple[ErrorKind, str]]] = defaultdict(list)
    for kind in kinds:
        for code in _codes(kind):
            if (kind, code) not in by_status[_status(kind)]:
                by_status[_status(kind)].append((kind, code))
    shapes = tuple(shapes)
    return {str(status): _response(status, found, shapes) for status, found in sorted(by_status.items())}


def _codes(kind: ErrorKind) -> Iterator[str]:
    """A timeout's code is the timeout's name."""
    if kind is UpstreamTimeout:
        yield from (failure.value for failure in FailureKind if failure.is_timeout)
    else:
        yield kind.code


def _status(kind: ErrorKind) -> int:
    return InvalidRequest.status if kind is ConfigError else kind.status


def _response(status: int, found: list[tuple[ErrorKind, str]], shapes: tuple[Shape, ...]) -> dict[str, Any]:
    told = {code: _sentence(kind) for kind, code in found}
    kinds = [kind for kind, _ in found]
    headers: dict[str, Any] = dict(_HEADERS)
    if status == Unauthorized.status:
        headers["WWW-Authenticate"] = _CHALLENGE
    if status in (429, 503):
        headers["Retry-After"] = _RETRY
        headers["X-Should-Retry"] = _NO_RETRY
    if any(issubclass(kind, PolicyError | ProviderError) for kind in kinds):
        headers["X-Infermux-Provider"] = _PROVIDER
    bodies = [_body(status, tuple(told), shape, problems=ConfigError in kinds) for shape in shapes]
    return {
        "description": "; ".join([HTTPStatus(status).phrase, *(f"`{code}`: {said}" for code, said in told.items())]),
        "headers": headers,
        "content": {"application/json": {"schema": bodies[0] if len(bodies) == 1 else {"anyOf": bodies}}},
    }


def _sentence(kind: ErrorKind) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _body(status: int, codes: tuple[str, ...], shape: Shape, *, problems: bool) -> Schema:
    message = {**TEXT, "maxLength": LONGEST_MESSAGE}
    example = InfermuxError("", status=status)
    if shape is Shape.ANTHROPIC:
        kind = anthropic_error(example)["error"]["type"]  # type: ignore[index]
        details = record({"error_code": one_of(codes), "unsupported": listed(TEXT)})
        told = record({"type": {"const": kind}, "message": message}, optional={"details": details})
        return record({"type": {"const": "error"}, "error": told}, optional={"request_id": TEXT})
    kind = openai_error(example)["error"]["type"]  # type: ignore[index]
    told = record({"message": message, "type": {"const": kind}, "param": maybe(message), "code": one_of(codes)})
    return record({"error": told}, optional={"problems": listed(problem())} if problems else None)


def problem() -> Schema:
    """`errors.Problem`."""
    return record({"file": TEXT, "line": {"type": "integer", "minimum": 1}, "path": TEXT, "message": TEXT})
