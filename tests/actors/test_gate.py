"""Admission as pure state: what a grant takes, what an outcome changes, and that nothing is taken or given twice."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.averages import KEPT_MODELS
from infermux.actors.gate import Gate
from infermux.actors.gate_view import view
from infermux.actors.lease import Grant, Lease, ProbePassed, Release
from infermux.actors.mailbox import NOT_NOW, NotNow
from infermux.actors.messages import Circuit, Health, Outcome, Reason, Want
from infermux.actors.plan import Refusal
from infermux.config.settings import CircuitBreaker, HealthCheck, LeastLatency, ProviderSettings, RateLimits, Routing
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Usage
from tests._properties import examples
from tests.actors._scripted import Scripted

M = Want("m", prompt_tokens=100, max_tokens=100)
OK = Outcome(latency=1.0, usage=Usage(prompt_tokens=50, completion_tokens=50))


class Mailed:
    """A ref that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def call(self, _name: str, *_: object) -> NotNow:
        return NOT_NOW

    def deliver(self, message: object) -> bool:
        self.told.append(message)
        return True


def a_gate(*, probed: bool = False, routing: Routing | None = None, **more: Any) -> Gate:
    more.setdefault("health_check", HealthCheck(disabled=not probed))
    return Gate(ProviderSettings(name="a", type="openai", models=("m",), **more), routing or Routing())


def a_lease(gate: Gate, grant: Grant, now: float, *, model: str = "m", explore: bool = False) -> Lease:
    lease = Lease(
        provider="a",
        model=model,
        settings=gate.settings,
        adapter=Scripted(),
        ref=Mailed(),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        granted_at=now,
        reserved=grant.reserved,
        probe=grant.probe,
        explore=explore,
        bound=grant.bound,
        epoch=grant.epoch,
    )
    gate.add(lease)
    return lease


def told(lease: Lease) -> list[Any]:
    mailed: Any = lease.ref
    return list(mailed.told)


def granted(gate: Gate, now: float, want: Want = M, model: str = "m", *, explore: bool = False) -> Lease:
    grant = gate.admit(want, model, now)
    assert isinstance(grant, Grant), grant
    return a_lease(gate, grant, now, model=model, explore=explore)


def refused(gate: Gate, now: float, want: Want = M, model: str = "m") -> Refusal:
    refusal = gate.admit(want, model, now)
    assert isinstance(refusal, Refusal), refusal
    return refusal


def failed(kind: FailureKind, **more: Any) -> Outcome:
    return Outcome(failure=kind, **more)


# Reasons, in the order of how final they are.


def test_the_most_final_reason_is_the_one_that_is_told() -> None:
    limits = RateLimits(requests_per_minute=1, tokens_per_minute=1000, max_concurrent=1)
    gate = a_gate(probed=True, rate_limits=limits, circuit_breaker=CircuitBreaker(consecutive_failures=1))
    assert refused(gate, 0).reason is Reason.STARTING
    gate.probe_ended(None, None, 0, 0.0)
    lease = granted(gate, 0)
    assert refused(gate, 0).reason is Reason.CONCURRENCY
    gate.settle(lease, failed(FailureKind.RATE_LIMITED, retry_after=5.0), 0.0)
    assert (refused(gate, 0).reason, refused(gate, 0).until) == (Reason.COOLING_DOWN, 5.0)
    gate.breaker.record_failure(0.0)
    assert (refused(gate, 0).reason, refused(gate, 0).until) == (Reason.CIRCUIT_OPEN, 30.0)
    gate.probe_ended(UpstreamFailure(FailureKind.CONNECT, "refused"), None, 0, 0.0)
    assert (refused(gate, 0).reason, refused(gate, 0).detail) == (Reason.UNHEALTHY, "refused")
    gate.probe_ended(UpstreamFailure(FailureKind.CREDENTIALS, "no"), None, 0, 0.0)
    assert refused(gate, 0).reason is Reason.CONFIG_ERROR
    gate.drain(0.0)
    assert refused(gate, 0).reason is Reason.DRAINING
    gate.disable(0.0)
    assert refused(gate, 0).reason is Reason.DISABLED
    gate.unavailable = "not in this version"
    assert (refused(gate, 0).reason, refused(gate, 0).detail) == (Reason.CONFIG_ERROR, "not in this version")


