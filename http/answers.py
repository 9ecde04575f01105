"""What both bindings of `Exchange` share: the stages of an answer, error answers, and calling the handler."""

from __future__ import annotations

import enum
import logging
from typing import Final, Protocol

from infermux.errors import InfermuxError, InternalError, LengthRequired, PayloadTooLarge

from .exchange import CallerLeft, Exchange, Handler, HeaderLines, Headers, pairs_of

_log = logging.getLogger("infermux.http")

MIN_BODY_RATE = 8192
"""Bytes of a body that buy it one more second beyond `header_timeout`."""

_OURS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"date", b"server"})
_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


class Answer(enum.Enum):
    """How far the answer has come."""

    NONE = enum.auto()
    STARTED = enum.auto()
    DONE = enum.auto()


_DONE: Final = Answer.DONE  # a member of an enum is looked up in Python code


class Binding(Exchange, Protocol):
    """An exchange as its own server side sees it."""

    @property
    def answer(self) -> Answer: ...
    @property
    def gone(self) -> bool:
        """Whether nothing more can or should be said: the caller left, or the answer was cut."""
        ...

    async def fail(self, error: InfermuxError) -> None:
        """Tell the caller of an error that escaped the handler; an answer that has begun is cut instead."""
        ...


async def run_handler(handler: Handler, exchange: Binding) -> None:
    """Call `handler`; whatever escapes it but Cancelled becomes an error answer or a cut. Raises CallerLeft."""
    try:
        await handler(exchange)
    except CallerLeft:
        raise
    except InfermuxError as error:
        await exchange.fail(error)
    except Exception:
        _log.exception("The inference handler failed.")
        await exchange.fail(internal_error())
    else:
        if exchange.answer is not _DONE and not exchange.gone:
            _log.error("The inference handler ended without ending its answer.")
            await exchange.fail(internal_error())


def outside_headers(headers: Headers | HeaderLines) -> list[tuple[bytes, bytes]]:
    """`headers` without those that are the binding's own."""
    if isinstance(headers, bytes):
        return pairs_of(headers)
    return [pair for pair in headers if pair[0].lower() not in _OURS]


def render_headers(headers: Headers | HeaderLines) -> HeaderLines:
    """Header lines of `outside_headers`, `HeaderLines` as they are.

    Raises ValueError for a line break or NUL in the others (response splitting).
    """
    if isinstance(headers, bytes):
        return headers
    lines = [b"%b: %b\r\n" % pair for pair in headers if pair[0].lower() not in _OURS]
    block = b"".join(lines)
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines) or b"\0" in block:
        raise ValueError("a response header has a line break or NUL in it")
    return HeaderLines(block)


def too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit} bytes.")


def internal_error() -> InternalError:
    return InternalError("Something went wrong in infermux; its log says what.")


def require_length(method: bytes) -> None:
    """For a request without Content-Length and chunks: LengthRequired where the method means a body."""
    if method in _WITH_BODY:
        raise LengthRequired("The request has a body by its method, but neither Content-Length nor chunks.")
