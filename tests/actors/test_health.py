"""Health by probes, and by what live requests show."""

from __future__ import annotations

import pytest

from infermux.actors.health import ERROR_LENGTH, HealthState
from infermux.actors.messages import Health
from infermux.errors import FailureKind

T = 100.0


def unhealthy() -> HealthState:
    state = HealthState()
    state.probe_failed(T, FailureKind.SERVER_ERROR, "503 overloaded")
    return state


def misconfigured() -> HealthState:
    state = HealthState()
    state.probe_failed(T, FailureKind.CREDENTIALS, "401 bad key")
    return state


def test_before_its_first_probe_a_provider_is_unknown_and_a_probe_is_due() -> None:
    state = HealthState()
    assert state.health is Health.UNKNOWN
    assert not state.passes
    assert state.due(0.0, 60, 0.1)


def test_a_probe_that_succeeds_makes_it_healthy() -> None:
    state = HealthState()
    state.probe_succeeded(T)
    assert state.health is Health.HEALTHY
    assert state.passes


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.CREDENTIALS])
def test_a_probe_that_fails_makes_it_unhealthy(kind: FailureKind) -> None:
    state = HealthState()
    state.probe_succeeded(T)
    state.probe_failed(T + 60, kind, "no")
    assert state.health is Health.UNHEALTHY
    assert not state.passes
    assert state.last_error == "no"


def test_a_probe_refused_for_our_credentials_is_a_configuration_error() -> None:
    state = misconfigured()
    assert state.health is Health.CONFIG_ERROR
    assert not state.passes


def test_a_later_probe_takes_either_back() -> None:
    for state in (unhealthy(), misconfigured()):
        state.probe_succeeded(T + 60)
        assert state.health is Health.HEALTHY
        assert state.last_error is None


def test_a_disabled_check_always_passes_and_is_never_due() -> None:
    state = HealthState(disabled=True)
    for _ in range(2):
        assert state.health is Health.UNCHECKED
        assert state.passes
        assert not state.due(1e9, 60, 0.0)
        assert state.next_due(60, 0.0) is None
        state.probe_failed(T, FailureKind.CREDENTIALS, "on demand")
        state.note_credentials_refused(T, "live")
        state.note_success(T)
        state.reset(T)
    assert not state.transitions


def test_the_next_probe_is_due_an_interval_after_the_last_one() -> None:
    state = HealthState()
    state.probe_succeeded(T)
    assert not state.due(T + 59.9, 60, 0.0)
    assert state.due(T + 60, 60, 0.0)


@pytest.mark.parametrize(("jitter", "seconds"), [(-0.1, 54.0), (0.0, 60.0), (0.1, 66.0)])
def test_jitter_moves_it_by_a_share_of_the_interval(jitter: float, seconds: float) -> None:
    state = unhealthy()
    assert state.next_due(60, jitter) == pytest.approx(T + seconds)


def test_a_recent_success_counts_as_a_probe() -> None:
    state = HealthState()
    state.probe_succeeded(T)
    state.note_success(T + 50)
    assert not state.due(T + 60, 60, 0.0)
    assert state.due(T + 110, 60, 0.0)
    assert len(state.transitions) == 1


def test_a_live_success_makes_an_unhealthy_provider_healthy() -> None:
    state = unhealthy()
    state.note_success(T + 1)
    assert state.health is Health.HEALTHY
    assert state.last_error is None


def test_a_live_success_does_not_clear_a_configuration_error() -> None:
    state = misconfigured()
    state.note_success(T + 59)
    assert state.health is Health.CONFIG_ERROR
    assert state.due(T + 60, 60, 0.0)


def test_a_live_refusal_of_our_credentials_is_a_configuration_error_at_once() -> None:
    state = HealthState()
    state.probe_succeeded(T)
    state.note_credentials_refused(T + 1, "403")
    assert state.health is Health.CONFIG_ERROR
    assert state.last_error == "403"
    assert state.due(T + 60, 60, 0.0)


def test_the_last_error_is_kept_to_300_characters() -> None:
    state = HealthState()
    state.probe_failed(T, FailureKind.BROKEN, "x" * 5000)
    assert state.last_error == "x" * ERROR_LENGTH
    assert ERROR_LENGTH == 300


def test_transitions_say_when_from_what_to_what_and_why() -> None:
    state = HealthState()
    state.probe_succeeded(T)
    state.probe_succeeded(T + 60)
    state.probe_failed(T + 120, FailureKind.CONNECT, "refused")
    assert [(t.at, t.source, t.target, t.why) for t in state.transitions] == [
        (T, Health.UNKNOWN, Health.HEALTHY, "probe succeeded"),
        (T + 120, Health.HEALTHY, Health.UNHEALTHY, "probe failed: connect_error"),
    ]


def test_the_log_of_transitions_is_bounded() -> None:
    state = HealthState()
    for n in range(100):
        state.probe_failed(n, FailureKind.BROKEN, "no")
        state.probe_succeeded(n)
    assert len(state.transitions) == 32


def test_a_reset_makes_it_unknown_and_a_probe_due() -> None:
    state = misconfigured()
    state.reset(T + 1)
    assert state.health is Health.UNKNOWN
    assert state.last_error is None
    assert state.due(T + 1, 60, 0.0)
    assert repr(state) == "<HealthState unknown last=None>"
