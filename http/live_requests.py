"""The requests that are served at the moment: what an operator sees of them, and ending one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import trio
from quart_trio import QuartTrio

from infermux.actors.draft import LONGEST_MODEL, Draft
from infermux.errors import Conflict, NotFound, RequestKilled

from .inference import Inference

MOST = 500  # rows of one answer, the oldest requests first


def add_requests(app: QuartTrio, inference: Inference, prefix: str) -> None:
    """`GET PREFIX/requests` and `DELETE PREFIX/requests/ID`."""

    @app.get(f"{prefix}/requests")
    async def requests() -> dict[str, Any]:
        return {"running": len(inference.running), "requests": list(live(inference, MOST))}

    @app.delete(f"{prefix}/requests/<path:request_id>")
    async def kill(request_id: str) -> dict[str, Any]:
        return {"id": request_id, "killed": killed(inference, request_id)}


def live(inference: Inference, most: int) -> Iterator[dict[str, Any]]:
    """The oldest `most` of them. `state` is `receiving`, or a phase of the run; times in seconds."""
    now = trio.current_time()
    return (row(draft, now) for draft in islice(inference.running, most))


def row(draft: Draft, now: float) -> dict[str, Any]:
    run = draft.run
    lease = None if run is None else run.lease
    return {
        "id": draft.id.decode("ascii", "replace"),
        "state": "receiving" if run is None else run.phase.value,
        "age": round(now - draft.began, 3),
        "endpoint": draft.endpoint,
        "stream": run is not None and run.call.stream,
        "caller": draft.who.caller,
        "key": draft.who.key,
        "requested": "" if run is None else run.want.model[:LONGEST_MODEL],
        "provider": "" if lease is None else lease.provider,
        "model": "" if lease is None else lease.model[:LONGEST_MODEL],
        "attempts": 0 if run is None else run.attempts,
        "killed": draft.killed is not None,
    }


def find(inference: Inference, request_id: str) -> list[Draft]:
    """Those of that id: callers may give several requests the same one."""
    wanted = request_id.encode("utf-8", "replace")
    return [draft for draft in inference.running if draft.id == wanted]


def killed(inference: Inference, request_id: str) -> int:
    """End the requests of that id; how many. NotFound: none runs. Conflict: its whole answer is on its way out."""
    found = find(inference, request_id)
    if not found:
        raise NotFound(f"no request {request_id[:128]!r} is running")
    error = RequestKilled("an operator of this router ended the request; do not send it again unchanged")
    count = sum([draft.kill(error) for draft in found])
    if not count:
        raise Conflict(f"the answer to {request_id[:128]!r} is complete and on its way out")
    return count
