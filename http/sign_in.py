"""Signing in to the dashboard: how a browser, which sends no header with an address, gets the page behind the token.

The sign-in page posts the token once, as a header, and gets a cookie that opens the page's own files to GET and
nothing else. The API keeps asking for the token, which the page sends as a header: no other site can make a browser
do that, so a cookie gives it nothing to forge.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Final

import attrs
from quart import Response, request
from quart_trio import QuartTrio

from .dashboard import guarded

COOKIE: Final = "infermux-page"
LASTS: Final = 12 * 3600
"""Seconds that a cookie is good for."""


@attrs.frozen
class Visits:
    """Makes and reads cookies: `UNTIL.SEAL`, which say nothing but until when. They end with the process."""

    wall: Callable[[], float] = time.time
    key: bytes = attrs.field(factory=lambda: secrets.token_bytes(32), repr=False, kw_only=True)

    def begun(self) -> str:
        """The cookie of a visit that begins now."""
        until = str(int(self.wall()) + LASTS)
        return f"{until}.{self._seal(until)}"

    def lasts(self, cookie: str) -> bool:
        """Whether this one is ours and still good; compared in constant time."""
        until, _, seal = cookie.partition(".")
        return hmac.compare_digest(seal.encode(), self._seal(until).encode()) and self.wall() < int(until)

    def _seal(self, until: str) -> str:
        return hmac.digest(self.key, until.encode(), "sha256").hex()


@attrs.frozen
class Door:
    """Who gets the page below `prefix`. Reads the request that is being answered."""

    prefix: str
    pages: frozenset[str]
    visits: Visits = attrs.field(factory=Visits)

    @property
    def session(self) -> str:
        """Where signing in is posted, and signing out is deleted."""
        return f"{self.prefix}/session"

    def open(self) -> bool:
        """Whether a file of the page is asked for by a browser that has signed in."""
        cookie = request.cookies.get(COOKIE, "")
        return request.path in self.pages and request.method in ("GET", "HEAD") and self.visits.lasts(cookie)

    def turned_away(self, refusal: Response) -> Response:
        """What somebody without the token gets in the place of `refusal`: at the page's address, where to sign in."""
        if request.path == self.session:
            self._send(refusal, "", 0)
        elif request.path.rstrip("/") == self.prefix and request.method in ("GET", "HEAD"):
            return Response(_PAGE, status=401, content_type="text/html; charset=utf-8", headers=_HEADERS)
        return refusal

    def add(self, app: QuartTrio) -> None:
        """`POST` and `DELETE /_infermux/session`, which ask for the token as all of the API does."""

        @app.post(self.session)
        async def sign_in() -> Response:
            response = Response(b"", status=204)
            self._send(response, self.visits.begun(), LASTS)
            return response

        @app.delete(self.session)
        async def sign_out() -> Response:
            response = Response(b"", status=204)
            self._send(response, "", 0)
            return response

    def _send(self, response: Response, cookie: str, lasts: int) -> None:
        """The cookie, for `lasts` seconds; with 0 the browser forgets it."""
        secure = request.scheme == "https"
        response.set_cookie(
            COOKIE, cookie, max_age=lasts, path=self.prefix, secure=secure, httponly=True, samesite="Strict"
        )


def _hashes(page: str, element: str) -> str:
    """The policy's words for what stands inside `<element>`. https://www.w3.org/TR/CSP3/#grammardef-hash-source"""
    inline = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


_PAGE: Final = (files("infermux.http").joinpath("dashboard_files") / "sign_in.html").read_text(encoding="utf-8")
POLICY: Final = (
    f"default-src 'none'; script-src {_hashes(_PAGE, 'script')}; style-src {_hashes(_PAGE, 'style')}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Exactly the script and the style that are in the page, and nothing from anywhere."""
_HEADERS: Final = {
    **guarded(POLICY),
    "Cache-Control": "no-store",
    "WWW-Authenticate": 'Bearer realm="infermux"',
}
