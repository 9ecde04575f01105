"""A router that is only asked: an HTTP server in a thread, which remembers what it was asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, TypeVar, cast


class Asked(BaseHTTPRequestHandler):
    """`asked` are paths, with the credential of each."""

    asked: list[tuple[str, str | None]]

    def note(self) -> None:
        self.asked.append((self.path, self.headers["authorization"]))

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


Kind = TypeVar("Kind", bound=Asked)


@contextlib.contextmanager
def asked(kind: type[Kind]) -> Generator[tuple[type[Kind], str]]:
    """A class of its own, so with a memory of its own, and its base URL."""
    mine = cast("type[Kind]", type(kind.__name__, (kind,), {"asked": []}))
    with HTTPServer(("127.0.0.1", 0), mine) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield mine, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
