"""A whole router on a real socket of loopback, in the test's own trio loop, by either way in.

What `infermux serve` does, without the process around it; or the ASGI application under hypercorn's own worker. When
the block ends, nothing may be left: no request in flight, no lease out, no traceback in the log.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import attrs
import httpx
import openai
import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.config import Sockets
from hypercorn.trio.run import worker_serve

from infermux.actors.fleet import AdapterMaker
from infermux.config import load_text
from infermux.http.application import Application, open_application
from infermux.http.asgi import AsgiApp
from infermux.http.inference import is_inference
from infermux.http.server import Running, serve
from tests.mocks.openai_upstream import KEY, OpenAIUpstream

WAYS = ("serve", "asgi")
# For tests of what both have in common, which is most: every day by one of them.
EITHER_WAY = ("serve", pytest.param("asgi", marks=pytest.mark.long))
T = TypeVar("T")
HELLO: Any = [{"role": "user", "content": "Hello"}]
SAID = "Hello from the mock."
PATIENCE = 30.0  # seconds: the machine may be busy, and so may the disk, where bodies are put aside


@attrs.frozen(kw_only=True)
class Router:
    """A router that listens on `port`. `web` talks to it, bounded by half a minute; `application` is None by ASGI."""

    port: int
    web: httpx.AsyncClient
    shutdown: trio.Event
    management_port: int | None = None
    application: Application | None = None
    running: Running | None = None

    @property
    def url(self) -> str:
        return str(self.web.base_url).rstrip("/")

    async def chat(
        self, model: str = "gpt-4o", *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """A chat completion by a plain client, whatever it comes to."""
        body = {"model": model, "messages": HELLO, **more}
        return await self.web.post("/v1/chat/completions", json=body, headers=headers)

    async def status(self) -> Any:
        return (await self.web.get("/_infermux/status")).json()

    async def provider(self, name: str) -> Any:
        return (await self.web.get(f"/_infermux/providers/{name}")).json()

    async def wait_for(self, name: str, **wanted: Any) -> None:
        """Return when the provider's row of the status shows `wanted`, within half a minute."""
        row: Any = None
        with trio.move_on_after(PATIENCE):
            while True:
                row = next(row for row in (await self.status())["providers"] if row["name"] == name)
                if all(row[key] == value for key, value in wanted.items()):
                    return
                await trio.sleep(0.01)
        raise AssertionError(f"provider {name} did not become {wanted}: {row}")

    async def wait_settled(self) -> None:
        """Return when no request is in flight and no lease out, within half a minute."""
        status: Any = None
        with trio.move_on_after(PATIENCE):
            while True:
                status = await self.status()
                if not status["in_flight"] and not any(row["in_flight"] for row in status["providers"]):
                    return
                await trio.sleep(0.01)
        raise AssertionError(f"something is left in flight: {status}")

    def sdk(self, *, api_key: str = "unused", timeout: float = 5.0, **more: Any) -> openai.AsyncOpenAI:
        """The official SDK, asynchronous, without retries of its own. Enter it with `async with`."""
        http_client = openai.DefaultAsyncHttpxClient(trust_env=False, verify=False)
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=timeout, http_client=http_client, **more
        )

    def sync_sdk(self, *, api_key: str = "unused") -> openai.OpenAI:
        """The official SDK for threads."""
        http_client = openai.DefaultHttpxClient(trust_env=False, verify=False)
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=5.0, http_client=http_client
        )


def provider(name: str, upstream: OpenAIUpstream | str, **more: Any) -> dict[str, Any]:
    """A provider of the configuration, without health checks unless `more` has some."""
    base_url = upstream if isinstance(upstream, str) else upstream.base_url
    return {
        "name": name,
        "type": "openai",
        "api_key": KEY,
        "base_url": base_url,
        "models": ["gpt-4o", "gpt-4o-mini"],
        "health_check": {"disabled": True},
        **more,
    }


def in_order(**more: Any) -> dict[str, Any]:
    """Routing that asks the providers in the order they are declared."""
    return {"strategy": "priority", **more}


def refused_url() -> str:
    """An address nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"


async def gather(count: int, ask: Callable[[], Awaitable[T]]) -> list[T]:
    """What `count` concurrent calls of `ask` return."""
    answers: list[T] = []

    async def one() -> None:
        answers.append(await ask())

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return answers


async def until(condition: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Return when `condition` holds, or after `seconds`: the test's own assertion says what is wrong then."""
    with trio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await trio.sleep(0.005)