def test_request_and_token_limits_say_when_they_are_cured() -> None:
    gate = a_gate(rate_limits=RateLimits(requests_per_minute=1))
    granted(gate, 0)
    assert (refused(gate, 0).reason, refused(gate, 0).until) == (Reason.REQUEST_LIMIT, 60.0)
    gate = a_gate(rate_limits=RateLimits(tokens_per_minute=250))
    granted(gate, 0)
    assert refused(gate, 0).reason is Reason.TOKEN_LIMIT
    assert refused(gate, 0).until == pytest.approx(36.0)


def test_why_in_words() -> None:
    gate = a_gate(probed=True)
    assert gate.refusal(0.0) == "starting"
    gate.probe_ended(UpstreamFailure(FailureKind.CONNECT, "connection refused"), None, 0, 0.0)
    assert gate.refusal(0.0) == "unhealthy: connection refused"
    gate.probe_ended(None, None, 0, 0.0)
    assert gate.refusal(0.0) is None


def test_the_others_of_a_half_open_circuit_wait_for_the_probe() -> None:
    gate = a_gate(circuit_breaker=CircuitBreaker(consecutive_failures=1, probe_timeout=5.0))
    gate.settle(granted(gate, 0), failed(FailureKind.CONNECT), 0.0)
    probe = granted(gate, 30.0)
    assert (probe.probe, probe.bound) == (True, 5.0)
    assert (refused(gate, 30).reason, refused(gate, 30).until) == (Reason.PROBING, math.inf)
    assert gate.standing(30.0).circuit is Circuit.HALF_OPEN
    gate.probe_passed(probe, 0.5, 31.0)
    assert not probe.probe
    assert not granted(gate, 31).probe


def test_a_first_token_of_any_other_request_is_no_verdict() -> None:
    gate = a_gate(circuit_breaker=CircuitBreaker(consecutive_failures=1))
    gate.settle(granted(gate, 0), failed(FailureKind.CONNECT), 0.0)
    probe = granted(gate, 30.0)
    gate.settle(probe, Outcome(cancelled=True), 31.0)
    gate.probe_passed(probe, 1.0, 31.0)
    assert gate.standing(31.0).circuit is Circuit.HALF_OPEN


def test_a_whole_answer_as_probe_gets_three_times_the_usual_where_that_is_longer() -> None:
    gate = a_gate(circuit_breaker=CircuitBreaker(consecutive_failures=1, probe_timeout=5.0))
    gate.settle(granted(gate, 0), Outcome(latency=20.0), 20.0)
    gate.settle(granted(gate, 20), failed(FailureKind.CONNECT), 20.0)
    assert granted(gate, 50.0).bound == pytest.approx(60.0)


# What an admission takes, and gives back.


def test_a_refusal_takes_nothing() -> None:
    gate = a_gate(rate_limits=RateLimits(requests_per_minute=5, tokens_per_minute=250))
    granted(gate, 0)
    refused(gate, 0)
    assert gate.requests is not None
    assert gate.tokens is not None
    assert (gate.requests.available(0.0), gate.tokens.available(0.0)) == (4, 50)


def test_a_lease_taken_back_is_as_if_it_had_not_been() -> None:
    limits = RateLimits(requests_per_minute=5, tokens_per_minute=1000)
    gate = a_gate(rate_limits=limits, circuit_breaker=CircuitBreaker(consecutive_failures=1))
    gate.settle(granted(gate, 0), failed(FailureKind.CONNECT), 0.0)
    probe = granted(gate, 60.0, explore=True)
    explored = [gate.is_explored]
    gate.take_back(probe, 60.0)
    explored.append(gate.is_explored)
    assert explored == [True, False]
    assert gate.requests is not None
    assert gate.tokens is not None
    assert (gate.requests.available(60.0), gate.tokens.available(60.0)) == (5, 1000)
    assert granted(gate, 60.0).probe


