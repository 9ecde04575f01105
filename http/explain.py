"""Why a request went where it did: `GET /_infermux/explain/ID`, and a list of the last ones."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from quart import request
from quart_trio import QuartTrio

from infermux.actors.decisions import Decision, decided
from infermux.actors.draft import Draft
from infermux.actors.explain import brief, explained
from infermux.errors import InvalidRequest, NotFound

from .inference import Inference
from .live_requests import find

LISTED = 50


def add_explain(app: QuartTrio, inference: Inference, prefix: str) -> None:
    """The pages below `PREFIX/explain`."""

    @app.get(f"{prefix}/explain")
    async def decisions() -> dict[str, Any]:
        kept = inference.decisions
        return {"kept": kept.kept, "decisions": [brief(each.record) for each in kept.latest(_limit(kept.kept))]}

    @app.get(f"{prefix}/explain/<path:request_id>")
    async def explain(request_id: str) -> dict[str, Any]:
        return explanation(inference, request_id)


def explanation(inference: Inference, request_id: str) -> dict[str, Any]:
    """Of a request that runs, or of the last one of that id that has ended. NotFound."""
    running = find(inference, request_id)
    if running:
        return explained(_so_far(running[-1]), running=True)
    decision = inference.decisions.of(request_id)
    if decision is None:
        raise NotFound(
            f"nothing is known of a request {request_id[:128]!r}: the last {inference.decisions.kept} are kept, "
            "and those before a restart are gone"
        )
    return explained(decision)


def _so_far(draft: Draft) -> Decision:
    """A record is made for what has ended: here some attempts have not."""
    run, record = draft.run, draft.record()
    trail = [] if run is None else run.trail
    attempts = tuple(
        [
            replace(tried, outcome="running") if lease.outcome is None else tried
            for tried, lease in zip(record.attempts, trail, strict=True)
        ]
    )
    return decided(replace(record, attempts=attempts), run)


def _limit(most: int) -> int:
    given = request.args.get("limit", str(LISTED))
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= most):
        raise InvalidRequest(f"limit must be a number from 1 to {most}", param="limit")
    return int(given)
