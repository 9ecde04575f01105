"""What is told of a request, running or ended, as schemas: what `live_requests` and `explain` write."""

from __future__ import annotations

from typing import Final

from infermux.actors.phase import Phase
from infermux.actors.record import BYPASS, HIT, MISS, Ending
from infermux.errors import FailureKind, Fault

from .shapes import COUNT, FLAG, NUMBER, SECONDS, TEXT, Schema, listed, mapping, maybe, one_of, record, ref, values_of

_OUTCOMES: Final = ("ok", "cancelled", *(kind.value for kind in FailureKind))
_VERDICTS: Final = ("asked", "refused", "left_out", "not_asked")


def running() -> Schema:
    return record(
        {
            "id": TEXT,
            "state": one_of(("receiving", *(phase.value for phase in Phase))),
            "age": SECONDS,
            "endpoint": TEXT,
            "stream": FLAG,
            "caller": TEXT,
            "key": TEXT,
            "requested": TEXT,
            "provider": TEXT,
            "model": TEXT,
            "attempts": COUNT,
            "killed": FLAG,
        }
    )


def decision() -> dict[str, Schema]:
    return {
        "id": TEXT,
        "at": NUMBER,
        "endpoint": TEXT,
        "stream": FLAG,
        "caller": TEXT,
        "key": TEXT,
        "requested": TEXT,
        "provider": TEXT,
        "model": TEXT,
        "group": TEXT,
        "strategy": TEXT,
        "ending": values_of(Ending),
        "status": {"type": "integer"},
        "code": TEXT,
        "fault": one_of(("", *(fault.value for fault in Fault))),
        "tried": COUNT,
        "latency": SECONDS,
        "first_token": maybe(SECONDS),
        "prompt_tokens": maybe(COUNT),
        "completion_tokens": maybe(COUNT),
        "cost": maybe(SECONDS),
        "cache": one_of(("", HIT, MISS, BYPASS)),
    }


def explanation() -> Schema:
    """A decision with everything that led to it; while the request runs it has no ending and no status."""
    attempt = {
        "provider": TEXT,
        "model": TEXT,
        "started": SECONDS,
        "ended": SECONDS,
        "first_token": maybe(SECONDS),
        "outcome": one_of((*_OUTCOMES, "running")),
        "status": maybe({"type": "integer"}),
        "usage": maybe(ref("Usage")),
        "cost": maybe(SECONDS),
        "probe": FLAG,
    }
    more = {
        "ending": one_of(("", *(ending.value for ending in Ending))),
        "status": maybe({"type": "integer"}),
        "state": one_of(("running", "ended")),
        "message": TEXT,
        "tags": mapping(TEXT),
        "waited": SECONDS,
        "overhead": SECONDS,
        "scores": mapping(TEXT),
        "candidates": listed(_candidate()),
        "attempts": listed(record(attempt)),
    }
    return record({**decision(), **more})


def _candidate() -> Schema:
    known = {
        "latency": maybe(SECONDS),
        "first_token": maybe(SECONDS),
        "samples": COUNT,
        "penalty": SECONDS,
        "load": NUMBER,
        "weight": NUMBER,
        "input_per_million": maybe(SECONDS),
        "output_per_million": maybe(SECONDS),
    }
    return record(
        {
            "tier": {"type": "integer", "minimum": 1},
            "strategy": TEXT,
            "group": TEXT,
            "provider": TEXT,
            "model": TEXT,
            "place": maybe({"type": "integer", "minimum": 1}),
            "score": maybe(NUMBER),
            "explore": FLAG,
            "known": {"anyOf": [record(known), record({})]},
            "verdict": one_of(_VERDICTS),
            "reason": TEXT,
            "detail": TEXT,
        }
    )
