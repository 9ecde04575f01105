"""`GET /_infermux/openapi.json`: the HTTP API, described."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio
from quart import Response
from quart_trio import QuartTrio

from infermux.config.settings import AuthMode


def add_openapi(app: QuartTrio, prefix: str, *, mode: Callable[[], AuthMode], token: bool, separate: bool) -> None:
    """The page. `mode` is `auth.mode` in force; `token`, `separate`: see `description`."""
    made: dict[AuthMode, bytes] = {}

    def make(wanted: AuthMode) -> bytes:
        # Imported here: nobody who starts a router waits for it.
        from .openapi.description import description

        return msgspec.json.encode(description(mode=wanted, token=token, prefix=prefix, separate=separate))

    @app.get(f"{prefix}/openapi.json")
    async def openapi() -> Response:
        wanted = mode()
        if wanted not in made:
            made[wanted] = await trio.to_thread.run_sync(make, wanted)  # a tenth of a second, beside the event loop
        return Response(made[wanted], content_type="application/json")
