"""Limits told by a provider: what they let through, when they free, and that they are never overrun."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.learned_limits import KEPT, LearnedLimits, Mark
from infermux.actors.messages import Reason
from infermux.providers.ratelimits import Quota, Quotas
from tests._properties import examples

M = (0, "m")


def told(*, requests: Quota | None = None, tokens: Quota | None = None, at: float = 0.0) -> LearnedLimits:
    limits = LearnedLimits()
    limits.hear(M, Quotas(requests, tokens), None, at)
    return limits


def test_where_nothing_was_told_nothing_is_held_back() -> None:
    limits = LearnedLimits()
    assert len(limits) == 0
    assert limits.blocked(M, 10**9, 0.0) is None
    assert limits.take(M, 1) is None


def test_nothing_left_blocks_until_the_reset_where_no_limit_was_told() -> None:
    limits = told(requests=Quota(0, 30.0))
    assert limits.blocked(M, 1, 29.9) == (Reason.REQUEST_LIMIT, 30.0)
    assert limits.blocked(M, 1, 30.0) is None


def test_with_its_limit_it_refills_evenly_up_to_the_reset() -> None:
    limits = told(requests=Quota(0, 60.0, 60))
    assert limits.blocked(M, 1, 0.0) == (Reason.REQUEST_LIMIT, 1.0)
    assert limits.blocked(M, 1, 1.0) is None


def test_no_more_go_out_than_remain() -> None:
    limits = told(requests=Quota(2, 60.0))
    for _ in range(2):
        assert limits.blocked(M, 1, 0.0) is None
        limits.take(M, 1)
    assert limits.blocked(M, 1, 0.0) == (Reason.REQUEST_LIMIT, 60.0)


def test_tokens_are_counted_too() -> None:
    limits = told(tokens=Quota(1000, 60.0, 6000))
    limits.take(M, 700)
    assert limits.blocked(M, 300, 0.0) is None
    blocked = limits.blocked(M, 400, 0.0)
    assert blocked is not None
    assert blocked[1] == pytest.approx(1.2)
    assert limits.blocked(M, 50_000, 0.0) == (Reason.TOKEN_LIMIT, 60.0)


def test_models_and_keys_do_not_share() -> None:
    limits = told(requests=Quota(0, 60.0))
    assert limits.blocked((0, "other"), 1, 0.0) is None
    assert limits.blocked((1, "m"), 1, 0.0) is None


def test_what_went_out_after_the_answered_request_is_taken_off() -> None:
    limits = told(requests=Quota(10, 60.0))
    first = limits.take(M, 5)
    for _ in range(3):
        limits.take(M, 5)
    limits.hear(M, Quotas(Quota(4, 60.0)), first, 1.0)
    limits.take(M, 5)
    assert limits.blocked(M, 1, 1.0) == (Reason.REQUEST_LIMIT, 61.0)


def test_the_answer_to_an_earlier_request_is_old_news() -> None:
    limits = told(requests=Quota(10, 60.0))
    first, second = limits.take(M, 1), limits.take(M, 1)
    limits.hear(M, Quotas(Quota(0, 60.0)), second, 1.0)
    limits.hear(M, Quotas(Quota(9, 60.0)), first, 2.0)
    assert limits.blocked(M, 1, 2.0) == (Reason.REQUEST_LIMIT, 61.0)


def test_newer_news_replace_older() -> None:
    limits = told(requests=Quota(1, 60.0))
    mark = limits.take(M, 1)
    assert limits.blocked(M, 1, 1.0) is not None
    limits.hear(M, Quotas(Quota(5, 60.0)), mark, 1.0)
    assert limits.blocked(M, 1, 1.0) is None


def test_what_did_not_go_out_comes_back() -> None:
    limits = told(requests=Quota(1, 60.0), tokens=Quota(5, 60.0))
    limits.take(M, 5)
    limits.give_back(M, 5)
    assert limits.blocked(M, 5, 0.0) is None


def test_what_is_known_is_shown() -> None:
    limits = told(requests=Quota(3, 60.0, 10))
    assert limits.statistics(0.0) == [
        {"key": 1, "model": "m", "requests": {"limit": 10, "remaining": 3.0, "reset_in": 60.0}, "tokens": None}
    ]
    assert limits.statistics(60.0) == []


def test_pairs_are_bounded() -> None:
    limits = LearnedLimits()
    for i in range(2 * KEPT):
        limits.hear((0, f"m{i}"), Quotas(Quota(0, 60.0)), None, 0.0)
    assert len(limits) == KEPT


@settings(max_examples=examples(100), deadline=None)
@given(
    st.integers(1, 20),
    st.floats(1.0, 100.0),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["send", "hear"])), max_size=80),
)
def test_a_provider_that_tells_the_truth_is_never_overrun(
    limit: int, reset: float, steps: list[tuple[float, str]]
) -> None:
    """The model: a bucket of `limit`, whole again `reset` seconds after it was empty, counting each request at once.

    While nothing is known, at the start and after the time that was told for all of it, one request goes out alone.
    """
    limits, now, level, at = LearnedLimits(), 0.0, float(limit), 0.0
    unheard: list[tuple[Mark | None, Quotas]] = []
    for passed, what in steps:
        now += passed
        level, at = min(level + (now - at) * limit / reset, limit), now
        if what == "hear" and unheard:
            mark, quotas = unheard.pop()
            limits.hear(M, quotas, mark, now)
        elif what == "send" and limits.blocked(M, 1, now) is None and (limits.statistics(now) or not unheard):
            mark = limits.take(M, 1)
            level -= 1
            assert level > -1.001
            left = max(level, 0.0)
            wait = (limit - left) * reset / limit
            unheard.append((mark, Quotas(Quota(int(left), max(wait, 0.001), limit))))
        blocked = limits.blocked(M, 1, now)
        if blocked is not None:
            assert blocked[1] > now
            assert limits.blocked(M, 1, blocked[1]) is None
