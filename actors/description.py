"""A provider as it is described to people and machines."""

from __future__ import annotations

import math
from typing import Any

import attrs

from infermux.providers.interface import Adapter, describing, lasting

from .gate import Gate
from .gate_view import view
from .messages import Reason


@attrs.frozen(kw_only=True)
class Description:
    """All that can be told about a provider, as of now. Times are seconds; levels are what the buckets hold."""

    name: str
    type: str
    routable: bool
    reason: str | None
    blocked_for: float | None
    health: dict[str, Any]
    circuit: dict[str, Any]
    buckets: dict[str, Any]
    keys: list[dict[str, Any]]
    ewma: dict[str, Any]
    in_flight: int
    malformed_events: int
    models: list[str] | None
    aliases: dict[str, str]
    transport: str
    process: dict[str, Any] | None  # of a provider that is one: its state, pid, socket, starts and exits
    transitions: list[dict[str, Any]]


def describe(gate: Gate, adapter: Adapter, now: float, *, crashed: bool = False) -> Description:
    """A provider as of `now`; `crashed`: its actor is down, whatever else stands in the way."""
    settings = gate.settings
    standing = gate.standing(now)
    reason = Reason.CRASHED if crashed else standing.reason if now < standing.blocked_until else None
    left = standing.blocked_until - now
    part = lasting(adapter)
    return Description(
        name=settings.name,
        type=settings.type,
        routable=reason is None,
        reason=None if reason is None else reason.value,
        blocked_for=round(left, 3) if reason is not None and not crashed and math.isfinite(left) else None,
        transport=adapter.transport,
        process=None if part is None else dict(part.statistics()),
        models=_models(gate, adapter),
        aliases=dict(settings.model_aliases),
        in_flight=standing.in_flight,
        **view(gate, now),
    )


def _models(gate: Gate, adapter: Adapter) -> list[str] | None:
    """What it serves: as it is declared, or as it says itself; None: any model."""
    if gate.settings.models is not None:
        return list(gate.settings.models)
    if gate.found_models is None or describing(adapter) is None:
        return None
    return [info.id for info in gate.found_models]
