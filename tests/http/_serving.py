"""Servers for the tests: the same handler on each binding, on a real socket of loopback."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config, Sockets
from hypercorn.trio.run import worker_serve

from infermux.config.settings import LimitSettings
from infermux.http.asgi_exchange import inference_app
from infermux.http.exchange import Exchange, Handler
from infermux.http.server import Running, serve

INFERENCE = b"/v1/chat/completions"
BINDINGS = ("express", "asgi")
LIMITS = LimitSettings(max_body_bytes=100_000, header_timeout=5.0, write_timeout=5.0)


def is_inference(_method: bytes, path: bytes) -> bool:
    return path == INFERENCE


async def echo(exchange: Exchange) -> None:
    """Answers with the size of the body."""
    body = await exchange.body()
    await exchange.respond(200, [(b"content-type", b"text/plain")], b"%d" % len(body))


async def plain_app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that tells what it was asked."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = json.dumps({"path": scope["path"], "body": body.decode(), "version": scope["http_version"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@attrs.frozen
class Served:
    """A server that runs. `running` is None under plain hypercorn."""

    port: int
    shutdown: trio.Event
    running: Running | None = None


@asynccontextmanager
async def serving(
    handler: Handler = echo,
    *,
    binding: str = "express",
    app: Any = plain_app,
    limits: LimitSettings = LIMITS,
    grace: float = 0.3,
    **options: Any,
) -> AsyncGenerator[Served]:
    """Serve `handler` by one of `BINDINGS` for the length of the block."""
    async with trio.open_nursery() as nursery:
        shutdown = trio.Event()
        if binding == "express":
            run = partial(
                serve,
                listen=[("127.0.0.1", 0)],
                handler=handler,
                is_inference=is_inference,
                app=app,
                limits=limits,
                shutdown=shutdown,
                grace=grace,
                **options,
            )
            running: Running = await nursery.start(run)
            served = Served(running.addresses[0][1], shutdown, running)
        else:
            served = await _plain_hypercorn(
                nursery, inference_app(handler, is_inference, app, limits=lambda: limits), shutdown
            )
        yield served
        shutdown.set()


async def _plain_hypercorn(nursery: trio.Nursery, app: Any, shutdown: trio.Event) -> Served:
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.errorlog = None
    config.graceful_timeout = 0.3
    run = partial(
        worker_serve,
        ASGIWrapper(app),
        config,
        sockets=Sockets([], [listener], []),
        shutdown_trigger=shutdown.wait,
    )
    await nursery.start(run)
    return Served(listener.getsockname()[1], shutdown)
