"""Whether a provider takes a request, and what outcomes do to that: pure state, no trio, the time is an argument."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import attrs

from infermux.config.settings import ProbeMethod, ProviderSettings, Routing
from infermux.errors import UpstreamFailure
from infermux.providers.interface import ModelInfo, Usage
from infermux.providers.ratelimits import Quotas

from .averages import Averages
from .breaker import Breaker
from .bucket import Buckets, TokenBucket, resized
from .concurrency import AdaptiveLimit
from .cooldown import Cooldown, SetAside
from .health import HealthState
from .keyring import KeyRing
from .learned import LearnedTokens
from .learned_limits import LearnedLimits, Mark
from .lease import Grant, Lease
from .messages import Health, Outcome, Reason, Standing, Want
from .obstacles import why_blocked
from .outcomes import ended_otherwise, probed, succeeded, worked
from .penalty import Penalty
from .plan import AS_IT_TOLD, Refusal
from .share import WHOLE, Share
from .slow_start import SlowStart
from .transition import KEPT, Transition

WHOLE_PROBE_FACTOR = 3.0


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
    share: Share = WHOLE  # what is ours of its limits
    buckets: Buckets | None = None  # where its limits are shared by way of Redis
    moved: Callable[[], None] | None = None  # told when circuit, cool-down or health may be others
    enabled: bool = True
    draining: bool = False
    averages: Averages = attrs.field(factory=Averages)
    health: HealthState = attrs.field(init=False)
    breaker: Breaker = attrs.field(init=False)
    requests: TokenBucket | None = attrs.field(init=False)
    tokens: TokenBucket | None = attrs.field(init=False)
    adaptive: AdaptiveLimit | None = None  # where `max_concurrent` is to be found out
    _fixed_limit: int | None = None
    ring: KeyRing | None = None  # where there are several keys
    told: LearnedLimits | None = None  # of the provider's own limits, once its answers say something
    slow_start: SlowStart = attrs.field(factory=SlowStart)
    cooldown: Cooldown = attrs.field(factory=Cooldown)
    set_aside: SetAside = attrs.field(factory=SetAside)
    learned: LearnedTokens = attrs.field(factory=LearnedTokens)
    penalty: Penalty = attrs.field(factory=Penalty)
    found_models: tuple[ModelInfo, ...] | None = None  # what the provider lists itself, where it is asked
    malformed_events: int = 0  # that were left out of its streams
    operator: deque[Transition[str]] = attrs.field(factory=lambda: deque[Transition[str]](maxlen=KEPT))
    _exploring: int = 0
    _strangers: set[Lease] = attrs.field(factory=set)  # leases on what the provider was before it was renewed

    def __attrs_post_init__(self) -> None:
        limits = self.settings.rate_limits
        self.health = HealthState(disabled=self.is_unchecked)
        self.breaker = Breaker(self.settings.circuit_breaker)
        of_requests, of_tokens = (None, None) if self.buckets is None else (self.buckets.requests, self.buckets.tokens)
        self.requests = resized(None, limits.requests_per_minute, 0.0, make=of_requests)
        self.tokens = resized(None, limits.tokens_per_minute, 0.0, make=of_tokens)
        self._limit_concurrency()
        self.ring = self._new_ring()

    def _new_ring(self) -> KeyRing | None:
        keys = len(self.settings.keys)
        return KeyRing(keys) if keys > 1 else None

    @property
    def max_concurrent(self) -> int | None:
        """How many requests may be in flight now; None: any number."""
        return self._fixed_limit if self.adaptive is None else self.adaptive.limit

    def _limit_concurrency(self) -> None:
        """By the settings; what was found out is kept where it still is to be."""
        limit = self.settings.rate_limits.max_concurrent
        self._fixed_limit = self.share.slots(limit) if isinstance(limit, int) else None
        self.adaptive = (self.adaptive or AdaptiveLimit()) if limit == "auto" else None

    @property
    def is_unchecked(self) -> bool:
        check = self.settings.health_check
        # A probe would need somebody's credential: one that borrows its callers' is judged by their requests alone.
        return check.disabled or check.method is ProbeMethod.NONE or self.settings.borrows

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
        if (self.health.health is Health.UNCHECKED) is not self.is_unchecked:
            self.health = HealthState(disabled=self.is_unchecked)
        self.breaker.adopt(settings.circuit_breaker)

    def inherit(self, other: Gate, now: float) -> None:
        """Take over the limits of a provider of this name that was taken out: coming back must not refill them."""
        self.let_go()
        self._inherit_limits(other, now)

    def let_go(self) -> None:
        """No request comes any more."""
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.let_go()

    def adopt_share(self, share: Share, now: float) -> None:
        """Go on with another part of the limits, but for the one that is found out."""
        self.share = share
        if share.late and self.buckets is None:
            self.requests = self.tokens = None
        self._inherit_limits(self, now)

    @property
    def has_no_part(self) -> bool:
        """Its part of a limit is nothing: so it is where the limit is smaller than the number of those who share it."""
        return any(bucket is not None and not bucket.capacity for bucket in (self.requests, self.tokens))

    @property
    def is_over(self) -> bool:
        """More is in flight than may be, since its part of the limit has shrunk."""
        return self._fixed_limit is not None and len(self.leases) > self._fixed_limit

    def is_settled(self, now: float) -> bool:
        """True when nothing of its limits is used up."""
        return all(bucket is None or bucket.is_full(now) for bucket in (self.requests, self.tokens))

    def _inherit_limits(self, other: Gate, now: float) -> None:
        limits = self.settings.rate_limits
        of_requests, of_tokens = (None, None) if self.buckets is None else (self.buckets.requests, self.buckets.tokens)
        self.requests = resized(other.requests, limits.requests_per_minute, now, self.share, of_requests)
        self.tokens = resized(other.tokens, limits.tokens_per_minute, now, self.share, of_tokens)
        self._limit_concurrency()

    def _begin_anew(self, now: float) -> None:
        self.health = HealthState(disabled=self.is_unchecked)
        self.breaker = Breaker(self.settings.circuit_breaker)
        self.cooldown, self.set_aside = Cooldown(), SetAside()
        self.learned, self.penalty = LearnedTokens(), Penalty()
        self.averages, self.ring, self.told = Averages(), self._new_ring(), None
        self.adaptive = None if self.adaptive is None else AdaptiveLimit()
        self.slow_start.stop()
        self.found_models = None
        self._strangers = set(self.leases)
        self.operator.append(Transition(now, "", "renewed", "declared anew"))

    # Admission.

    def admit(self, want: Want, model: str, now: float, *, insists: bool = False) -> Grant | Refusal:
        """A grant, everything it needs taken, or why not. Whoever makes a lease of it gives it to `add`.

        `insists`: nobody else can take the request, so slow start does not hold it back.
        """
        tokens = self.tokens
        if self.set_aside.until or not self._is_open(now, insists=insists):
            blocked = self._blocked(now, insists=insists) or self._blocked_for_model(model, now)
            if blocked is not None:
                return blocked
        size = reserved = 0
        if tokens is not None or self.told is not None:
            capacity = None if tokens is None else tokens.capacity
            size = self.learned.reservation(model, want.prompt_tokens, want.max_tokens, capacity)
        if tokens is not None:
            reserved = size
            if not tokens.capacity or not tokens.can_take(reserved, now):
                blocked = self._blocked(now, insists=insists)  # where there is not even one token
                return blocked or self.because(Reason.TOKEN_LIMIT, tokens.ready_at(reserved, now))
        key, other_keys = None, 0
        if self.ring is not None or self.told is not None:
            keys = self._keys(want, model, size, now)
            if isinstance(keys, Refusal):
                return keys
            key, other_keys = keys
        admission = self.breaker.admit(now)
        if not admission.admitted:
            return self.because_of_circuit(admission.blocked_until)
        mark = self._take(model, key, size, reserved, now)
        bound = self._probe_bound(model) if admission.probe else None
        return Grant(reserved, admission.probe, bound, admission.epoch, key, other_keys, mark)

    def _take(self, model: str, key: int | None, size: int, reserved: int, now: float) -> Mark | None:
        if self.requests is not None:
            self.requests.take(1, now)
        if self.tokens is not None:
            self.tokens.take(reserved, now)
        if not self.slow_start.is_over:
            self.slow_start.sent()
        if self.adaptive is not None:
            self.adaptive.granted(len(self.leases) + 1)
        return None if self.told is None else self.told.take((key or 0, model), size)

    def _keys(self, want: Want, model: str, size: int, now: float) -> tuple[int | None, int] | Refusal:
        """The key for a request and how many others would do, or why none does: what the provider told of each."""
        choice = [0] if self.ring is None else self.ring.choose(want.affinity, now, first=want.home_key)
        refusals: list[Refusal] = []
        for place, key in enumerate(choice):
            blocked = None if self.told is None else self.told.blocked((key, model), size, now)
            if blocked is None:
                return (None, 0) if self.ring is None else (key, len(choice) - place - 1)
            refusals.append(self.because(*blocked, AS_IT_TOLD))
        return min(refusals, key=_until)

    def add(self, lease: Lease) -> None:
        """A grant became a lease that somebody holds."""
        self.leases.add(lease)
        self._exploring += lease.explore

    def _is_open(self, now: float, *, insists: bool) -> bool:
        """Whether nothing keeps a request out but its model and size. False: something may, see `why_blocked`."""
        requests = self.requests
        limit = self._fixed_limit if self.adaptive is None else self.adaptive.limit
        return (
            self.enabled
            and not self.draining
            and self.unavailable is None
            and self.health.passes
            and self.breaker.is_closed
            and now >= self.cooldown.until
            and (limit is None or len(self.leases) < limit)
            and (requests is None or requests.can_take(1, now))
            and (self.ring is None or not self.ring.blocked_until(now))
            and (insists or self.slow_start.is_over)
        )

    def _blocked(self, now: float, *, insists: bool = False) -> Refusal | None:
        """What keeps every request out, whatever its model, and its size too unless that is more than one token."""
        if self._is_open(now, insists=insists) and (self.tokens is None or self.tokens.can_take(1, now)):
            return None
        return why_blocked(self, now, insists=insists)

    def refusal(self, now: float) -> str | None:
        """Why nothing goes to this provider now, in words; None when it is routable."""
        blocked = self._blocked(now)
        if blocked is None:
            return None
        return f"{blocked.reason.value}: {blocked.detail}" if blocked.detail else blocked.reason.value

    def _blocked_for_model(self, model: str, now: float) -> Refusal | None:
        if not self.set_aside.until:
            return None
        until = self.set_aside.blocked_until(model, now)
        return self.because(Reason.MODEL_SET_ASIDE, until, model) if now < until else None

    def because_of_circuit(self, until: float) -> Refusal:
        return self.because(Reason.CIRCUIT_OPEN if math.isfinite(until) else Reason.PROBING, until)

    def because(self, reason: Reason, until: float = math.inf, detail: str = "") -> Refusal:
        return Refusal(self.settings.name, reason, until, detail)

    def _probe_bound(self, model: str) -> float:
        """Seconds a half-open probe has to its first token.

        `probe_timeout`, or three times the usual response where that is longer: a whole answer has no earlier first
        token, and a provider that always takes 20 s would otherwise never close its circuit again.
        """
        return max(self.settings.circuit_breaker.probe_timeout, WHOLE_PROBE_FACTOR * self.averages.usual(model))

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
            worked(self, lease, latency, now)
            lease.probe = False

    def heard(self, lease: Lease, quotas: Quotas, now: float) -> None:
        """The provider told with an answer what is left of its own limits."""
        if lease in self.leases and lease not in self._strangers:
            self.told = self.told or LearnedLimits()
            self.told.hear((lease.key_index or 0, lease.model), quotas, lease.mark, now)

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Account for one attempt: limits to what was truly used, circuit, averages and health by how it ended."""
        if lease not in self.leases:
            return
        self.leases.discard(lease)
        self._exploring -= lease.explore
        self.malformed_events += outcome.malformed_events
        self._settle_limits(lease, outcome, now)
        if lease in self._strangers:
            self._strangers.discard(lease)
            return
        if outcome.failure is None and not outcome.cancelled:
            succeeded(self, lease, outcome, now)
        else:
            ended_otherwise(self, lease, outcome, now)

    def _settle_limits(self, lease: Lease, outcome: Outcome, now: float) -> None:
        if self.requests is not None and not outcome.sent:
            self.requests.settle(1, 0, now)
        if self.tokens is not None:
            used = outcome.usage.total if outcome.usage is not None else 0
            self.tokens.settle(lease.reserved, used, now)
        if lease.mark is not None and not outcome.sent and self.told is not None:
            self.told.give_back((lease.key_index or 0, lease.model), lease.mark.size)

    # Probes and the operator.

    def reserve_probe(self, tokens: int, now: float) -> float:
        """Take what a probe draws from the buckets; the time at which it may go (now, or when the buckets cover it).

        Never, infinity, while a limit leaves nothing for us: nothing is taken then.
        """
        if self.has_no_part:
            return math.inf
        at = now
        for bucket, amount in ((self.requests, 1), (self.tokens, tokens)):
            if bucket is not None:
                at = max(at, bucket.ready_at(amount, now))
        for bucket, amount in ((self.requests, 1), (self.tokens, tokens)):
            if bucket is not None:
                # Drawn at once, as a debt where they are short: traffic cannot overtake a probe that waits.
                bucket.settle(0, min(amount, bucket.capacity), now)
        return at

    def probe_cut(self, reserved: int, now: float, *, sent: bool) -> None:
        """A probe was given up before it came to anything: what it has not used goes back to the buckets."""
        if self.tokens is not None:
            self.tokens.settle(min(reserved, self.tokens.capacity), 0, now)
        if self.requests is not None and not sent:
            self.requests.settle(1, 0, now)

    def probe_ended(
        self, failure: UpstreamFailure | None, usage: Usage | None, reserved: int, now: float, key: int | None = None
    ) -> None:
        """A health probe's result: all but a success exclude the provider, 401/402/403 as a configuration error.

        `key` is the place of the key it was made with, where there are several: only that one is retired or brought
        back, and what is refused to it says nothing of the provider while there are others.
        """
        if self.tokens is not None:
            self.tokens.settle(min(reserved, self.tokens.capacity), usage.total if usage else 0, now)
        probed(self, failure, key, now)

    def enable(self, now: float) -> None:
        self._operate(now, "enabled", enabled=True, draining=False)
        if self.ring is not None:
            self.ring.restore_all()

    def disable(self, now: float) -> None:
        self._operate(now, "disabled", enabled=False, draining=self.draining)

    def drain(self, now: float) -> None:
        """Take nothing new; what is in flight ends by itself."""
        self._operate(now, "draining", enabled=self.enabled, draining=True)

    def _operate(self, now: float, target: str, *, enabled: bool, draining: bool) -> None:
        source = "disabled" if not self.enabled else "draining" if self.draining else "enabled"
        self.enabled, self.draining = enabled, draining
        if source != target:
            self.operator.append(Transition(now, source, target, "operator"))

    def reset(self, now: float) -> None:
        """Forget circuit, cool-downs, models set aside, penalty, retired keys, told limits; those configured stay.

        What they have admitted stays taken, but a debt, which may be a lie of the provider, is forgiven.
        """
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.forgive(now)
        self.breaker.reset(now)
        self.cooldown.reset()
        self.set_aside.clear()
        self.penalty.reset()
        self.slow_start.stop()
        self.told = None
        if self.ring is not None:
            self.ring.reset()
        self.operator.append(Transition(now, "", "reset", "operator"))
        if self.moved is not None:
            self.moved()

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
            response=self.averages.response,
            first_token=self.averages.first_token,
            model_response=self.averages.model_response,
            model_first_token=self.averages.model_first_token,
        )


def _until(refusal: Refusal) -> float:
    return refusal.until