@asynccontextmanager
async def routing(
    *providers: dict[str, Any],
    way: str = "serve",
    environ: Mapping[str, str] | None = None,
    verify: ssl.SSLContext | bool = False,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    crashes: bool = False,
    adapters: AdapterMaker | None = None,
    **config: Any,
) -> AsyncGenerator[Router]:
    """Run a router over `providers` by one of `WAYS`, without a database unless `config`, further sections, has one.

    `adapters` replaces how adapters are made (by `serve` only);
    `headers` go with each request of `web`; `crashes` True: tracebacks in the log are what the test is about.
    """
    text = json.dumps({"listen": "127.0.0.1:0", "ledger": {"url": None}, "providers": providers, **config})
    made = _served(text, environ or {}, tls, adapters) if way == "serve" else _by_asgi(text, environ or {})
    with no_tracebacks(allowed=crashes):
        async with made as router:
            scheme = "http" if tls is None else "https"
            async with httpx.AsyncClient(
                base_url=f"{scheme}://127.0.0.1:{router.port}",
                trust_env=False,
                verify=verify,
                timeout=PATIENCE,
                headers=dict(headers or {}),
            ) as web:
                reached = attrs.evolve(router, web=web)
                yield reached
                if router.application is None:
                    await reached.wait_settled()
            if router.application is not None:
                await _wait_released(router.application)
            router.shutdown.set()


async def _wait_released(application: Application) -> None:
    await until(lambda: not (application.inference.in_flight or _leases(application)))
    assert application.inference.in_flight == 0, "a request is left in flight"
    assert not _leases(application), f"leases are left: {_leases(application)}"


def _leases(application: Application) -> list[Any]:
    return [lease for member in application.fleet.members.values() for lease in member.gate.leases]


@asynccontextmanager
async def _served(
    text: str, environ: Mapping[str, str], tls: ssl.SSLContext | None, adapters: AdapterMaker | None
) -> AsyncGenerator[Router]:
    config = load_text(text, environ=environ)
    async with (
        open_application(config, environ=environ, adapters=adapters) as application,
        trio.open_nursery() as nursery,
    ):
        shutdown = trio.Event()
        managed = config.management_listen is not None
        run = partial(
            serve,
            listen=[("127.0.0.1", 0)],
            handler=application.inference,
            is_inference=is_inference,
            app=application.app,
            limits=config.limits,
            tls=tls,
            management_listen=[("127.0.0.1", 0)] if managed else [],
            management_app=application.management_app,
            polled=application.polled,
            management_polled=application.management_polled,
            shutdown=shutdown,
            refused=application.door_log.turned_away,
            grace=0.2,
        )
        running: Running = await nursery.start(run)
        yield Router(
            port=running.addresses[0][1],
            management_port=running.management_addresses[0][1] if managed else None,
            web=httpx.AsyncClient(verify=False),
            shutdown=shutdown,
            application=application,
            running=running,
        )


@asynccontextmanager
async def _by_asgi(text: str, environ: Mapping[str, str]) -> AsyncGenerator[Router]:
    """`hypercorn -k trio infermux.http.asgi:app`, without the process around it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "infermux.yml")
        path.write_text(text)  # noqa: ASYNC240 - a few bytes
        with patch.dict(os.environ, {**environ, "INFERMUX_CONFIG": str(path)}):
            async with trio.open_nursery() as nursery:
                shutdown = trio.Event()
                listener = socket.create_server(("127.0.0.1", 0))
                config = HypercornConfig()
                config.errorlog = None
                config.graceful_timeout = 0.2
                run = partial(
                    worker_serve,
                    ASGIWrapper(AsgiApp()),
                    config,
                    sockets=Sockets([], [listener], []),
                    shutdown_trigger=shutdown.wait,
                )
                await nursery.start(run)
                yield Router(port=listener.getsockname()[1], web=httpx.AsyncClient(verify=False), shutdown=shutdown)


@contextmanager
def no_tracebacks(*, allowed: bool = False) -> Generator[None]:
    """Fail when a traceback is logged inside the block."""
    seen: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                seen.append(record)

    collector = Collector()
    logging.getLogger().addHandler(collector)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(collector)
    if seen and not allowed:
        said = [logging.Formatter().format(record) for record in seen]
        raise AssertionError("tracebacks in the log:\n" + "\n".join(said))
