"""The application for any ASGI server on trio: `hypercorn -k trio infermux.http.asgi:app`.

It reads the configuration as `infermux serve` does (`$INFERMUX_CONFIG`, ./infermux.yml, ~/.infermux), at
the server's start-up, and runs the actors for as long as the server's lifespan lasts. Sockets, TLS, timeouts of heads
and of writing are the server's here; `listen` is only used to know which Host names are this router's.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from infermux.config import Config
from infermux.config.loader import reader
from infermux.errors import ConfigError, InfermuxError, Problem, ProviderNotStarted

from .application import Application, open_application
from .asgi_exchange import inference_app
from .connection import Refused, untold
from .errors import error_answer
from .framing import check_head
from .inference import is_inference
from .reloading import Load

log = logging.getLogger("infermux")


class AsgiApp:
    """An ASGI application whose router lives between `lifespan.startup` and `lifespan.shutdown`."""

    def __init__(self) -> None:
        self._serve: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._serve is not None:
            await self._serve(scope, receive, send)
        else:
            raise RuntimeError(
                "infermux needs a server that speaks ASGI's lifespan protocol, such as hypercorn -k trio"
            )

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        loaded = _load()
        if isinstance(loaded, ConfigError):
            await send({"type": "lifespan.startup.failed", "message": str(loaded)})
            return
        config, warnings, load = loaded
        for warning in warnings:
            log.warning("%s", warning)
        if config.management_listen is not None:
            log.warning("management_listen is for `infermux serve`: nobody listens there, and management is not served")
        try:
            async with open_application(config, load=load) as application:
                self._serve = _routed(application)
                await send({"type": "lifespan.startup.complete"})
                await receive()
                application.inference.draining = True
        except ProviderNotStarted as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def _load() -> tuple[Config, list[Problem], Load] | ConfigError:
    """The configuration, or what is wrong with it: raised, hypercorn would print the traceback with the message."""
    try:
        load = reader(None)
        config, warnings = load()
    except ConfigError as error:
        return error
    return config, warnings, load


def _routed(application: Application) -> Any:
    return checked(
        inference_app(
            application.inference,
            is_inference,
            application.app,
            limits=lambda: application.config.limits,
            is_shutting_down=lambda: application.inference.draining,
        ),
        application.door_log.turned_away,
    )


def checked(app: Any, refused: Refused = untold) -> Any:
    """`app`, behind the rules of `framing` for the heads of HTTP/1, as far as the server has left them to be seen.

    A server may take both Content-Length and Transfer-Encoding (RFC 9112, 6.3), a proxy before it the other one of
    them: that is how requests are smuggled. A refused connection is closed: what comes next on it is anybody's guess.
    """

    async def strict(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["http_version"] not in ("2", "3"):
            try:
                check_head(_head_of(scope))
            except InfermuxError as refusal:
                refused(refusal, scope.get("client"))
                headers, body = error_answer(refusal)
                framing = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
                start = {"type": "http.response.start", "status": refusal.status, "headers": [*headers, *framing]}
                await send(start)
                await send({"type": "http.response.body", "body": body})
                return
        await app(scope, receive, send)

    return strict


def _head_of(scope: Any) -> bytes:
    """The head of a request, written again from what the server says of it."""
    target: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    if scope.get("query_string"):
        target += b"?" + scope["query_string"]
    first = b"%b %b HTTP/%b\r\n" % (scope["method"].encode(), target, scope["http_version"].encode())
    return b"".join([first, *(b"%b: %b\r\n" % (name, value) for name, value in scope["headers"]), b"\r\n"])


app = AsgiApp()
