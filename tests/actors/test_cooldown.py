"""Staying away after a 429, and from a model after a 404 for it."""

from __future__ import annotations

import math

import pytest

from infermux.actors.cooldown import MODELS_KEPT, Cooldown, SetAside

T = 500.0


def test_at_first_nothing_is_blocked() -> None:
    assert Cooldown().blocked_until(T) == 0.0


def test_after_a_429_the_provider_is_left_alone_until_retry_after_has_passed() -> None:
    cooldown = Cooldown()
    assert cooldown.rate_limited(T, 7.5) == T + 7.5
    assert cooldown.blocked_until(T + 7.4) == T + 7.5
    assert cooldown.blocked_until(T + 7.5) == 0.0


def test_without_retry_after_it_waits_a_second_doubling_to_sixty() -> None:
    cooldown, now, waits = Cooldown(), T, list[float]()
    for _ in range(9):
        until = cooldown.rate_limited(now)
        waits.append(until - now)
        now = until
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_success_resets_the_doubling() -> None:
    cooldown = Cooldown()
    now = cooldown.rate_limited(cooldown.rate_limited(T))
    cooldown.succeeded(now)
    assert cooldown.rate_limited(now) == now + 1


def test_a_burst_of_429s_is_one_offence() -> None:
    cooldown = Cooldown()
    assert {cooldown.rate_limited(T + 0.001 * n) for n in range(200)} == {T + 1}
    assert cooldown.rate_limited(T + 1) == T + 3


def test_a_shorter_retry_after_does_not_shorten_an_active_cool_down() -> None:
    cooldown = Cooldown()
    cooldown.rate_limited(T, 20)
    assert cooldown.rate_limited(T + 1, 2) == T + 20
    assert cooldown.rate_limited(T + 1) == T + 20
    assert cooldown.rate_limited(T + 1, 40) == T + 41


def test_a_success_sent_before_the_429_does_not_reset_the_doubling() -> None:
    cooldown = Cooldown()
    until = cooldown.rate_limited(T)
    cooldown.succeeded(T + 0.5)
    assert cooldown.blocked_until(T + 0.5) == until
    assert cooldown.rate_limited(until) == until + 2


@pytest.mark.parametrize("nonsense", [-1.0, math.nan, -math.inf])
def test_a_nonsense_retry_after_counts_as_none(nonsense: float) -> None:
    assert Cooldown().rate_limited(T, nonsense) == T + 1


@pytest.mark.parametrize("long", [86_401.0, 1e300, math.inf])
def test_nobody_is_left_alone_for_more_than_a_day(long: float) -> None:
    assert Cooldown().rate_limited(T, long) == T + 86_400


def test_a_retry_after_of_zero_lets_the_next_request_through() -> None:
    cooldown = Cooldown()
    cooldown.rate_limited(T, 0)
    assert cooldown.blocked_until(T) == 0.0


def test_a_reset_ends_it() -> None:
    cooldown = Cooldown()
    cooldown.rate_limited(T, 100)
    cooldown.reset()
    assert cooldown.blocked_until(T) == 0.0
    assert cooldown.rate_limited(T) == T + 1


def test_its_repr_shows_until_when() -> None:
    cooldown = Cooldown()
    cooldown.rate_limited(T)
    assert repr(cooldown) == "<Cooldown until=501.0 next=2.0>"


def test_a_model_is_set_aside_for_sixty_seconds() -> None:
    aside = SetAside()
    assert aside.set_aside("gone", T) == T + 60
    assert aside.blocked_until("gone", T + 59.9) == T + 60
    assert aside.blocked_until("other", T) == 0.0
    assert aside.models(T + 1) == {"gone": T + 60}
    assert aside.models(T + 60) == {}
    assert aside.blocked_until("gone", T + 60) == 0.0
    assert len(aside) == 0


def test_setting_a_model_aside_again_begins_anew() -> None:
    aside = SetAside()
    aside.set_aside("gone", T)
    aside.set_aside("gone", T + 30)
    assert aside.blocked_until("gone", T + 60) == T + 90


def test_the_models_set_aside_are_bounded() -> None:
    aside = SetAside()
    for number in range(MODELS_KEPT + 1):
        aside.set_aside(f"m{number}", T)
    assert len(aside) == MODELS_KEPT
    assert aside.blocked_until("m0", T) == 0.0
    assert aside.blocked_until("m1", T) == T + 60


def test_clearing_takes_all_models_back() -> None:
    aside = SetAside()
    aside.set_aside("gone", T)
    aside.clear()
    assert aside.blocked_until("gone", T) == 0.0
