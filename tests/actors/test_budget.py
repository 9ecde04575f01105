"""The bound on extra requests."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.budget import WINDOW, Budget
from tests._properties import examples


def test_without_traffic_only_the_fixed_rate_is_allowed() -> None:
    budget = Budget(0.2, 3.0)
    assert [budget.take(5.0) for _ in range(31)] == [True] * 30 + [False]


def test_traffic_allows_its_share_on_top() -> None:
    budget = Budget(0.2, 0.0)
    for _ in range(50):
        budget.note_request(5.0)
    assert sum(budget.take(5.5) for _ in range(50)) == 10


def test_what_is_ten_seconds_old_counts_no_more() -> None:
    budget = Budget(0.5, 0.0)
    for _ in range(10):
        budget.note_request(100.0)
    assert budget.take(109.9)
    assert not budget.take(110.0)


def test_after_a_long_silence_nothing_of_before_counts() -> None:
    budget = Budget(0.0, 1.0)
    for second in range(WINDOW):
        assert budget.take(float(second))
    assert not budget.take(WINDOW - 0.1)
    assert [budget.take(100.0) for _ in range(WINDOW + 1)] == [True] * WINDOW + [False]


def test_a_share_of_nothing_allows_nothing() -> None:
    assert not Budget(0.0, 0.0).take(1.0)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 4.0), st.booleans()), max_size=120),
    st.sampled_from([0.0, 0.05, 0.2, 1.0]),
    st.sampled_from([0.0, 0.3, 3.0]),
)
def test_it_does_what_a_list_of_all_events_would(steps: list[tuple[float, bool]], ratio: float, rate: float) -> None:
    budget, now = Budget(ratio, rate), 0.0
    requests: deque[int] = deque()
    extras: deque[int] = deque()
    for wait, is_extra in steps:
        now += wait
        second = int(now)
        for events in (requests, extras):
            while events and events[0] <= second - WINDOW:
                events.popleft()
        if not is_extra:
            budget.note_request(now)
            requests.append(second)
            continue
        allowed = len(extras) + 1 <= ratio * len(requests) + rate * WINDOW
        assert budget.take(now) is allowed
        if allowed:
            extras.append(second)
