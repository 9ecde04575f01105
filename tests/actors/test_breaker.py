"""The circuit breaker: when it opens, who may probe, and what closes it."""

from __future__ import annotations

import math

import pytest

from infermux.actors.breaker import TRANSITIONS, Admission, Breaker, Event
from infermux.actors.messages import Circuit
from infermux.config.settings import CircuitBreaker

T = 1000.0


def fail(breaker: Breaker, times: int, now: float = T) -> None:
    for _ in range(times):
        breaker.record_failure(now)


def opened(now: float = T) -> Breaker:
    breaker = Breaker(CircuitBreaker())
    fail(breaker, 5, now)
    assert breaker.state(now) is Circuit.OPEN
    return breaker


def half_open() -> tuple[Breaker, Admission]:
    """With its probe out, at T + 30."""
    breaker = opened()
    probe = breaker.admit(T + 30)
    assert probe.probe
    return breaker, probe


def test_the_defaults_are_those_of_the_configuration_reference() -> None:
    assert CircuitBreaker() == CircuitBreaker(
        error_rate_threshold=0.5,
        consecutive_failures=5,
        latency_p95_ms=None,
        window_seconds=60.0,
        min_requests=10,
        recovery_window=30.0,
        probe_timeout=5.0,
    )


def test_a_closed_circuit_lets_everything_through() -> None:
    breaker = Breaker(CircuitBreaker())
    for _ in range(100):
        admission = breaker.admit(T)
        assert admission
        assert not admission.probe
    assert breaker.blocked_until(T) == 0.0


def test_five_consecutive_failures_open_it_and_four_do_not() -> None:
    breaker = Breaker(CircuitBreaker())
    fail(breaker, 4)
    assert breaker.consecutive_failures == 4
    assert breaker.state(T) is Circuit.CLOSED
    fail(breaker, 1)
    assert breaker.state(T) is Circuit.OPEN
    assert [(t.at, t.source, t.target, t.why) for t in breaker.transitions] == [
        (T, Circuit.CLOSED, Circuit.OPEN, "5 consecutive failures")
    ]


def test_a_success_ends_the_row_of_failures() -> None:
    breaker = Breaker(CircuitBreaker())
    fail(breaker, 4)
    breaker.record_success(T, 0.1)
    fail(breaker, 4)
    assert breaker.state(T) is Circuit.CLOSED


def alternate(breaker: Breaker, outcomes: str, now: float = T) -> list[Circuit]:
    states: list[Circuit] = []
    for outcome in outcomes:
        if outcome == "f":
            breaker.record_failure(now)
        else:
            breaker.record_success(now, 0.1)
        states.append(breaker.state(now))
    return states


def test_half_of_ten_requests_failing_opens_it_at_the_tenth() -> None:
    states = alternate(Breaker(CircuitBreaker()), "sfsfsfsfsf")
    assert states == [Circuit.CLOSED] * 9 + [Circuit.OPEN]


def test_less_than_half_of_the_requests_failing_does_not() -> None:
    assert set(alternate(Breaker(CircuitBreaker()), "sfsfsfsfss")) == {Circuit.CLOSED}


def test_a_success_can_be_the_tenth_request_that_shows_the_error_rate() -> None:
    breaker = Breaker(CircuitBreaker())
    assert alternate(breaker, "ffffsffsss")[-1] is Circuit.OPEN
    assert breaker.transitions[-1].why == "error rate 0.60 over 10 requests"


def test_a_threshold_is_met_exactly() -> None:
    settings = CircuitBreaker(error_rate_threshold=0.3)
    assert alternate(Breaker(settings), "fsfsfsssss")[-1] is Circuit.OPEN


def test_failures_that_left_the_window_do_not_count() -> None:
    breaker = Breaker(CircuitBreaker())
    alternate(breaker, "sfsfsfsf", T)
    assert set(alternate(breaker, "sfssssssss", T + 60)) == {Circuit.CLOSED}


def test_without_failures_no_threshold_opens_it() -> None:
    settings = CircuitBreaker(error_rate_threshold=0.0)
    assert set(alternate(Breaker(settings), "s" * 20)) == {Circuit.CLOSED}


@pytest.mark.parametrize(("latency", "state"), [(1.0, Circuit.CLOSED), (1.03, Circuit.OPEN)])
def test_it_opens_on_the_p95_latency_once_ten_requests_were_seen(latency: float, state: Circuit) -> None:
    breaker = Breaker(CircuitBreaker(latency_p95_ms=1000))
    for _ in range(9):
        breaker.record_success(T, latency)
        assert breaker.state(T) is Circuit.CLOSED
    breaker.record_success(T, latency)
    assert breaker.state(T) is state


def test_one_slow_request_in_twenty_does_not_open_it() -> None:
    breaker = Breaker(CircuitBreaker(latency_p95_ms=1000))
    for _ in range(19):
        breaker.record_success(T, 0.5)
    breaker.record_success(T, 50.0)
    assert breaker.state(T) is Circuit.CLOSED
    breaker.record_success(T, 50.0)
    assert breaker.state(T) is Circuit.OPEN
    assert breaker.transitions[-1].why.startswith("p95 latency 49")


def test_failures_have_no_latency_to_speak_of() -> None:
    breaker = Breaker(CircuitBreaker(latency_p95_ms=1, consecutive_failures=100, error_rate_threshold=1.1))
    fail(breaker, 50)
    assert breaker.state(T) is Circuit.CLOSED


def test_an_open_circuit_says_until_when() -> None:
    breaker = opened()
    assert breaker.admit(T + 29.9) == Admission(False, False, T + 30, 1)
    assert breaker.blocked_until(T + 29.9) == T + 30


