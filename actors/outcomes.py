"""What the end of an attempt or a probe says of its provider: circuit, health, keys, averages, how it comes back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from infermux.errors import FailureKind, UpstreamFailure

from .lease import Lease
from .messages import Health, Outcome

if TYPE_CHECKING:
    from .gate import Gate

BREAKER_FAILURES: Final = frozenset(
    {
        FailureKind.CONNECT,
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.FIRST_TOKEN_TIMEOUT,
        FailureKind.IDLE_TIMEOUT,
        FailureKind.TOTAL_TIMEOUT,
        FailureKind.SERVER_ERROR,
        FailureKind.BROKEN,
        FailureKind.MALFORMED,
    }
)


OVERLOADED: Final = frozenset({503, 529})
_AWAY: Final = frozenset({Health.UNHEALTHY, Health.CONFIG_ERROR})


def worked(gate: Gate, lease: Lease, latency: float, now: float) -> None:
    """A request succeeded, as far as the circuit asks: where that closes it the provider comes back slowly."""
    breaker = gate.breaker
    was_closed = breaker.is_closed
    breaker.record_success(now, latency, probe=lease.probe, epoch=lease.epoch)
    if breaker.is_closed is was_closed:
        return
    if gate.moved is not None:
        gate.moved()
    if not was_closed:
        gate.slow_start.begin(now)


def succeeded(gate: Gate, lease: Lease, outcome: Outcome, now: float) -> None:
    """An attempt ended well."""
    model, first_token = lease.model, outcome.first_token
    if not gate.slow_start.is_over:
        gate.slow_start.ended(lease.granted_at, well=True, now=now)
    worked(gate, lease, outcome.latency, now)
    gate.penalty.succeeded()
    if gate.ring is None:
        gate.cooldown.succeeded(now)
    elif lease.key_index is not None:
        gate.ring.succeeded(lease.key_index, now)
    health = gate.health
    was = health.health
    health.note_success(now)
    if health.health is not was:
        _health_moved(gate, was, now)
        if gate.moved is not None:
            gate.moved()
    averages, settings = gate.averages, gate.routing.least_latency
    # Who explores a provider that has its samples is there because nobody was for long.
    renewed = lease.explore and averages.response.samples >= settings.min_samples
    averages.observe(model, outcome.latency, first_token, settings.ewma_decay, renewed=renewed)
    if gate.adaptive is not None:
        latency = outcome.latency if first_token is None else first_token
        gate.adaptive.succeeded(latency, (model, first_token is None), lease.granted_at, now)
    usage = outcome.usage
    if usage is not None and not usage.estimated:
        gate.learned.observe(model, usage.completion_tokens)


def _health_moved(gate: Gate, was: Health, now: float) -> None:
    if was in _AWAY and gate.health.passes:
        gate.slow_start.begin(now)


def ended_otherwise(gate: Gate, lease: Lease, outcome: Outcome, now: float) -> None:
    """An attempt failed, or was cancelled."""
    if gate.moved is not None:
        gate.moved()
    failure = outcome.failure
    badly = failure in BREAKER_FAILURES
    gate.slow_start.ended(lease.granted_at, well=False, now=now, badly=badly)
    if failure is not None and gate.adaptive is not None and _speaks_of_load(failure, outcome.status):
        gate.adaptive.refused(lease.granted_at, now)
    if badly:
        gate.breaker.record_failure(now, probe=lease.probe, epoch=lease.epoch)
        gate.penalty.failed(now)
        return
    if lease.probe:
        gate.breaker.release_probe(now, epoch=lease.epoch)
    if failure is FailureKind.RATE_LIMITED:
        _rate_limited(gate, lease, outcome.retry_after, now)
    elif failure is FailureKind.CREDENTIALS:
        _refused_credentials(gate, lease, outcome.status, now)
    elif failure is FailureKind.MODEL_NOT_FOUND:
        gate.set_aside.set_aside(lease.model, now)


def _rate_limited(gate: Gate, lease: Lease, retry_after: float | None, now: float) -> None:
    """The key rests; with it the provider, where it is the only one, or the last that did not."""
    if gate.ring is None or lease.key_index is None:
        gate.slow_start.begin(gate.cooldown.rate_limited(now, retry_after))
        return
    gate.ring.rate_limited(lease.key_index, now, retry_after)
    until = gate.ring.blocked_until(now)
    if now < until < math.inf:
        gate.slow_start.begin(until)


def _refused_credentials(gate: Gate, lease: Lease, status: int | None, now: float) -> None:
    if gate.ring is not None and lease.key_index is not None:
        gate.ring.retire(lease.key_index, f"the provider answered {status} to it", now)
        if not gate.ring.all_retired:
            return
        if gate.is_unchecked:  # nothing would ever bring them back
            gate.ring.restore_all()
    gate.health.note_credentials_refused(now, f"the provider answered {status} to our credentials")


def probed(gate: Gate, failure: UpstreamFailure | None, key: int | None, now: float) -> None:
    """A health probe ended; see `Gate.probe_ended`."""
    if gate.moved is not None:
        gate.moved()
    ring, was = gate.ring, gate.health.health
    if ring is not None and key is not None:
        if failure is None:
            ring.restore(key)
        elif failure.kind is FailureKind.CREDENTIALS:
            ring.retire(key, failure.message, now)
            if not ring.all_retired:
                return
        elif key in ring.retired() and not ring.all_retired:
            ring.looked(key, now)  # whether the key is good is as open as before
            return
    if failure is not None:
        gate.health.probe_failed(now, failure.kind, failure.message)
        return
    gate.health.probe_succeeded(now)
    _health_moved(gate, was, now)


def _speaks_of_load(failure: FailureKind, status: int | None) -> bool:
    return failure is FailureKind.RATE_LIMITED or status in OVERLOADED or failure.is_timeout
