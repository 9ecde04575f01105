"""A gate as the management API shows it: seconds ago and seconds left instead of clock times, keys by their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .bucket import TokenBucket
from .messages import Ewma

if TYPE_CHECKING:
    from .gate import Gate


def view(gate: Gate, now: float) -> dict[str, Any]:
    """The parts of a `Description` that live in a gate."""
    window, averages, ring = gate.breaker.window, gate.averages, gate.ring
    return {
        "health": {"state": gate.health.health.value, "error": gate.unavailable or gate.health.last_error},
        "circuit": {
            "state": gate.breaker.state(now).value,
            "consecutive_failures": gate.breaker.consecutive_failures,
            "window": {"requests": window.total(now), "error_rate": round(window.error_rate(now), 4)},
        },
        "buckets": {
            "requests": _bucket(gate.requests, now),
            "tokens": _bucket(gate.tokens, now),
            "max_concurrent": gate.max_concurrent,
            "slow_start": gate.slow_start.allowed(now),
            "told": [] if gate.told is None else gate.told.statistics(now),
        },
        "keys": [] if ring is None else ring.statistics(now),
        "ewma": {
            "response": _ewma(averages.response),
            "first_token": _ewma(averages.first_token),
            "models": {model: _ewma(value) for model, value in averages.model_response.items()},
        },
        "malformed_events": gate.malformed_events,
        "transitions": _transitions(gate, now),
    }


def _transitions(gate: Gate, now: float) -> list[dict[str, Any]]:
    logs = (
        ("health", gate.health.transitions),
        ("circuit", gate.breaker.transitions),
        ("operator", gate.operator),
    )
    rows = [(t.at, of, _word(t.source), _word(t.target), t.why) for of, log in logs for t in log]
    rows.sort(key=lambda row: row[0])
    return [
        {"of": of, "from": source, "to": target, "why": why, "seconds_ago": round(now - at, 3)}
        for at, of, source, target, why in rows
    ]


def _word(state: Any) -> str:
    return state if isinstance(state, str) else str(state.value)


def _bucket(bucket: TokenBucket | None, now: float) -> dict[str, float] | None:
    return None if bucket is None else {"limit": bucket.capacity, "level": round(bucket.available(now), 3)}


def _ewma(ewma: Ewma) -> dict[str, float]:
    return {"seconds": round(ewma.value, 6), "samples": ewma.samples}