def test_only_the_first_settling_of_a_lease_counts() -> None:
    gate = a_gate(rate_limits=RateLimits(tokens_per_minute=1000))
    lease = granted(gate, 0)
    gate.settle(lease, OK, 0.0)
    gate.settle(lease, failed(FailureKind.CONNECT), 0.0)
    assert gate.tokens is not None
    assert (gate.tokens.available(0.0), gate.breaker.consecutive_failures, gate.averages.response.samples) == (
        900,
        0,
        1,
    )


def test_averages_learn_from_successes_only() -> None:
    gate = a_gate(routing=Routing(least_latency=LeastLatency(ewma_decay=0.1)))
    for latency in (1.0, 2.0):
        gate.settle(granted(gate, 0), Outcome(latency=latency, first_token=latency / 10), 0.0)
    for outcome in (failed(FailureKind.CONNECT, latency=99.0), Outcome(cancelled=True, latency=99.0)):
        gate.settle(granted(gate, 0), outcome, 0.0)
    standing = gate.standing(0.0)
    assert standing.response.samples == 2
    assert standing.response.value == pytest.approx(1.1)
    assert standing.first_token.value == pytest.approx(0.11)
    assert standing.model_response["m"].samples == standing.model_first_token["m"].samples == 2
    assert standing.penalty == pytest.approx(10 / 9)  # one failure beside two successes


def test_estimated_usage_teaches_nothing() -> None:
    gate = a_gate()
    gate.settle(granted(gate, 0), Outcome(usage=Usage(completion_tokens=7, estimated=True)), 0.0)
    assert gate.learned.average("m") is None
    gate.settle(granted(gate, 0), Outcome(usage=Usage(completion_tokens=7)), 0.0)
    assert gate.learned.average("m") == 7


def test_averages_per_model_are_bounded() -> None:
    gate = a_gate()
    for i in range(KEPT_MODELS + 5):
        gate.settle(granted(gate, 0, model=f"m{i}"), OK, 0.0)
    kept = gate.standing(0.0).model_response
    assert len(kept) == KEPT_MODELS
    assert "m0" not in kept


def test_a_live_success_makes_an_unhealthy_provider_healthy() -> None:
    gate = a_gate(probed=True)
    gate.probe_ended(None, None, 0, 0.0)
    lease = granted(gate, 0)
    gate.probe_ended(UpstreamFailure(FailureKind.CONNECT, "x"), None, 0, 1.0)
    gate.settle(lease, OK, 2.0)
    assert gate.health.health is Health.HEALTHY


def test_a_probe_that_the_buckets_cannot_cover_is_owed() -> None:
    gate = a_gate(rate_limits=RateLimits(requests_per_minute=1, tokens_per_minute=10))
    assert gate.reserve_probe(16, 0.0) == 0.0
    assert gate.reserve_probe(16, 0.0) == 60.0
    assert gate.requests is not None
    assert gate.tokens is not None
    assert (gate.requests.available(0.0), gate.tokens.available(0.0)) == (-1, -10)
    gate.probe_ended(None, Usage(prompt_tokens=2, completion_tokens=1), 16, 0.0)
    assert gate.tokens.available(0.0) == -3


def test_the_operators_commands_are_noted_where_they_change_something() -> None:
    gate = a_gate()
    for command in (gate.disable, gate.disable, gate.enable, gate.drain, gate.enable, gate.reset):
        command(3.0)
    rows = view(gate, 4.0)["transitions"]
    assert [(row["from"], row["to"]) for row in rows] == [
        ("enabled", "disabled"),
        ("disabled", "enabled"),
        ("enabled", "draining"),
        ("draining", "enabled"),
        ("", "reset"),
    ]
    assert {row["seconds_ago"] for row in rows} == {1.0}


def test_transitions_of_health_and_circuit_are_told_in_the_order_they_happened() -> None:
    gate = a_gate(probed=True, circuit_breaker=CircuitBreaker(consecutive_failures=1))
    gate.probe_ended(None, None, 0, 1.0)
    gate.settle(granted(gate, 2.0), failed(FailureKind.CONNECT), 3.0)
    gate.drain(4.0)
    rows = view(gate, 5.0)["transitions"]
    assert [(row["of"], row["to"]) for row in rows] == [
        ("health", "healthy"),
        ("circuit", "open"),
        ("operator", "draining"),
    ]


