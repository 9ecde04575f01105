"""The dashboard: a page of its own files, which asks nothing of any other host. What it shows comes by the API."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.resources import files
from typing import Final

from quart import Response, redirect, request
from quart_trio import QuartTrio
from werkzeug.wrappers import Response as Redirect

_FILES: Final = ("index.html", "dashboard.css", "icon.svg")
_MODULES: Final = ("cache", "charts", "dashboard", "dom", "keys", "money", "providers", "requests", "state", "wire")
_KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
TYPES: Final = {name: _KINDS[name.rpartition(".")[2]] for name in (*_FILES, *(f"{module}.js" for module in _MODULES))}
"""The files, each with its content type."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""https://www.w3.org/TR/CSP3/: nothing inline, nothing from elsewhere, in no frame."""


def guarded(policy: str) -> dict[str, str]:
    """The headers that keep a page to itself, with that Content-Security-Policy."""
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


# The files are asked for anew each time, and not sent again where they are the same.
_HEADERS: Final = {**guarded(POLICY), "Cache-Control": "no-cache"}


def pages(prefix: str) -> frozenset[str]:
    """The paths of the files."""
    return frozenset([prefix, *(_path(prefix, name) for name in TYPES)])


def add_dashboard(app: QuartTrio, prefix: str) -> None:
    """Serve the page at `PREFIX/` and what belongs to it below `PREFIX/dashboard/`."""
    folder = files("infermux.http").joinpath("dashboard_files")
    for name, content_type in TYPES.items():
        page = partial(_file, folder.joinpath(name).read_bytes(), content_type)
        app.add_url_rule(_path(prefix, name), f"dashboard {name}", page, methods=["GET"])

    @app.get(prefix)
    async def moved() -> Redirect:
        return redirect(f"{prefix}/", 308)


def _path(prefix: str, name: str) -> str:
    return f"{prefix}/" if name == "index.html" else f"{prefix}/dashboard/{name}"


async def _file(body: bytes, content_type: str) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(b"", status=304, headers=headers)
    return Response(body, content_type=content_type, headers=headers)
