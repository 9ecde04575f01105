"""Reservations and what they are learned from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.actors.learned import MODELS_KEPT, LearnedTokens


def test_the_caller_s_bound_is_reserved_beside_the_prompt() -> None:
    assert LearnedTokens().reservation("m", 100, 50, 10_000) == 150


def test_without_bound_and_experience_1024_tokens_are_expected() -> None:
    assert LearnedTokens().reservation("m", 100, None, 10_000) == 1124


def test_without_bound_the_learned_average_is_expected() -> None:
    learned = LearnedTokens()
    learned.observe("m", 300)
    assert learned.reservation("m", 100, None, 10_000) == 400
    assert learned.reservation("m", 100, 50, 10_000) == 150
    assert learned.reservation("other", 100, None, 10_000) == 1124


def test_the_average_moves_with_the_answers_and_is_rounded_up() -> None:
    learned = LearnedTokens()
    learned.observe("m", 100)
    learned.observe("m", 105)
    assert learned.average("m") == pytest.approx(100.5)
    assert learned.reservation("m", 0, None, None) == 101


def test_a_reservation_is_capped_to_the_capacity() -> None:
    assert LearnedTokens().reservation("m", 100_000, None, 6000) == 6000
    assert LearnedTokens().reservation("m", 100_000, None, None) == 101_024


def test_a_reservation_is_at_least_one_token() -> None:
    learned = LearnedTokens()
    learned.observe("m", 0)
    assert learned.reservation("m", 0, None, 100) == 1
    assert learned.reservation("m", 0, 0, 100) == 1


def test_the_least_recently_used_model_is_forgotten_first() -> None:
    learned = LearnedTokens()
    for number in range(MODELS_KEPT):
        learned.observe(f"m{number}", 1)
    assert learned.average("m0") == 1
    learned.observe("one more", 1)
    assert len(learned) == MODELS_KEPT == 1000
    assert learned.average("m0") == 1
    assert learned.average("m1") is None


@given(st.integers(0, 10**9), st.none() | st.integers(0, 10**9), st.integers(1, 10**6))
def test_a_reservation_always_fits_the_bucket(prompt: int, bound: int | None, capacity: int) -> None:
    assert 1 <= LearnedTokens().reservation("m", prompt, bound, capacity) <= capacity
