"""Where a worker answers the others."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import trio

from .application import Application
from .asgi_exchange import AsgiApp
from .exchange import Exchange
from .polled import Polled
from .server import Running, serve
from .siblings import Siblings


async def serve_siblings(
    application: Application,
    siblings: Siblings,
    *,
    task_status: trio.TaskStatus[Running],
) -> None:
    """Answer the other workers, and this one, until cancelled."""
    assert application.local_app is not None, "it was opened with siblings"
    path = siblings.path(siblings.place)
    with suppress(FileNotFoundError):
        os.unlink(path)  # of the one before at this place
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        await _serve(application.local_app, application.local_polled, listener, task_status)


async def _serve(
    app: AsgiApp, polled: Polled | None, listener: socket.socket, task_status: trio.TaskStatus[Running]
) -> None:
    await serve(
        listen=[listener],
        handler=_nobody,
        is_inference=_never,
        app=app,
        polled=polled,
        shutdown=trio.Event(),
        grace=0.0,
        task_status=task_status,
    )


def _never(_method: bytes, _path: bytes) -> bool:
    return False


async def _nobody(_: Exchange) -> None:
    raise AssertionError("workers do not ask each other for inference")
