"""Whichever worker is asked answers for all: it asks each of them, itself too, and makes one answer of theirs.

What reads is merged, what commands goes to everybody. A worker that does not answer in a second is named as such in
`workers_missing` and holds nobody up; metrics have what it had counted before, see `last_pages`. Pages that are the
same everywhere (the configuration, costs, prices, the files of the dashboard) are answered by the worker that was
asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from infermux.actors.key_table import LOOK_EVERY
from infermux.actors.keys import Keys
from infermux.errors import InvalidRequest

from . import combining
from .combining import Said
from .door_log import did
from .last_pages import last_pages
from .live_requests import MOST
from .merged_events import merged_events
from .polled import METRICS, Page
from .siblings import ANSWERS_WITHIN, COMMAND_WITHIN, Siblings, Told

log = logging.getLogger("infermux.workers")

MISSING: Final = "workers_missing"
LOOK: Final = "/keys-changed"  # below the prefix, among workers only

_COMMAND: Final = "/providers/<name>/<verb>"

Merge = Callable[[Said], Any]


def _ready(said: Said) -> Any:
    return next((each for _, each in said if each["ready"]), said[0][1])


def _killed(said: Said) -> Any:
    return {"id": said[0][1]["id"], "killed": sum(each["killed"] for _, each in said)}


def _explained(said: Said) -> Any:
    place, first = said[0]
    return {**first, "worker": place}


def _listed(said: Said) -> Any:
    return {"providers": combining.providers(said)}


def _decisions(said: Said) -> Any:
    given = request.args.get("limit", "50")
    return combining.decisions(said, int(given) if given.isdigit() else 50)


_READ: Final[dict[str, Merge]] = {
    "/ready": _ready,
    "/status": combining.status,
    "/providers": _listed,
    "/providers/<name>": combining.provider,
    "/requests": partial(combining.requests, most=MOST),
    "/explain": _decisions,
    "/explain/<path:request_id>": _explained,
    "/keys": combining.keys,
    "/keys/<key:name>": combining.key,
    "/budgets": combining.budgets,
    "/cache": combining.cache,
    "/overview": combining.overview,
}
_COMMANDS: Final[dict[tuple[str, str], Merge]] = {
    ("POST", _COMMAND): combining.provider,
    ("DELETE", "/requests/<path:request_id>"): _killed,
    ("DELETE", "/cache"): combining.cache,
}


def add_merged(app: QuartTrio, siblings: Siblings, nursery: trio.Nursery, prefix: str) -> None:
    """Answer for all workers, before the pages of `app` would for this one. To be added after its guard.

    What follows the workers' events runs in `nursery`.
    """

    @app.before_request
    async def merged() -> Response | None:
        rule = request.url_rule
        if rule is None:
            return None
        page, method = rule.rule.removeprefix(prefix), request.method
        if page == "/events" and method == "GET":
            return Response(
                merged_events(siblings, f"{prefix}/events", nursery),
                content_type="text/event-stream",
                headers={"Cache-Control": "no-store"},
            )
        if page == "/reload" and method == "POST":
            return await _reloaded(siblings)
        return await _asked(siblings, page, method)

    @app.after_request
    async def tell_of_keys(response: Response) -> Response:
        changing = request.method in ("POST", "DELETE") and response.status_code < 400
        if changing and request.path.startswith(f"{prefix}/keys"):
            told = await siblings.ask_all("POST", f"{prefix}{LOOK}")
            missing = [place for place, each in enumerate(told) if each is None or not each.ok]
            if missing:
                log.warning(
                    "workers %s have not looked at the keys yet: they do so within %g s of when they can",
                    ", ".join(map(str, missing)),
                    LOOK_EVERY,
                )
            if response.is_json:
                response.set_data(msgspec.json.encode({**await response.get_json(), MISSING: missing}))
        return response


def add_look(app: QuartTrio, keys_of: Callable[[], Keys | None], prefix: str) -> None:
    """By which a worker learns that another one has changed a key, and looks at the store at once."""

    @app.post(f"{prefix}{LOOK}")
    async def keys_changed() -> dict[str, Any]:
        keys = keys_of()
        if keys is not None:
            await keys.look()
        return {}


async def _asked(siblings: Siblings, page: str, method: str) -> Response | None:
    if method in ("GET", "HEAD"):
        merge = _READ.get(page)
        told = None if merge is None else await siblings.ask_all("GET", _target())
    else:
        merge = _COMMANDS.get((method, page))
        within = _within()
        told = None if merge is None else await siblings.ask_all(method, _target(), within=within)
    if merge is None or told is None:
        return None
    good = [(each.place, each.json) for each in told if each is not None and each.ok]
    if not good:
        return _refused(told)
    whole = merge(good)
    missing = whole[MISSING] = [place for place, each in enumerate(told) if each is None]
    if page == _COMMAND:
        asked = request.view_args or {}
        await siblings.commanded(asked["name"], asked["verb"], missing)
    return Response(msgspec.json.encode(whole), content_type="application/json")


def _within() -> float:
    return COMMAND_WITHIN if request.path.endswith("/probe") else ANSWERS_WITHIN


def _refused(told: Sequence[Told | None]) -> Response | None:
    """What they all refuse: that it is not there says least. None: nobody answers, and this one does so alone."""
    answers = [each for each in told if each is not None]
    if not answers:
        return None
    worst = min(answers, key=lambda each: each.status == 404)
    return Response(worst.body, status=worst.status, headers=worst.headers)


def _target() -> str:
    """What this one was asked for, for the others to read as it has. Its path has been decoded."""
    path, query = quote(request.path), request.query_string.decode("latin-1")
    return f"{path}?{query}" if query else path


async def merged_metrics(siblings: Siblings, accept: str, *, prefix: str) -> Page:
    """One page of all workers' metrics. Of one that does not answer it has what it had counted when it last did."""
    told = await siblings.ask_all("GET", f"{prefix}{METRICS}")
    pages = [each.body for each in told if each is not None and each.ok]
    missing = [siblings.last_page(place) for place, each in enumerate(told) if each is None or not each.ok]
    more = combining.counted(siblings.of, len(pages))

    def merge() -> tuple[bytes, str]:
        return combining.metrics([page.decode() for page in pages], more, accept, last_pages(missing))

    return Page(*await trio.to_thread.run_sync(merge))


async def _reloaded(siblings: Siblings) -> Response:
    given = request.args.get("dry_run", "false").lower()
    if given not in ("true", "1", "", "false", "0"):
        raise InvalidRequest("dry_run must be true or false", param="dry_run")
    told = await siblings.reload(given not in ("false", "0"))
    did(changes=told["summary"])
    return Response(msgspec.json.encode(told), content_type="application/json")
