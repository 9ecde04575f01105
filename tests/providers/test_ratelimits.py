"""Rate limit headers: those of both families as documented, and whatever else anybody may send."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.ratelimits import LONGEST, Quota, Quotas, read_quotas
from tests._properties import examples

DATE = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def openai(what: str = "requests", **parts: str) -> list[tuple[bytes, bytes]]:
    return [(f"x-ratelimit-{part}-{what}".encode(), value.encode()) for part, value in parts.items()]


def anthropic(what: str = "requests", **parts: str) -> list[tuple[bytes, bytes]]:
    return [(f"anthropic-ratelimit-{what}-{part}".encode(), value.encode()) for part, value in parts.items()]


def test_answers_without_such_headers_say_nothing() -> None:
    assert read_quotas([(b"content-type", b"application/json"), (b"x-request-id", b"1")], DATE) is None


def test_openais_as_documented() -> None:
    headers = openai(limit="60", remaining="59", reset="1s")
    headers += openai("tokens", limit="150000", remaining="149984", reset="6m0s")
    assert read_quotas(headers, DATE) == Quotas(Quota(59, 1.0, 60), Quota(149984, 360.0, 150000))


@pytest.mark.parametrize(("reset", "seconds"), [("20ms", 0.02), ("1m30.5s", 90.5), ("7.66s", 7.66), ("12", 12.0)])
def test_durations(reset: str, seconds: float) -> None:
    found = read_quotas(openai(remaining="0", reset=reset), DATE)
    assert found is not None
    assert found.requests is not None
    assert found.requests.reset == pytest.approx(seconds)


def test_anthropics_as_documented() -> None:
    headers = anthropic(limit="50", remaining="49", reset="2026-01-01T00:00:02Z")
    headers += anthropic("tokens", limit="50000", remaining="40000", reset="2026-01-01T00:00:12+00:00")
    headers += anthropic("input-tokens", limit="40000", remaining="39000", reset="2026-01-01T00:00:09Z")
    headers += anthropic("output-tokens", limit="10000", remaining="1000", reset="2026-01-01T00:00:54Z")
    assert read_quotas(headers, DATE) == Quotas(Quota(49, 2.0, 50), Quota(40000, 12.0, 50000))


def test_tokens_of_one_kind_that_are_used_up_stop_everything() -> None:
    headers = anthropic("tokens", limit="50000", remaining="40000", reset="2026-01-01T00:00:12Z")
    headers += anthropic("output-tokens", limit="10000", remaining="0", reset="2026-01-01T00:00:54Z")
    assert read_quotas(headers, DATE) == Quotas(tokens=Quota(0, 54.0, 10000))


def test_input_and_output_alone_are_added_up() -> None:
    headers = anthropic("input-tokens", limit="40000", remaining="39000", reset="2026-01-01T00:00:09Z")
    one = read_quotas(headers, DATE)
    headers += anthropic("output-tokens", limit="10000", remaining="1000", reset="2026-01-01T00:00:54Z")
    assert (one, read_quotas(headers, DATE)) == (None, Quotas(tokens=Quota(40000, 9.0, 50000)))


def test_a_reset_is_counted_from_the_answers_own_date() -> None:
    headers = [(b"date", b"Thu, 01 Jan 2026 00:00:00 GMT"), *anthropic(remaining="0", reset="2026-01-01T00:00:30Z")]
    assert read_quotas(headers, DATE + 7200) == Quotas(Quota(0, 30.0))
    headers[0] = (b"date", b"yesterday")
    assert read_quotas(headers, DATE + 20) == Quotas(Quota(0, 10.0))


@pytest.mark.parametrize(
    "headers",
    [
        openai(remaining="0"),
        openai(reset="1s"),
        openai(remaining="-1", reset="1s"),
        openai(remaining="1.5", reset="1s"),
        openai(remaining="many", reset="1s"),
        openai(remaining="0", reset="soon"),
        openai(remaining="0", reset="0s"),
        openai(remaining="0", reset="1767225600"),
        anthropic(remaining="0", reset="2026-01-01T00:00:30"),
        anthropic(remaining="0", reset="2025-12-31T23:59:59Z"),
        anthropic(remaining="0", reset="2026-01-03T00:00:00Z"),
        anthropic(remaining="0", reset="30s"),
        openai("prompts", remaining="0", reset="1s"),
    ],
)
def test_what_is_not_as_documented_is_ignored(headers: list[tuple[bytes, bytes]]) -> None:
    assert read_quotas(headers, DATE) is None


def test_a_limit_below_what_remains_is_no_limit() -> None:
    assert read_quotas(openai(limit="5", remaining="9", reset="1s"), DATE) == Quotas(Quota(9, 1.0, None))


NAMES = st.sampled_from(
    [name for what in ("requests", "tokens") for name, _ in openai(what, limit="", remaining="", reset="")]
    + [
        name
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
        for name, _ in anthropic(what, limit="", remaining="", reset="")
    ]
    + [b"date", b"x-ratelimit-", b"anthropic-ratelimit-requests"]
)
VALUES = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 10**9).map(lambda n: b"%d" % n),
    st.floats(0, 1e6).map(lambda n: f"{n}s".encode()),
    st.datetimes().map(lambda at: at.isoformat().encode() + b"Z"),
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=12), st.floats(0, 4e9))
def test_nothing_that_is_sent_breaks_it_or_goes_out_of_bounds(headers: list[tuple[bytes, bytes]], wall: float) -> None:
    found = read_quotas(headers, wall)
    for quota in () if found is None else (found.requests, found.tokens):
        if quota is not None:
            assert quota.remaining >= 0
            assert 0 < quota.reset <= LONGEST
            assert not math.isnan(quota.reset)
            assert quota.limit is None or quota.limit >= max(quota.remaining, 1)
