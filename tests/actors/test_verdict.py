"""What happens after a failed attempt, and what the caller is told when nothing is left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.actors.verdict import MAX_QUOTED, Failed, History, broken_error, failure_error
from infermux.errors import (
    FailureKind,
    InfermuxError,
    ProviderRefusal,
    RateLimited,
    UpstreamError,
    UpstreamFailure,
    UpstreamTimeout,
)

KINDS = st.sampled_from(list(FailureKind))


def history(*kinds: FailureKind, most: int = 4, stream: bool = False, **more: Any) -> History:
    made = History(most, stream)
    for place, kind in enumerate(kinds):
        made.failed.append(Failed(f"p{place}", "m", UpstreamFailure(kind, f"words {place}", **more)))
    return made


@given(st.lists(KINDS, min_size=1, max_size=8), st.integers(1, 8), st.booleans())
def test_never_more_attempts_than_allowed_and_never_one_after_the_callers_own_mistake(
    kinds: list[FailureKind], most: int, stream: bool
) -> None:
    made = history(*kinds, most=most, stream=stream)
    if made.may_try_again():
        assert made.attempts < most
        assert kinds[-1] is not FailureKind.CALLER


@given(st.lists(KINDS, min_size=1, max_size=8), st.booleans())
def test_there_is_always_something_to_tell_and_the_status_fits_the_failures(
    kinds: list[FailureKind], stream: bool
) -> None:
    error = history(*kinds, stream=stream, status=404).error()
    assert isinstance(error, InfermuxError)
    assert 400 <= error.status < 600
    assert (error.status == 429) == (
        FailureKind.RATE_LIMITED in kinds
        and kinds[-1] is not FailureKind.CALLER
        and set(kinds) <= {FailureKind.RATE_LIMITED, FailureKind.MODEL_NOT_FOUND}
    )


@pytest.mark.parametrize(
    ("kinds", "stream", "again"),
    [
        ([FailureKind.TOTAL_TIMEOUT], False, True),
        ([FailureKind.TOTAL_TIMEOUT, FailureKind.SERVER_ERROR], False, False),
        ([FailureKind.TOTAL_TIMEOUT, FailureKind.TOTAL_TIMEOUT], False, False),
        ([FailureKind.SERVER_ERROR, FailureKind.TOTAL_TIMEOUT], False, True),
        ([FailureKind.TOTAL_TIMEOUT, FailureKind.SERVER_ERROR], True, True),
        ([FailureKind.FIRST_TOKEN_TIMEOUT] * 3, True, True),
        ([FailureKind.CONNECT_TIMEOUT] * 3, False, True),
        ([FailureKind.CALLER], False, False),
    ],
)
def test_after_a_whole_answer_timed_out_there_is_one_more_attempt(
    kinds: list[FailureKind], stream: bool, again: bool
) -> None:
    assert history(*kinds, stream=stream).may_try_again() is again


def test_the_callers_mistake_goes_back_as_the_provider_wrote_it() -> None:
    error = history(FailureKind.CALLER, status=413, body=b"{}", content_type=b"x/y").error()
    assert isinstance(error, ProviderRefusal)
    assert (error.status, error.body, error.content_type, error.provider) == (413, b"{}", b"x/y", "p0")


def test_a_refusal_without_status_or_body_is_a_plain_400() -> None:
    error = history(FailureKind.CALLER).error()
    assert isinstance(error, ProviderRefusal)
    assert (error.status, error.body, error.content_type) == (400, b"", b"application/json")


def test_all_429_say_the_shortest_wait_that_any_of_them_named() -> None:
    made = history(FailureKind.RATE_LIMITED, FailureKind.RATE_LIMITED)
    made.failed[0].failure.retry_after = 40.0
    error = made.error()
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.provider) == (40.0, "p1")
    assert "try again in 40 s" in error.message


def test_429_without_a_word_is_a_second() -> None:
    assert history(FailureKind.RATE_LIMITED).error().retry_after == 1.0


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind.is_timeout])
def test_a_timeout_is_a_504_with_its_own_code(kind: FailureKind) -> None:
    error = history(kind).error()
    assert isinstance(error, UpstreamTimeout)
    assert (error.status, error.code, error.message) == (504, kind.value, "provider p0: words 0")


def test_everything_else_is_a_502_with_status_name_and_the_number_of_attempts() -> None:
    error = history(FailureKind.CONNECT, FailureKind.SERVER_ERROR, status=529).error()
    assert isinstance(error, UpstreamError)
    assert (error.status, error.message) == (502, "provider p1 answered 529: words 1 (after 2 attempts)")


def test_a_failure_without_a_status_is_named_by_its_kind() -> None:
    assert history(FailureKind.CONNECT).error().message == "provider p0 failed: connect_error: words 0"


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("answered 500: oops", 500, "provider p answered 500: oops"),
        ("answered 200 with an error: busy", 529, "provider p answered 200 with an error: busy"),
        ("answered with JSON that is no message", 200, "provider p answered with JSON that is no message"),
        ("ended its stream without message_stop", 200, "provider p ended its stream without message_stop"),
        ("sent an event that is no chunk", None, "provider p sent an event that is no chunk"),
    ],
)
def test_what_says_already_what_the_provider_did_is_not_told_twice(words: str, status: int | None, told: str) -> None:
    failure = UpstreamFailure(FailureKind.MALFORMED, words, status=status)
    assert failure_error(Failed("p", "m", failure), 1).message == told


@pytest.mark.parametrize(
    ("status", "kept"),
    [(529, 529), (429, 429), (400, 400), (500, 500), (401, 502), (403, 502), (200, 502), (None, 502)],
)
def test_an_error_in_the_middle_of_a_stream_keeps_the_status_that_says_its_type(status: int | None, kept: int) -> None:
    error = broken_error(Failed("p", "m", UpstreamFailure(FailureKind.BROKEN, "words", status=status)))
    assert (error.status, error.code) == (kept, "upstream_error")


def test_a_stream_that_stalls_is_a_timeout_whatever_its_status() -> None:
    error = broken_error(Failed("p", "m", UpstreamFailure(FailureKind.IDLE_TIMEOUT, "nothing came", status=500)))
    assert (error.status, error.code) == (504, "idle_timeout")


def test_a_providers_words_are_quoted_up_to_a_bound() -> None:
    made = History(4, stream=False)
    made.failed.append(Failed("p", "m", UpstreamFailure(FailureKind.SERVER_ERROR, "x" * 10_000, status=500)))
    assert made.error().message.count("x") == MAX_QUOTED
