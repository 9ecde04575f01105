"""The application for any ASGI server on trio: `hypercorn -k trio infermux.http.asgi:app`.

It reads the configuration as `infermux serve` does (`$INFERMUX_CONFIG`, ./infermux.yml, ~/.infermux/infermux.yml), at
the server's start-up, and runs the actors for as long as the server's lifespan lasts. Sockets, TLS, header and write
limits are the server's here; `listen` is only used to know which Host names are this router's.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from infermux.config import Config, load_checked
from infermux.errors import ConfigError, NotFound, Problem, ProviderNotStarted

from .application import Application, open_application
from .asgi_exchange import inference_app
from .errors import error_answer
from .inference import is_inference

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
        config, warnings = loaded
        for warning in warnings:
            log.warning("%s", warning)
        if config.management_listen is not None:
            log.warning("management_listen is for `infermux serve`: nobody listens there, and management is not served")
        try:
            async with open_application(config, load=partial(load_checked, config.source)) as application:
                self._serve = _routed(application)
                await send({"type": "lifespan.startup.complete"})
                await receive()
                application.inference.draining = True
        except ProviderNotStarted as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def _load() -> tuple[Config, list[Problem]] | ConfigError:
    """The configuration, or what is wrong with it: raised, hypercorn would print the traceback with the message."""
    try:
        return load_checked(None)
    except ConfigError as error:
        return error


def _routed(application: Application) -> Any:
    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await application.app(scope, receive, send)
        else:
            await _refuse(send)

    return inference_app(
        application.inference,
        is_inference,
        fallback,
        limits=lambda: application.config.limits,
        is_shutting_down=lambda: application.inference.draining,
    )


async def _refuse(send: Any) -> None:
    headers, body = error_answer(NotFound("there are no web sockets here"))
    await send({"type": "websocket.http.response.start", "status": 404, "headers": list(headers)})
    await send({"type": "websocket.http.response.body", "body": body})


app = AsgiApp()
