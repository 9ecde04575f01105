"""What the tests of both ways out share: how to make a transport of either kind, and to ask by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from infermux.errors import UpstreamFailure
from infermux.providers.express import ExpressTransport
from infermux.providers.httpx_transport import HttpxTransport
from infermux.providers.transport import Origin, Transport

Make = Callable[..., Transport]
KINDS = ("express", "httpx")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST"


def build(kind: str, origin: Origin, **options: Any) -> Transport:
    return ExpressTransport(origin, **options) if kind == "express" else HttpxTransport(origin, **options)


async def failure_of(transport: Transport, body: bytes = b"{}") -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await ask(transport, body)
    return caught.value


async def ask(transport: Transport, body: bytes = b"{}") -> bytes:
    response = await transport.request(POST, b"/v1/x", (), body)
    try:
        return await response.read()
    finally:
        response.close()