def test_after_the_recovery_window_exactly_one_request_probes() -> None:
    breaker = opened()
    assert breaker.state(T + 29.999) is Circuit.OPEN
    assert breaker.state(T + 30) is Circuit.HALF_OPEN
    assert breaker.blocked_until(T + 30) == 0.0
    admissions = [breaker.admit(T + 31) for _ in range(200)]
    assert [bool(admission) for admission in admissions] == [True] + [False] * 199
    assert admissions[0].probe
    assert breaker.probing
    assert admissions[1].blocked_until == math.inf
    assert breaker.blocked_until(T + 31) == math.inf


def test_half_open_is_dated_from_when_the_recovery_window_passed() -> None:
    breaker = opened()
    breaker.state(T + 500)
    assert breaker.transitions[-1].at == T + 30


def test_a_probe_that_succeeds_closes_it_with_an_empty_window() -> None:
    breaker, _ = half_open()
    breaker.record_success(T + 31, 0.2, probe=True)
    assert breaker.state(T + 31) is Circuit.CLOSED
    assert breaker.window.counts(T + 31) == (0, 0)
    fail(breaker, 4, T + 31)
    assert breaker.state(T + 31) is Circuit.CLOSED


def test_a_probe_that_fails_opens_it_for_another_recovery_window() -> None:
    breaker, _ = half_open()
    breaker.record_failure(T + 33, probe=True)
    assert breaker.state(T + 33) is Circuit.OPEN
    assert breaker.blocked_until(T + 33) == T + 63


def test_a_probe_without_a_verdict_leaves_the_place_to_the_next() -> None:
    breaker, _ = half_open()
    breaker.release_probe(T + 31)
    assert breaker.state(T + 31) is Circuit.HALF_OPEN
    assert breaker.admit(T + 31).probe
    assert not breaker.admit(T + 31)


def test_releasing_a_probe_that_is_not_out_is_harmless() -> None:
    breaker = Breaker(CircuitBreaker())
    breaker.release_probe(T)
    assert breaker.admit(T)


@pytest.mark.parametrize("probe", [False, True])
def test_late_results_neither_close_an_open_circuit_nor_keep_it_open_longer(probe: bool) -> None:
    breaker = opened()
    breaker.record_success(T + 10, 0.1, probe=probe)
    breaker.record_failure(T + 20, probe=probe)
    assert breaker.blocked_until(T + 20) == T + 30
    assert breaker.state(T + 30) is Circuit.HALF_OPEN


def test_late_results_do_not_decide_for_the_probe() -> None:
    breaker, _ = half_open()
    breaker.record_success(T + 31, 0.1)
    assert breaker.state(T + 31) is Circuit.HALF_OPEN
    breaker.record_failure(T + 32)
    assert breaker.state(T + 32) is Circuit.HALF_OPEN
    assert breaker.probing


def test_results_from_before_the_opening_do_not_open_a_recovered_circuit() -> None:
    breaker = Breaker(CircuitBreaker())
    early = [breaker.admit(T) for _ in range(100)]
    fail(breaker, 5)
    probe = breaker.admit(T + 30)
    breaker.record_success(T + 31, 0.1, probe=True, epoch=probe.epoch)
    for admission in early:
        breaker.record_failure(T + 60, epoch=admission.epoch)
    assert breaker.state(T + 60) is Circuit.CLOSED
    assert breaker.window.counts(T + 60) == (0, 0)
    for _ in range(5):
        breaker.record_failure(T + 60, epoch=breaker.admit(T + 60).epoch)
    assert breaker.state(T + 60) is Circuit.OPEN


def test_a_probe_from_before_an_earlier_opening_decides_nothing() -> None:
    breaker, probe = half_open()
    breaker.reset(T + 31)
    fail(breaker, 5, T + 32)
    second = breaker.admit(T + 62)
    assert second.probe
    breaker.record_success(T + 63, 0.1, probe=True, epoch=probe.epoch)
    breaker.record_failure(T + 63, probe=True, epoch=probe.epoch)
    breaker.release_probe(T + 63, epoch=probe.epoch)
    assert breaker.state(T + 63) is Circuit.HALF_OPEN
    assert breaker.probing


def test_a_reset_closes_it_and_forgets_the_past() -> None:
    breaker = opened()
    breaker.reset(T + 1)
    assert breaker.state(T + 1) is Circuit.CLOSED
    assert breaker.window.counts(T + 1) == (0, 0)
    assert breaker.transitions[-1].why == "reset"


def test_a_reset_of_a_closed_circuit_forgets_too_and_is_no_transition() -> None:
    breaker = Breaker(CircuitBreaker())
    fail(breaker, 4)
    breaker.reset(T)
    fail(breaker, 4)
    assert breaker.state(T) is Circuit.CLOSED
    assert not breaker.transitions


def test_the_log_of_transitions_is_bounded() -> None:
    breaker = opened()
    for round in range(100):
        now = T + 30 * (round + 1)
        assert breaker.admit(now).probe
        breaker.record_failure(now, probe=True)
    assert len(breaker.transitions) == 32


def test_every_state_can_be_reset_and_no_other_event_is_allowed_twice() -> None:
    assert {source for source, event in TRANSITIONS if event is Event.RESET} == set(Circuit)
    others = [event for _, event in TRANSITIONS if event is not Event.RESET]
    assert len(others) == len(set(others))


def test_its_repr_shows_the_state() -> None:
    assert repr(opened()).startswith("<Breaker open probing=False consecutive=5 <Window")