# The lease.


def test_a_lease_is_told_once_however_often_it_is_released() -> None:
    gate = a_gate()
    lease = granted(gate, 0)
    for _ in range(3):
        lease.release(OK)
    assert told(lease) == [Release(lease, OK)]


def test_a_first_token_is_told_by_the_probe_only() -> None:
    gate = a_gate(circuit_breaker=CircuitBreaker(consecutive_failures=1))
    lease = granted(gate, 0)
    lease.passed_first_token(1.0)
    gate.settle(lease, failed(FailureKind.CONNECT), 0.0)
    probe = granted(gate, 30.0)
    probe.passed_first_token(31.5)
    assert told(lease) == []
    assert told(probe) == [ProbePassed(probe, 1.5)]


async def test_a_revoked_lease_cancels_the_scope_it_runs_in_now_or_later() -> None:
    gate = a_gate()
    lease, before, after = granted(gate, 0), trio.CancelScope(), trio.CancelScope()
    lease.run_in(before)
    called = [before.cancel_called]
    lease.revoke("why")
    called.append(before.cancel_called)
    assert called == [False, True]
    lease.run_in(after)
    assert after.cancel_called
    assert (lease.revoked, lease.last_word) == ("why", False)


def test_a_lease_shows_what_it_is() -> None:
    gate = a_gate()
    lease = granted(gate, 0)
    assert repr(lease) == "<Lease a m>"
    lease.probe = True
    lease.release(OK)
    assert repr(lease) == "<Lease a m probe released>"


# Properties.

OUTCOMES = st.sampled_from(
    [
        OK,
        Outcome(latency=0.5, usage=Usage(prompt_tokens=900, completion_tokens=900)),
        Outcome(cancelled=True),
        Outcome(cancelled=True, sent=False),
        *(failed(kind, retry_after=1.0) for kind in FailureKind),
    ]
)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), OUTCOMES), max_size=60), st.integers(0, 2**32))
def test_whatever_happens_there_is_one_probe_and_everything_comes_back(
    steps: list[tuple[float, bool, Outcome]], seed: int
) -> None:
    rng = random.Random(seed)
    limits = RateLimits(requests_per_minute=30, tokens_per_minute=2000, max_concurrent=5)
    gate = a_gate(rate_limits=limits, circuit_breaker=CircuitBreaker(consecutive_failures=2, recovery_window=3.0))
    now, out, admitted = 0.0, list[Lease](), 0
    for passed, ends, outcome in steps:
        now += passed
        if ends and out:
            gate.settle(out.pop(rng.randrange(len(out))), outcome, now)
        else:
            answer = gate.admit(M, "m", now)
            if isinstance(answer, Grant):
                admitted += 1
                out.append(a_lease(gate, answer, now, explore=not gate.is_explored))
        assert gate.leases == set(out)
        assert len(out) <= 5
        assert admitted <= 30 + 30 * now / 60 + sum(not outcome.sent for _, _, outcome in steps)
        # A stale probe of an earlier half-open time may still be out; the breaker knows which one counts.
        assert (gate.standing(now).reason is None) == (gate.refusal(now) is None)
    for lease in out:
        gate.take_back(lease, now)
    later = now + 1000
    gate.enable(later)
    gate.set_aside.clear()
    assert gate.requests is not None
    assert gate.tokens is not None
    assert not gate.is_explored
    assert (gate.requests.available(later), gate.tokens.available(later)) == (30, 2000)
    assert isinstance(gate.admit(M, "m", later), Grant)


def test_what_an_explorer_of_a_measured_provider_finds_takes_the_place_of_its_average() -> None:
    gate = a_gate()
    for _ in range(5):
        gate.settle(granted(gate, 0), Outcome(latency=9.0), 0.0)
    explorer = granted(gate, 0)
    explorer.explore = True
    gate.settle(explorer, Outcome(latency=1.0), 0.0)
    standing = gate.standing(0.0)
    assert (standing.response.value, standing.response.samples, standing.model_response["m"].value) == (1.0, 6, 1.0)
