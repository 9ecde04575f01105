"""The circuit breaker against a naive reference, by random sequences of requests, results and time."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from infermux.actors.breaker import Admission, Breaker
from infermux.config.settings import CircuitBreaker
from tests._properties import examples


class Reference:
    """The rules again, naively: whole seconds, all outcomes kept, everything recomputed."""

    def __init__(self, config: CircuitBreaker) -> None:
        self.config = config
        self.state = "closed"
        self.until = 0
        self.probe: int | None = None
        self.generation = 0
        self.outcomes: list[tuple[int, bool]] = []

    def look(self, now: int) -> None:
        if self.state == "open" and now >= self.until:
            self.state, self.probe = "half_open", None

    def verdict(self, now: int, lease: int, generation: int, ok: bool) -> None:
        self.look(now)
        if generation != self.generation:
            return
        if self.state == "half_open" and lease == self.probe:
            self.state = "closed"
            self.outcomes = []
            if not ok:
                self.open(now)
        elif self.state == "closed":
            self.outcomes.append((now, ok))
            if self.must_open(now):
                self.open(now)

    def must_open(self, now: int) -> bool:
        row = [ok for _, ok in self.outcomes[-self.config.consecutive_failures :]]
        if len(row) == self.config.consecutive_failures and not any(row):
            return True
        recent = [ok for at, ok in self.outcomes if at > now - self.config.window_seconds]
        failures = recent.count(False)
        if len(recent) < self.config.min_requests or not failures:
            return False
        return failures / len(recent) >= self.config.error_rate_threshold

    def open(self, now: int) -> None:
        self.state, self.until = "open", now + int(self.config.recovery_window)
        self.generation += 1


class BreakerAgainstReference(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        config = CircuitBreaker(consecutive_failures=4, min_requests=6, recovery_window=30)
        self.breaker = Breaker(config)
        self.reference = Reference(config)
        self.now = 1000
        self.leases: dict[int, Admission] = {}
        self.generations: dict[int, int] = {}
        self.granted = 0

    @rule(seconds=st.sampled_from([0, 1, 5, 29, 30, 31, 60, 200]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(times=st.integers(1, 6))
    def requests_come(self, times: int) -> None:
        for _ in range(times):
            self.reference.look(self.now)
            admission = self.breaker.admit(self.now)
            state, probe = self.reference.state, self.reference.probe
            assert bool(admission) == (state == "closed" or (state == "half_open" and probe is None))
            assert admission.probe == (bool(admission) and state == "half_open")
            if admission:
                self.granted += 1
                self.leases[self.granted] = admission
                self.generations[self.granted] = self.reference.generation
                if admission.probe:
                    self.reference.probe = self.granted

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), ok=st.booleans(), times=st.integers(1, 5))
    def requests_end(self, data: st.DataObject, ok: bool, times: int) -> None:
        for _ in range(min(times, len(self.leases))):
            self.end(data.draw(st.sampled_from(sorted(self.leases))), ok=ok)

    def end(self, lease: int, *, ok: bool) -> None:
        admission = self.leases.pop(lease)
        if ok:
            self.breaker.record_success(self.now, 0.1, admission.probe, epoch=admission.epoch)
        else:
            self.breaker.record_failure(self.now, admission.probe, epoch=admission.epoch)
        self.reference.verdict(self.now, lease, self.generations.pop(lease), ok)

    @rule()
    def an_outage_opens_it_and_the_recovery_window_passes(self) -> None:
        for _ in range(self.reference.config.consecutive_failures):
            self.requests_come(1)
            fresh = [lease for lease in self.leases if lease == self.granted]
            for lease in fresh:
                self.end(lease, ok=False)
        self.now += 30

    @precondition(lambda self: self.reference.probe in self.leases)
    @rule(ok=st.booleans())
    def the_probe_ends(self, ok: bool) -> None:
        assert self.reference.probe is not None
        self.end(self.reference.probe, ok=ok)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def a_request_ends_without_verdict(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.leases)))
        admission = self.leases.pop(lease)
        if admission.probe:
            self.breaker.release_probe(self.now, epoch=admission.epoch)
        self.reference.look(self.now)
        if self.reference.probe == lease:
            self.reference.probe = None

    @rule()
    def the_operator_resets(self) -> None:
        self.breaker.reset(self.now)
        self.reference.state, self.reference.outcomes, self.reference.probe = "closed", [], None
        self.reference.generation += 1

    @invariant()
    def they_agree(self) -> None:
        self.reference.look(self.now)
        assert self.breaker.state(self.now).value == self.reference.state
        until = self.breaker.blocked_until(self.now)
        match self.reference.state:
            case "closed":
                assert until == 0
            case "open":
                assert until == self.reference.until
            case _:
                assert until == (0 if self.reference.probe is None else math.inf)


TestBreakerAgainstReference = BreakerAgainstReference.TestCase
TestBreakerAgainstReference.settings = settings(max_examples=examples(40), stateful_step_count=25, deadline=None)
