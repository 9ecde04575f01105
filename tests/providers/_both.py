"""What the tests of both ways out share: how to make a transport of either kind, and to ask by it.

Tests of an adapter that are marked `over_both` run over either: `options()` are then the settings that choose it.
What they call is `offered` the adapter: that itself, or the same as a provider process has it (`outside`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
import trio

from infermux.errors import UpstreamFailure
from infermux.providers.express import ExpressTransport
from infermux.providers.httpx_transport import HttpxTransport
from infermux.providers.interface import Adapter, Call
from infermux.providers.transport import Origin, Transport

Make = Callable[..., Transport]
KINDS = ("express", "httpx")
PLACES = ("inside", "outside")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST"
outside: Callable[[Adapter], Adapter] | None = None  # set for one test: puts an adapter into a process
chosen = "express"  # the fixture `transport` changes it for one test
_OPTIONS: dict[str, dict[str, Any]] = {"express": {}, "httpx": {"http2": True}}  # over plain TCP that is HTTP/1.1
Test = TypeVar("Test", bound=Callable[..., Any])


def over_both(test: Test) -> Test:
    """Run `test`, whose adapters are made with `options()`, over each of `KINDS`."""
    pytest.mark.usefixtures("transport")(test)
    both: Test = pytest.mark.parametrize("transport", KINDS, indirect=True)(test)
    return both


def inside_and_outside(test: Test) -> Test:
    """Run `test`, whose adapters are `offered`, with the adapter here, and with the same in a provider process."""
    pytest.mark.usefixtures("place")(test)
    both: Test = pytest.mark.parametrize("place", PLACES, indirect=True)(test)
    return both


def inside_and_outside_at_length(test: Test) -> Test:
    """As `inside_and_outside`, but the latter in the long form only: for many cases that go the same way."""
    pytest.mark.usefixtures("place")(test)
    places = ("inside", pytest.param("outside", marks=pytest.mark.long))
    both: Test = pytest.mark.parametrize("place", places, indirect=True)(test)
    return both


def options() -> dict[str, Any]:
    """Settings of a provider that choose the transport of the running test."""
    return _OPTIONS[chosen]


def offered(adapter: Adapter) -> Adapter:
    """`adapter` as the running test is to have it."""
    return adapter if outside is None else outside(adapter)


async def cancelled_when_asked(provider: Adapter, call: Call, requests: Sequence[object]) -> None:
    """Send `call`, which is not answered, and cancel it when the upstream's `requests` show that it has arrived."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provider.send, call)
        with trio.fail_after(30):
            while True:
                if requests:
                    break
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


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
