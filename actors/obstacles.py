"""Why a provider takes no request now: one reason of several, in the order of how final they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .messages import Health, Reason
from .plan import Refusal

if TYPE_CHECKING:
    from .gate import Gate

HEALTH_REASONS: Final = {
    Health.UNKNOWN: Reason.STARTING,
    Health.UNHEALTHY: Reason.UNHEALTHY,
    Health.CONFIG_ERROR: Reason.CONFIG_ERROR,
}

NO_PART: Final = "the limit is smaller than the number of workers, and this one has no part of it"


def why_blocked(gate: Gate, now: float, *, insists: bool) -> Refusal | None:
    """The order is the order of how final it is."""
    if gate.unavailable is not None:
        return gate.because(Reason.CONFIG_ERROR, detail=gate.unavailable)
    if not gate.enabled:
        return gate.because(Reason.DISABLED)
    if gate.draining:
        return gate.because(Reason.DRAINING)
    if gate.has_no_part:  # no probe is sent then, so that nothing is known of its health
        none = gate.requests is not None and not gate.requests.capacity
        return gate.because(Reason.REQUEST_LIMIT if none else Reason.TOKEN_LIMIT, detail=NO_PART)
    reason = HEALTH_REASONS.get(gate.health.health)
    if reason is not None:
        return gate.because(reason, detail=gate.health.last_error or "")
    until = gate.breaker.blocked_until(now)
    if until > now:
        return gate.because_of_circuit(until)
    until = max(gate.cooldown.blocked_until(now), 0.0 if gate.ring is None else gate.ring.blocked_until(now))
    if until > now:
        return gate.because(Reason.COOLING_DOWN, until)
    limit = gate.max_concurrent
    if limit is not None and len(gate.leases) >= limit:
        return gate.because(Reason.CONCURRENCY)
    for bucket, why in ((gate.requests, Reason.REQUEST_LIMIT), (gate.tokens, Reason.TOKEN_LIMIT)):
        if bucket is not None and not bucket.can_take(1, now):
            return gate.because(why, bucket.ready_at(1, now))
    until = 0.0 if insists else gate.slow_start.blocked_until(now)
    return gate.because(Reason.SLOW_START, until) if until > now else None
