"""What is told of a provider, as schemas: `Description`, with what `gate_view` puts into its parts."""

from __future__ import annotations

from typing import Final

from infermux.actors.description import Description
from infermux.actors.messages import Circuit, Health, Reason
from infermux.processes import State
from infermux.providers.process.client import Speech

from .shapes import COUNT, NUMBER, SECONDS, TEXT, Schema, Types, listed, mapping, maybe, one_of, record, values_of

_EWMA: Final = record({"seconds": SECONDS, "samples": COUNT})


def provider() -> Schema:
    parts = {
        "reason": maybe(values_of(Reason)),
        "blocked_for": maybe(SECONDS),
        "health": record({"state": values_of(Health), "error": maybe(TEXT)}),
        "circuit": record(
            {
                "state": values_of(Circuit),
                "consecutive_failures": COUNT,
                "window": record({"requests": COUNT, "error_rate": {**NUMBER, "minimum": 0, "maximum": 1}}),
            }
        ),
        "buckets": _buckets(),
        "keys": listed(_credential()),
        "ewma": record({"response": _EWMA, "first_token": _EWMA, "models": mapping(_EWMA)}),
        "in_flight": COUNT,
        "malformed_events": COUNT,
        "transport": one_of(("express", "httpx", "process", "in-process")),
        "process": maybe(_process()),
        "transitions": listed(record({**transition(), "seconds_ago": SECONDS}, optional={"worker": COUNT})),
    }
    return record({name: parts.get(name, schema) for name, schema in Types().members(Description).items()})


def _process() -> Schema:
    return record(
        {
            "state": values_of(State),
            "reason": TEXT,
            "pid": maybe(COUNT),
            "socket": maybe(TEXT),
            "generation": COUNT,
            "exits": COUNT,
            "ready_for": maybe(SECONDS),
            "speaks": maybe(values_of(Speech)),
        }
    )


def _buckets() -> Schema:
    bucket = maybe(record({"limit": SECONDS, "level": NUMBER}))
    told = maybe(record({"limit": maybe(NUMBER), "remaining": NUMBER, "reset_in": NUMBER}))
    by_key = record({"key": COUNT, "model": maybe(TEXT), "requests": told, "tokens": told})
    return record(
        {
            "requests": bucket,
            "tokens": bucket,
            "max_concurrent": maybe(COUNT),
            "slow_start": maybe(COUNT),
            "told": listed(by_key),
        }
    )


def _credential() -> Schema:
    return record(
        {
            "key": {**TEXT, "description": "its place in the file"},
            "state": one_of(("ready", "resting", "retired")),
            "reason": maybe(TEXT),
            "resting_for": maybe(SECONDS),
        }
    )


def transition() -> dict[str, Schema]:
    return {"of": one_of(("health", "circuit", "operator")), "from": TEXT, "to": TEXT, "why": TEXT}
