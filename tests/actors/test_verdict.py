"""What happens after a failed attempt, and what the caller is told when nothing is left."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.actors.verdict import (
    CONTEXT_LENGTH,
    MAX_QUOTED,
    Failed,
    History,
    Move,
    Next,
    backoff,
    broken_error,
    failure_error,
)
from infermux.config.settings import Backoff, Retry
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
    made = History(Retry(max_attempts=most), stream)
    for place, kind in enumerate(kinds):
        made.failed.append(Failed(f"p{place}", "m", UpstreamFailure(kind, f"words {place}", **more)))
    return made


@given(st.lists(KINDS, min_size=1, max_size=8), st.integers(1, 8), st.booleans())
def test_never_more_attempts_than_allowed_and_never_one_after_the_callers_own_mistake(
    kinds: list[FailureKind], most: int, stream: bool
) -> None:
    made = history(*kinds, most=most, stream=stream)
    then = made.decide(60.0, random.Random(1))
    if then.move is not Move.GIVE_UP:
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
    then = history(*kinds, stream=stream).decide(60.0, random.Random(1))
    assert (then.move is not Move.GIVE_UP) is again


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
    assert history(FailureKind.BROKEN).error().message == "provider p0 failed: broken: words 0"


def test_a_provider_that_cannot_be_reached_is_told_with_its_address_and_why_once() -> None:
    failure = UpstreamFailure(FailureKind.CONNECT, "cannot connect to http://10.0.0.1: Connection refused")
    told = "provider p cannot be reached: http://10.0.0.1: Connection refused"
    assert failure_error(Failed("p", "m", failure), 1).message == told


def test_who_asks_for_a_credential_and_has_none_is_told_apart_from_who_refuses_ours() -> None:
    failure = UpstreamFailure(FailureKind.CREDENTIALS, "no", status=401)
    assert "refused the router's own" in failure_error(Failed("p", "m", failure), 1).message
    told = "provider p asks for a credential, and is configured without one: it answered 401: no"
    assert failure_error(Failed("p", "m", failure, keyless=True), 1).message == told


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("answered 500: oops", 500, "provider p answered 500: oops"),
        ("answered 200 with an error: busy", 529, "provider p answered 200 with an error: busy"),
        ("answered with JSON that is no message", 200, "provider p answered with JSON that is no message"),
        ("ended its stream without message_stop", 200, "provider p ended its stream without message_stop"),
        (
            "broke off its answer: it closed the connection",
            None,
            "provider p broke off its answer: it closed the connection",
        ),
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
    made = History(Retry(), stream=False)
    made.failed.append(Failed("p", "m", UpstreamFailure(FailureKind.SERVER_ERROR, "x" * 10_000, status=500)))
    assert made.error().message.count("x") == MAX_QUOTED


FULL = 0.1  # seconds: the most a first backoff may be


def decided(kind: FailureKind, *, retry: Retry | None = None, left: float = 60.0, **more: Any) -> Next:
    made = History(retry or Retry(), stream=True)
    made.failed.append(Failed("p", "m", UpstreamFailure(kind, "words", **more)))
    return made.decide(left, random.Random(1))


@pytest.mark.parametrize(
    ("kind", "status", "retry_after", "stays"),
    [
        (FailureKind.CONNECT, None, None, True),
        (FailureKind.SERVER_ERROR, 500, None, True),
        (FailureKind.SERVER_ERROR, 502, None, True),
        (FailureKind.SERVER_ERROR, 503, None, True),
        (FailureKind.SERVER_ERROR, 529, None, True),
        (FailureKind.SERVER_ERROR, 504, None, False),
        (FailureKind.SERVER_ERROR, 501, None, False),
        (FailureKind.RATE_LIMITED, 429, 3.0, True),
        (FailureKind.RATE_LIMITED, 429, 3.1, False),
        (FailureKind.RATE_LIMITED, 429, None, False),
        (FailureKind.CONNECT_TIMEOUT, None, None, False),
        (FailureKind.FIRST_TOKEN_TIMEOUT, None, None, False),
        (FailureKind.BROKEN, None, None, False),
        (FailureKind.MALFORMED, 200, None, False),
        (FailureKind.CREDENTIALS, 401, None, False),
        (FailureKind.MODEL_NOT_FOUND, 404, None, False),
    ],
)
def test_only_what_a_moment_may_cure_stays_with_its_provider(
    kind: FailureKind, status: int | None, retry_after: float | None, stays: bool
) -> None:
    then = decided(kind, status=status, retry_after=retry_after)
    assert then.move is (Move.STAY if stays else Move.ELSEWHERE)
    if retry_after is not None and stays:
        assert then.wait == retry_after
    elif stays:
        assert 0 <= then.wait <= FULL


def test_a_request_stays_as_often_as_it_may_and_no_more() -> None:
    made = History(Retry(same_provider=2, max_attempts=9), stream=True)
    moves: list[Move] = []
    for _ in range(4):
        made.failed.append(Failed("p", "m", UpstreamFailure(FailureKind.SERVER_ERROR, "words", status=503)))
        moves.append(made.decide(60.0, random.Random(1)).move)
    assert moves == [Move.STAY, Move.STAY, Move.ELSEWHERE, Move.ELSEWHERE]


def test_a_wait_that_the_deadline_would_cut_is_not_begun() -> None:
    assert decided(FailureKind.RATE_LIMITED, left=1.0, retry_after=2.0).move is Move.ELSEWHERE
    assert decided(FailureKind.SERVER_ERROR, left=0.0, status=500).move is Move.GIVE_UP


def test_a_prompt_that_is_too_long_goes_once_to_the_models_for_that() -> None:
    made = History(Retry(), stream=False)
    made.failed.append(Failed("p", "m", UpstreamFailure(FailureKind.CALLER, "long", status=400, code=CONTEXT_LENGTH)))
    assert made.decide(60.0, random.Random(1)).move is Move.LONGER_CONTEXT
    made.longer_context = True
    assert made.decide(60.0, random.Random(1)).move is Move.GIVE_UP


def test_a_prompt_that_was_too_long_is_what_the_caller_hears_whatever_came_after() -> None:
    made = History(Retry(), stream=False)
    made.failed.append(Failed("p", "m", UpstreamFailure(FailureKind.CALLER, "long", status=400, code=CONTEXT_LENGTH)))
    made.failed.append(Failed("q", "l", UpstreamFailure(FailureKind.SERVER_ERROR, "down", status=500)))
    error = made.error()
    assert (error.status, error.code, error.provider) == (400, CONTEXT_LENGTH, "p")


def test_what_a_content_filter_refuses_is_never_tried_again() -> None:
    assert decided(FailureKind.CALLER, status=400, code="content_filter").move is Move.GIVE_UP


@given(st.integers(0, 40), st.integers(0, 2**32), st.floats(0.01, 1.0), st.floats(1.0, 10.0))
def test_a_backoff_is_jittered_over_its_whole_range(again: int, seed: int, base: float, most: float) -> None:
    wait = backoff(Backoff(base=base, max=most), again, random.Random(seed))
    assert 0.0 <= wait <= min(most, base * 2**again)
