"""Times are counted to within 1/256, whoever counts them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.bench.histogram import LAST, Histogram, Latencies, added_up, bucket_of, value_of

MICROSECONDS = st.integers(0, 2**38)


@given(MICROSECONDS)
def test_the_middle_of_a_bucket_is_near_what_fell_into_it(value: int) -> None:
    assert abs(value_of(bucket_of(value)) - value) <= value / 256 + 0.5


@given(MICROSECONDS, MICROSECONDS)
def test_buckets_are_in_the_order_of_their_values(one: int, other: int) -> None:
    assert (bucket_of(one) <= bucket_of(other)) == (one <= other) or bucket_of(one) == bucket_of(other)


def test_what_is_longer_than_any_bucket_falls_into_the_last() -> None:
    assert bucket_of(2**60) == LAST


def test_percentiles_are_those_of_what_was_counted() -> None:
    histogram = Histogram()
    for milliseconds in range(1, 1001):
        histogram.record(milliseconds / 1000)
    found = histogram.latencies()
    for share in (0.5, 0.9, 0.99, 0.999):
        assert abs(found.percentile(share) / (share * 1_000_000) - 1) < 0.006
    assert found.percentile(1.0) == found.max == 1_000_000
    assert abs(found.mean / 500_500 - 1) < 0.001


def test_nothing_counted_is_zero() -> None:
    assert (Latencies().p50, Latencies().p999, Latencies().mean) == (0, 0, 0)


@settings(max_examples=40)
@given(st.lists(MICROSECONDS, max_size=20), st.lists(MICROSECONDS, max_size=20))
def test_parts_add_up_to_what_one_would_have_counted(one: list[int], other: list[int]) -> None:
    def counted(values: list[int]) -> Latencies:
        histogram = Histogram()
        for value in values:
            histogram.record(value / 1e6)
        return histogram.latencies()

    assert added_up([counted(one), counted(other)]) == counted([*one, *other])
