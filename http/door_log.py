"""What the log and the metrics say of what is no inference: commands of an operator, and whom the door turned away.

A command is a request to `/_infermux/` that may change something: each leaves a line, whatever came of it, with what
it did to what, for whom, and where it came from. A refusal is every other request that got an error, and a head that
could not be read; they are counted, and logged as far as `MOST` allows, since anybody can make them. Reading a page
leaves nothing. The inference handler's requests have lines of their own, refused ones too: see `request_log`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import attrs
import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from infermux.errors import InfermuxError
from infermux.log_lines import Fields
from infermux.logs import log_fields

from .live_values import Value
from .metric_text import COUNTER
from .request_log import line_of

log = logging.getLogger("infermux.door")

MOST: Final = 10
"""Lines a second of refusals with one code; those beyond are counted, and told in the next line."""
LONGEST: Final = 200  # characters of what a caller wrote
_KEY: Final = re.compile(r"(ifx_[a-z2-7]{12}_)[a-z2-7]+")
_NAMELESS: Final = {401: "unauthorized"}  # the page to sign in is no error in form
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Peer = tuple[str, int] | None
"""Host and port of whoever is connected; a proxy, where there is one."""


class DoorLine(Fields):
    """A line of this log; `event` is `command` or `refused`."""

    __slots__ = ("_fields", "event")

    def __init__(self, event: str, fields: Mapping[str, Any]) -> None:
        self.event = event
        self._fields = {name: value for name, value in fields.items() if value not in (None, "")}

    def fields(self) -> Mapping[str, Any]:
        return self._fields

    def __str__(self) -> str:
        return line_of(self._fields)


@attrs.define(eq=False)
class _Tally:
    """Of one code: `left` lines of the second that began at `since`, and how many were not written since the last."""

    since: float
    left: int = MOST
    unlogged: int = 0


@attrs.define(eq=False)
class DoorLog:
    """`refused` counts by status and code. All of them are the router's own words, so there are few."""

    refused: dict[tuple[int, str], int] = attrs.field(factory=dict[tuple[int, str], int])
    _tallies: dict[str, _Tally] = attrs.field(factory=dict[str, _Tally])

    def turned_away(self, error: InfermuxError, peer: Peer) -> None:
        """`error` was told before there was a request with a path."""
        self.note_refused(error.status, error.code, peer)

    def note_refused(self, status: int, code: str, peer: Peer, *, method: str = "", path: str = "") -> None:
        key = (status, code)
        self.refused[key] = self.refused.get(key, 0) + 1
        now = trio.current_time()
        tally = self._tallies.get(code)
        if tally is None or now - tally.since >= 1.0:
            tally = self._tallies[code] = _Tally(now, unlogged=0 if tally is None else tally.unlogged)
        if not tally.left:
            tally.unlogged += 1
            return
        said: dict[str, Any] = {
            "status": status,
            "code": code,
            "method": method,
            "path": told(path),
            "from": _where(peer),
        }
        said["unlogged"] = tally.unlogged or None
        tally.left, tally.unlogged = tally.left - 1, 0
        log_fields(log, _level(status), DoorLine("refused", said))

    def add(self, app: QuartTrio, prefix: str) -> None:
        """Note what `app` answers."""

        @app.after_request
        async def note(response: Response) -> Response:
            status, code = response.status_code, response.headers.get("X-Infermux-Error", "")
            if request.path.startswith(prefix) and request.method not in _READS and "admitted" in g:
                log_fields(log, _level(status), DoorLine("command", _command(status, code)))
            elif status >= 400:
                self.note_refused(
                    status, code or _NAMELESS.get(status, "other"), _peer(), method=request.method, path=request.path
                )
            return response

    def values(self) -> list[Value]:
        """For the metrics page."""
        said = "Requests that got an error at the door and are no inference, and heads that could not be read."
        return [
            Value("infermux_refused", count, {"status": str(status), "code": code}, COUNTER, said)
            for (status, code), count in self.refused.items()
        ]


def admit(*, by_token: bool) -> None:
    """The request under way may do what it asks for: from now on it is a command, if it changes anything."""
    g.admitted = "token" if by_token else "open"


def did(**said: Any) -> None:
    """What the command under way did, for its line: nothing secret."""
    g.did = said


def told(text: str) -> str:
    """What a caller wrote, for a line: cut, and of a key only the part that is no secret."""
    return _KEY.sub(r"\1[secret]", text)[:LONGEST]


def _command(status: int, code: str) -> dict[str, Any]:
    done = {name: told(value) if isinstance(value, str) else value for name, value in g.get("did", {}).items()}
    query = request.query_string.decode("latin-1")
    return {
        "method": request.method,
        "path": told(request.path),
        "query": told(query) if status < 400 else "",  # of parameters that a page knows
        "status": status,
        "code": code,
        **done,
        "auth": g.admitted,
        "from": _where(_peer()),
    }


def _peer() -> Peer:
    found = cast("dict[str, Any]", request.scope).get("client")
    return None if found is None else (found[0], found[1])


def _where(peer: Peer) -> str:
    if peer is None:
        return ""
    host, port = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _level(status: int) -> int:
    return logging.WARNING if status >= 500 else logging.INFO
