"""The limits of one key, against what they promise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.key_limits import KeyLimits, Overrun
from infermux.keys import Allowance
from tests._properties import examples


def limits(now: float = 0.0, **allows: int | None) -> KeyLimits:
    made = KeyLimits()
    made.adopt(Allowance(**allows), now)  # type: ignore[arg-type]
    return made


def test_without_limits_everything_is_admitted() -> None:
    unbounded = limits()
    assert [unbounded.admit(10**9, 0.0) for _ in range(100)] == [0] * 100
    assert unbounded.in_flight == 100


def test_each_limit_is_named_with_its_bound_and_its_time() -> None:
    by_requests = limits(requests_per_minute=1)
    assert by_requests.admit(5, 0.0) == 0
    assert by_requests.admit(5, 0.0) == Overrun("requests_per_minute", 1, 60.0)
    by_tokens = limits(tokens_per_minute=100)
    assert by_tokens.admit(60, 0.0) == 60
    assert by_tokens.admit(60, 0.0) == Overrun("tokens_per_minute", 100, 12.0)
    at_once = limits(max_concurrent=1)
    assert at_once.admit(5, 0.0) == 0
    assert at_once.admit(5, 0.0) == Overrun("max_concurrent", 1, None)


def test_a_refusal_takes_nothing() -> None:
    both = limits(requests_per_minute=10, tokens_per_minute=100)
    assert both.admit(100, 0.0) == 100
    assert isinstance(both.admit(1, 0.0), Overrun)
    assert both.levels(0.0) == {"in_flight": 1, "requests_left": 9.0, "tokens_left": 0.0}


def test_what_was_not_used_comes_back_and_an_excess_is_owed() -> None:
    by_tokens = limits(tokens_per_minute=100)
    assert by_tokens.admit(100, 0.0) == 100
    by_tokens.settle(100, 10, 0.0)
    assert by_tokens.levels(0.0)["tokens_left"] == 90.0
    assert by_tokens.admit(90, 0.0) == 90
    by_tokens.settle(90, 300, 0.0)
    assert by_tokens.levels(0.0)["tokens_left"] == -210.0
    assert isinstance(by_tokens.admit(1, 120.0), Overrun)
    assert by_tokens.admit(1, 127.0) == 1


def test_a_request_larger_than_the_limit_takes_all_of_it() -> None:
    by_tokens = limits(tokens_per_minute=100)
    assert by_tokens.admit(5000, 0.0) == 100


def test_another_limit_does_not_refill_what_is_used_up() -> None:
    key = limits(tokens_per_minute=100, requests_per_minute=2)
    key.admit(100, 0.0)
    key.adopt(Allowance(tokens_per_minute=200, requests_per_minute=2), 0.0)
    assert key.levels(0.0) == {"in_flight": 1, "requests_left": 1.0, "tokens_left": 0.0}
    key.adopt(Allowance(), 0.0)
    assert key.admit(10**6, 0.0) == 0


def test_the_words_say_whose_limit_it_is_and_until_when() -> None:
    assert Overrun("requests_per_minute", 60, 12.4).said("team-a", 10.0) == (
        "the limit of the key 'team-a' is used up (requests_per_minute: 60); try again in 3 s"
    )
    assert Overrun("max_concurrent", 2).wait(5.0) == 1.0


STEPS = st.lists(
    st.tuples(st.sampled_from(["admit", "end"]), st.floats(0, 30), st.integers(1, 200), st.integers(0, 200)),
    max_size=60,
)


@given(STEPS, st.integers(1, 20), st.integers(1, 100), st.integers(1, 5))
@settings(max_examples=examples(60), deadline=None)
def test_no_schedule_overruns_a_limit(steps: list[tuple[str, float, int, int]], rpm: int, tpm: int, most: int) -> None:
    key = limits(requests_per_minute=rpm, tokens_per_minute=tpm, max_concurrent=most)
    now, admitted, reserved_in_all, returned = 0.0, 0, 0, 0
    out: list[int] = []
    for what, seconds, tokens, used in steps:
        now += seconds
        if what == "admit":
            reserved = key.admit(tokens, now)
            if not isinstance(reserved, Overrun):
                out.append(reserved)
                admitted += 1
                reserved_in_all += reserved
        elif out:
            reserved = out.pop()
            key.settle(reserved, used, now)
            returned += max(0, reserved - used)
        assert key.in_flight == len(out) <= most
        assert admitted <= rpm + rpm * now / 60 + 1e-6
        assert reserved_in_all <= tpm + tpm * now / 60 + returned + 1e-6
