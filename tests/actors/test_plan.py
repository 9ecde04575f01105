"""A request's way through its candidates: what it remembers, and the error when nobody took it."""

from __future__ import annotations

import math

import pytest

from infermux.actors.messages import Reason, Want
from infermux.actors.plan import UNKNOWN_WAIT, Plan, Refusal
from infermux.errors import InfermuxError, ModelNotFound, NoHealthyProviders, RateLimited

NOW = 100.0


def told(*refusals: Refusal) -> InfermuxError:
    plan = Plan(Want("m"))
    for refusal in refusals:
        plan.refuse(refusal)
    return plan.verdict(NOW)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.is_limit])
def test_only_limits_are_a_429_with_the_shortest_wait(reason: Reason) -> None:
    error = told(Refusal("a", reason, NOW + 7.5), Refusal("b", Reason.REQUEST_LIMIT, NOW + 30))
    assert isinstance(error, RateLimited)
    assert error.retry_after == 7.5
    assert f"a: {reason.value}; b: requests_per_minute" in error.message
    assert "try again in 8 s" in error.message


def test_a_limit_that_time_alone_does_not_cure_says_a_second() -> None:
    assert told(Refusal("a", Reason.CONCURRENCY)).retry_after == UNKNOWN_WAIT


def test_a_limit_that_is_over_by_now_says_no_negative_wait() -> None:
    assert told(Refusal("a", Reason.COOLING_DOWN, NOW - 1)).retry_after == 0.0


@pytest.mark.parametrize("reason", [reason for reason in Reason if not reason.is_limit])
def test_one_cause_beside_limits_makes_it_a_503(reason: Reason) -> None:
    error = told(Refusal("a", reason, detail="why"), Refusal("b", Reason.REQUEST_LIMIT, NOW + 30))
    assert isinstance(error, NoHealthyProviders)
    assert error.retry_after == 30.0
    assert f"a: {reason.value} (why); b: requests_per_minute" in error.message


def test_what_nothing_cures_has_no_wait() -> None:
    assert told(Refusal("a", Reason.DISABLED)).retry_after is None


def test_a_model_that_everybody_said_not_to_have_is_not_found() -> None:
    error = told(Refusal("a", Reason.MODEL_SET_ASIDE, NOW + 40), Refusal("b", Reason.MODEL_SET_ASIDE, NOW + 50))
    assert isinstance(error, ModelNotFound)
    assert error.param == "model"


def test_without_a_refusal_nobody_is_left() -> None:
    assert "none left to try" in told().message


def test_only_the_last_refusal_of_a_provider_counts() -> None:
    error = told(Refusal("a", Reason.UNHEALTHY), Refusal("a", Reason.CONCURRENCY, math.inf))
    assert isinstance(error, RateLimited)


def test_it_is_starting_while_a_first_probe_is_out_whatever_else_was_tried() -> None:
    plan = Plan(Want("m"))
    seen = [plan.is_starting]
    plan.refuse(Refusal("a", Reason.UNHEALTHY))
    seen.append(plan.is_starting)
    plan.refuse(Refusal("b", Reason.STARTING))
    seen.append(plan.is_starting)
    plan.tried |= {("c", "m")}
    seen.append(plan.is_starting)
    assert seen == [False, False, True, True]


def test_a_restart_forgets_order_and_refusals_but_not_what_was_tried() -> None:
    plan = Plan(Want("m"), position=3, tried=frozenset({("a", "m")}), silent=frozenset({"a"}))
    plan.refuse(Refusal("b", Reason.STARTING))
    plan.restart()
    assert (plan.position, plan.refusals, plan.tried, plan.silent) == (0, {}, frozenset({("a", "m")}), frozenset({"a"}))
