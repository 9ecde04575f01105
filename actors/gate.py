"""Whether a provider takes a request, and what outcomes do to that: pure state, no trio, the time is an argument."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import attrs
import msgspec

from infermux.config.settings import ProbeMethod, ProviderSettings, Routing
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Usage

from .breaker import Breaker
from .bucket import TokenBucket, resized
from .cooldown import Cooldown, SetAside
from .ewma import observe
from .health import HealthState
from .learned import LearnedTokens
from .lease import Lease
from .messages import Ewma, Health, Outcome, Reason, Standing, Want
from .penalty import Penalty
from .plan import Refusal
from .transition import KEPT, Transition

KEPT_MODELS = 256  # of an open-ended provider: averages per model are bounded
WHOLE_PROBE_FACTOR = 3.0

BREAKER_FAILURES = frozenset(
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


class Grant(msgspec.Struct, frozen=True):
    """What an admitted request gets: tokens reserved, whether it is the half-open probe, its bound in seconds."""

    reserved: int
    probe: bool
    bound: float | None
    epoch: int


@attrs.define(eq=False)
class Gate:
    """One provider's admission: health, circuit, limits, cool-down, averages and the leases that are out.

    Invariants: `admit` takes from every bucket or from none; every lease in `leases` is settled exactly once;
    at most one lease at a time is the half-open probe, and at most one explores.
    """

    settings: ProviderSettings
    routing: Routing = attrs.field(factory=Routing)
    unavailable: str | None = None  # why this provider can never be used as it is declared
    leases: set[Lease] = attrs.field(factory=set)
    seen: int = 0
    life: int = 0
    enabled: bool = True
    draining: bool = False
    response: Ewma = Ewma()
    first_token: Ewma = Ewma()
    _model_response: dict[str, Ewma] = attrs.field(factory=dict)
    _model_first_token: dict[str, Ewma] = attrs.field(factory=dict)
    health: HealthState = attrs.field(init=False)
    breaker: Breaker = attrs.field(init=False)
    requests: TokenBucket | None = attrs.field(init=False)
    tokens: TokenBucket | None = attrs.field(init=False)
    cooldown: Cooldown = attrs.field(factory=Cooldown)
    set_aside: SetAside = attrs.field(factory=SetAside)
    learned: LearnedTokens = attrs.field(factory=LearnedTokens)
    penalty: Penalty = attrs.field(factory=Penalty)
    found_models: tuple[str, ...] = ()  # what an open-ended provider lists itself
    _operator: deque[Transition[str]] = attrs.field(factory=lambda: deque[Transition[str]](maxlen=KEPT))
    _exploring: int = 0
    _strangers: set[Lease] = attrs.field(factory=set)  # leases on what the provider was before it was renewed

    def __attrs_post_init__(self) -> None:
        limits = self.settings.rate_limits
        self.health = HealthState(disabled=self._is_unchecked)
        self.breaker = Breaker(self.settings.circuit_breaker)
        self.requests = TokenBucket(limits.requests_per_minute) if limits.requests_per_minute else None
        self.tokens = TokenBucket(limits.tokens_per_minute) if limits.tokens_per_minute else None

    @property
    def _is_unchecked(self) -> bool:
        check = self.settings.health_check
        return check.disabled or check.method is ProbeMethod.NONE

    # Another declaration of the same provider.

    def adopt(self, settings: ProviderSettings, unavailable: str | None, now: float, *, renewed: bool) -> None:
        """Go on by other settings. Limits keep their level, leases count on, and the operator's word holds.

        `renewed`: it may be another upstream. Health, circuit, cool-down and averages begin anew, and of what is still
        in flight only the limits are settled.
        """
        self.settings, self.unavailable = settings, unavailable
        self._inherit_limits(self, now)
        if renewed:
            self._begin_anew(now)
            return
        if (self.health.health is Health.UNCHECKED) is not self._is_unchecked:
            self.health = HealthState(disabled=self._is_unchecked)
        self.breaker.adopt(settings.circuit_breaker)

    def inherit(self, other: Gate, now: float) -> None:
        """Take over the limits of a provider of this name that was taken out: coming back must not refill them."""
        self._inherit_limits(other, now)

    def is_settled(self, now: float) -> bool:
        """True when nothing of its limits is used up."""
        return all(bucket is None or bucket.is_full(now) for bucket in (self.requests, self.tokens))

    def _inherit_limits(self, other: Gate, now: float) -> None:
        limits = self.settings.rate_limits
        self.requests = resized(other.requests, limits.requests_per_minute, now)
        self.tokens = resized(other.tokens, limits.tokens_per_minute, now)

    def _begin_anew(self, now: float) -> None:
        self.health = HealthState(disabled=self._is_unchecked)
        self.breaker = Breaker(self.settings.circuit_breaker)
        self.cooldown, self.set_aside = Cooldown(), SetAside()
        self.learned, self.penalty = LearnedTokens(), Penalty()
        self.response = self.first_token = Ewma()
        self._model_response, self._model_first_token = {}, {}
        self.found_models = ()
        self._strangers = set(self.leases)
        self._operator.append(Transition(now, "", "renewed", "declared anew"))

    # Admission.

    def admit(self, want: Want, model: str, now: float) -> Grant | Refusal:
        """A grant, everything it needs taken, or why not. Whoever makes a lease of it gives it to `add`."""
        blocked = self._blocked(now) or self._blocked_for_model(model, now)
        if blocked is not None:
            return blocked
        reserved = 0
        if self.tokens is not None:
            reserved = self.learned.reservation(model, want.prompt_tokens, want.max_tokens, self.tokens.capacity)
            if not self.tokens.can_take(reserved, now):
                return self._refusal(Reason.TOKEN_LIMIT, self.tokens.ready_at(reserved, now))
        admission = self.breaker.admit(now)
        if not admission.admitted:
            return self._circuit_refusal(admission.blocked_until)
        if self.requests is not None:
            self.requests.take(1, now)
        if self.tokens is not None:
            self.tokens.take(reserved, now)
        bound = self._probe_bound(model) if admission.probe else None
        return Grant(reserved, admission.probe, bound, admission.epoch)

    def add(self, lease: Lease) -> None:
        """A grant became a lease that somebody holds."""
        self.leases.add(lease)
        self._exploring += lease.explore

    def _blocked(self, now: float) -> Refusal | None:
        """What keeps every request out, whatever its model and size."""
        requests, tokens = self.requests, self.tokens
        limit = self.settings.rate_limits.max_concurrent
        if (
            self.enabled
            and not self.draining
            and self.unavailable is None
            and self.health.health not in _HEALTH_REASONS
            and self.breaker.is_closed
            and now >= self.cooldown.blocked_until(now)
            and (limit is None or len(self.leases) < limit)
            and (requests is None or requests.can_take(1, now))
            and (tokens is None or tokens.can_take(1, now))
        ):
            return None
        return self._why_blocked(now)

    def _why_blocked(self, now: float) -> Refusal | None:
        """The order is the order of how final it is."""
        if self.unavailable is not None:
            return self._refusal(Reason.CONFIG_ERROR, detail=self.unavailable)
        if not self.enabled:
            return self._refusal(Reason.DISABLED)
        if self.draining:
            return self._refusal(Reason.DRAINING)
        reason = _HEALTH_REASONS.get(self.health.health)
        if reason is not None:
            return self._refusal(reason, detail=self.health.last_error or "")
        until = self.breaker.blocked_until(now)
        if until > now:
            return self._circuit_refusal(until)
        until = self.cooldown.blocked_until(now)
        if until > now:
            return self._refusal(Reason.COOLING_DOWN, until)
        limit = self.settings.rate_limits.max_concurrent
        if limit is not None and len(self.leases) >= limit:
            return self._refusal(Reason.CONCURRENCY)
        for bucket, why in ((self.requests, Reason.REQUEST_LIMIT), (self.tokens, Reason.TOKEN_LIMIT)):
            if bucket is not None and not bucket.can_take(1, now):
                return self._refusal(why, bucket.ready_at(1, now))
        return None

    def refusal(self, now: float) -> str | None:
        """Why nothing goes to this provider now, in words; None when it is routable."""
        blocked = self._blocked(now)
        if blocked is None:
            return None
        return f"{blocked.reason.value}: {blocked.detail}" if blocked.detail else blocked.reason.value

    def _blocked_for_model(self, model: str, now: float) -> Refusal | None:
        if not self.set_aside:
            return None
        until = self.set_aside.blocked_until(model, now)
        return self._refusal(Reason.MODEL_SET_ASIDE, until, model) if now < until else None

    def _circuit_refusal(self, until: float) -> Refusal:
        return self._refusal(Reason.CIRCUIT_OPEN if math.isfinite(until) else Reason.PROBING, until)

    def _refusal(self, reason: Reason, until: float = math.inf, detail: str = "") -> Refusal:
        return Refusal(self.settings.name, reason, until, detail)

    def _probe_bound(self, model: str) -> float:
        """Seconds a half-open probe has to its first token.

        `probe_timeout`, or three times the usual response where that is longer: a whole answer has no earlier first
        token, and a provider that always takes 20 s would otherwise never close its circuit again.
        """
        usual = self._model_response.get(model, self.response).value
        return max(self.settings.circuit_breaker.probe_timeout, WHOLE_PROBE_FACTOR * usual)

    @property
    def is_explored(self) -> bool:
        return self._exploring > 0

    # Outcomes.

    def take_back(self, lease: Lease, now: float) -> None:
        """The lease never reached its asker: as if it had not been granted."""
        self.settle(lease, Outcome(cancelled=True, sent=False), now)

    def probe_passed(self, lease: Lease, latency: float, now: float) -> None:
        """The half-open probe has its first token: the circuit closes, and the lease goes on as any other."""
        if lease in self.leases and lease.probe and lease not in self._strangers:
            lease.probe = False
            self.breaker.record_success(now, latency, probe=True, epoch=lease.epoch)

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Account for one attempt: limits to what was truly used, circuit, averages and health by how it ended."""
        if lease not in self.leases:
            return
        self.leases.discard(lease)
        self._exploring -= lease.explore
        self._settle_limits(lease, outcome, now)
        if lease in self._strangers:
            self._strangers.discard(lease)
            return
        if outcome.failure is None and not outcome.cancelled:
            self._succeeded(lease, outcome, now)
        else:
            self._ended_otherwise(lease, outcome, now)

    def _settle_limits(self, lease: Lease, outcome: Outcome, now: float) -> None:
        if self.requests is not None and not outcome.sent:
            self.requests.settle(1, 0, now)
        if self.tokens is not None:
            used = outcome.usage.total if outcome.usage is not None else 0
            self.tokens.settle(lease.reserved, used, now)

    def _succeeded(self, lease: Lease, outcome: Outcome, now: float) -> None:
        model = lease.model
        decay = self.routing.least_latency.ewma_decay
        self.breaker.record_success(now, outcome.latency, probe=lease.probe, epoch=lease.epoch)
        self.cooldown.succeeded(now)
        self.health.note_success(now)
        self.response = observe(self.response, outcome.latency, decay)
        _observe_model(self._model_response, model, outcome.latency, decay)
        if outcome.first_token is not None:
            self.first_token = observe(self.first_token, outcome.first_token, decay)
            _observe_model(self._model_first_token, model, outcome.first_token, decay)
        if outcome.usage is not None and not outcome.usage.estimated:
            self.learned.observe(model, outcome.usage.completion_tokens)

    def _ended_otherwise(self, lease: Lease, outcome: Outcome, now: float) -> None:
        failure = outcome.failure
        if failure in BREAKER_FAILURES:
            self.breaker.record_failure(now, probe=lease.probe, epoch=lease.epoch)
            self.penalty.failed(now)
            return
        if lease.probe:
            self.breaker.release_probe(now, epoch=lease.epoch)
        if failure is FailureKind.RATE_LIMITED:
            self.cooldown.rate_limited(now, outcome.retry_after)
        elif failure is FailureKind.CREDENTIALS:
            self.health.note_credentials_refused(now, f"the provider answered {outcome.status} to our credentials")
        elif failure is FailureKind.MODEL_NOT_FOUND:
            self.set_aside.set_aside(lease.model, now)

    # Probes and the operator.

    def reserve_probe(self, tokens: int, now: float) -> float:
        """Take what a probe draws from the buckets; the time at which it may go (now, or when the buckets cover it)."""
        at = now
        for bucket, amount in ((self.requests, 1), (self.tokens, tokens)):
            if bucket is not None:
                at = max(at, bucket.ready_at(amount, now))
        for bucket, amount in ((self.requests, 1), (self.tokens, tokens)):
            if bucket is not None:
                # Drawn at once, as a debt where they are short: traffic cannot overtake a probe that waits.
                bucket.settle(0, min(amount, bucket.capacity), now)
        return at

    def probe_ended(self, failure: UpstreamFailure | None, usage: Usage | None, reserved: int, now: float) -> None:
        """A health probe's result: all but a success exclude the provider, 401/402/403 as a configuration error."""
        if self.tokens is not None:
            self.tokens.settle(min(reserved, self.tokens.capacity), usage.total if usage else 0, now)
        if failure is None:
            self.health.probe_succeeded(now)
        else:
            self.health.probe_failed(now, failure.kind, failure.message)

    def enable(self, now: float) -> None:
        self._operate(now, "enabled", enabled=True, draining=False)

    def disable(self, now: float) -> None:
        self._operate(now, "disabled", enabled=False, draining=self.draining)

    def drain(self, now: float) -> None:
        """Take nothing new; what is in flight ends by itself."""
        self._operate(now, "draining", enabled=self.enabled, draining=True)

    def _operate(self, now: float, target: str, *, enabled: bool, draining: bool) -> None:
        source = "disabled" if not self.enabled else "draining" if self.draining else "enabled"
        self.enabled, self.draining = enabled, draining
        if source != target:
            self._operator.append(Transition(now, source, target, "operator"))

    def reset(self, now: float) -> None:
        """Forget circuit, cool-down, set-aside models and penalty. Limits stay: what was used was used."""
        self.breaker.reset(now)
        self.cooldown.reset()
        self.set_aside.clear()
        self.penalty.reset()
        self._operator.append(Transition(now, "", "reset", "operator"))

    # What is published.

    def standing(self, now: float) -> Standing:
        """The frozen picture the router and the management API read."""
        blocked = self._blocked(now)
        return Standing(
            reason=blocked.reason if blocked else None,
            blocked_until=blocked.until if blocked else 0.0,
            health=self.health.health,
            circuit=self.breaker.state(now),
            in_flight=len(self.leases),
            seen=self.seen,
            life=self.life,
            exploring=self.is_explored,
            penalty=self.penalty.level,
            penalty_at=self.penalty.at,
            response=self.response,
            first_token=self.first_token,
            model_response=self._model_response,
            model_first_token=self._model_first_token,
        )

    def describe(self, now: float) -> dict[str, Any]:
        """The parts of a `Description` that live here; seconds ago instead of clock times."""
        window = self.breaker.window
        return {
            "health": {"state": self.health.health.value, "error": self.unavailable or self.health.last_error},
            "circuit": {
                "state": self.breaker.state(now).value,
                "consecutive_failures": self.breaker.consecutive_failures,
                "window": {"requests": window.total(now), "error_rate": round(window.error_rate(now), 4)},
            },
            "buckets": {
                "requests": _bucket(self.requests, now),
                "tokens": _bucket(self.tokens, now),
                "max_concurrent": self.settings.rate_limits.max_concurrent,
            },
            "ewma": {
                "response": _ewma(self.response),
                "first_token": _ewma(self.first_token),
                "models": {model: _ewma(value) for model, value in self._model_response.items()},
            },
            "transitions": self._transitions(now),
        }

    def _transitions(self, now: float) -> list[dict[str, Any]]:
        logs = (
            ("health", self.health.transitions),
            ("circuit", self.breaker.transitions),
            ("operator", self._operator),
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


def _observe_model(averages: dict[str, Ewma], model: str, sample: float, decay: float) -> None:
    if model not in averages and len(averages) >= KEPT_MODELS:
        averages.pop(next(iter(averages)))
    averages[model] = observe(averages.get(model, Ewma()), sample, decay)


_HEALTH_REASONS = {
    Health.UNKNOWN: Reason.STARTING,
    Health.UNHEALTHY: Reason.UNHEALTHY,
    Health.CONFIG_ERROR: Reason.CONFIG_ERROR,
}
