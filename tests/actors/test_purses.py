"""Budgets without actors: periods, promises and what was spent."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from infermux.actors.purse import Claim, Purse, bounds, nano
from infermux.actors.purses import OTHERS, Purses, Refused, Ticket
from infermux.config.settings import Budget
from infermux.database.budgets import Added, Spent
from tests._properties import examples


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = at("2026-11-22T12:00")  # a Sunday
DAY = 86_400.0


def claim(dollars: float, name: str = "a", period: str = "day", *, hard: bool = True) -> Claim:
    return Claim.of(Budget(caller=name, limit_usd=dollars, period=period, hard=hard), "caller", name)


def ticket(of: Ticket | Refused) -> Ticket:
    assert isinstance(of, Ticket)
    return of


def refused(of: Ticket | Refused) -> Refused:
    assert isinstance(of, Refused)
    return of


# Periods


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        ("day", "2026-11-22T12:00", "2026-11-22", "2026-11-23"),
        ("day", "2026-11-22T00:00", "2026-11-22", "2026-11-23"),
        ("week", "2026-11-22T23:59:59", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00", "2026-11-23", "2026-11-30"),
        ("month", "2026-12-31T12:00", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(period: str, moment: str, start: str, end: str) -> None:
    assert bounds(period, at(moment)) == (at(start), at(end))


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(["day", "week", "month"]), st.floats(0, 4e9))
def test_every_moment_is_in_its_period_and_periods_touch(period: str, moment: float) -> None:
    start, end = bounds(period, moment)
    assert start <= moment < end
    assert bounds(period, end)[0] == end
    assert bounds(period, start) == (start, end)


# Promises


def test_what_does_not_fit_is_refused_until_the_period_ends() -> None:
    purses = Purses()
    purses.settle(ticket(purses.reserve([claim(1.0)], nano(0.9), NOW)), nano(0.9))
    answer = refused(purses.reserve([claim(1.0)], nano(0.2), NOW))
    assert answer.until == DAY / 2
    assert answer.purse.reserved == 0


def test_what_fits_exactly_is_promised() -> None:
    purses = Purses()
    assert ticket(purses.reserve([claim(1.0)], nano(1.0), NOW)).held.purses[0].left(nano(1.0)) == 0


def test_what_requests_under_way_hold_may_come_back_soon() -> None:
    purses = Purses()
    first = ticket(purses.reserve([claim(1.0)], nano(0.9), NOW))
    assert refused(purses.reserve([claim(1.0)], nano(0.2), NOW)).until == 1.0
    purses.settle(first, nano(0.1))
    assert ticket(purses.reserve([claim(1.0)], nano(0.2), NOW)).amount == nano(0.2)


def test_a_budget_that_is_used_up_has_no_room_for_what_costs_nothing() -> None:
    purses = Purses()
    purses.settle(ticket(purses.reserve([claim(1.0)], 0, NOW)), nano(1.0))
    assert isinstance(purses.reserve([claim(1.0)], 0, NOW), Refused)
    assert isinstance(Purses().reserve([claim(0.0)], 0, NOW), Refused)


def test_a_soft_budget_refuses_nothing() -> None:
    purses = Purses()
    soft = claim(1.0, hard=False)
    purses.settle(ticket(purses.reserve([soft], nano(5), NOW)), nano(5))
    assert ticket(purses.reserve([soft], nano(5), NOW)).held.purses[0].spent == nano(5)


def test_a_request_under_several_budgets_needs_room_in_each_or_is_promised_nothing() -> None:
    purses = Purses()
    wide, narrow = claim(10.0, "a"), claim(1.0, "b")
    assert refused(purses.reserve([wide, narrow], nano(2), NOW)).claim is narrow
    assert [purses.purse(each.key, NOW).reserved for each in (wide, narrow)] == [0, 0]


def test_two_limits_on_one_purse_are_promised_and_spent_once() -> None:
    purses = Purses()
    warning, limit = claim(1.0, hard=False), claim(2.0)
    told = purses.settle(ticket(purses.reserve([warning, limit], nano(1.5), NOW)), nano(1.5))
    assert purses.purse(limit.key, NOW).spent == nano(1.5)
    assert told == [(warning, purses.purse(limit.key, NOW))]


def test_that_a_budget_is_used_up_is_told_once() -> None:
    purses = Purses()
    soft = claim(1.0, hard=False)
    told = [purses.settle(ticket(purses.reserve([soft], 0, NOW)), nano(0.6)) for _ in range(4)]
    assert [len(each) for each in told] == [0, 1, 0, 0]


def test_a_new_period_begins_with_nothing() -> None:
    purses = Purses()
    purses.settle(ticket(purses.reserve([claim(1.0)], 0, NOW)), nano(1.0))
    assert ticket(purses.reserve([claim(1.0)], nano(1.0), NOW + DAY)).held.purses[0].spent == 0


def test_only_what_we_have_spent_is_ours_to_keep() -> None:
    purses = Purses()
    held = ticket(purses.reserve([claim(9.0)], nano(0.5), NOW))
    [purse] = held.held.purses
    purse.spent += nano(3)  # others', told by somebody
    purses.settle(held, nano(1))
    key = ("caller", "a", "day", int(purse.start))
    assert purse.row == Added(*key, nano(1), nano(1))
    purse.is_kept(nano(1))
    purses.catch_up([Spent(*key, nano(3.5))], NOW)
    assert (purse.spent, purse.unsent) == (nano(4), 0)
    purses.catch_up([Spent(*key, nano(4.5))], NOW)
    assert (purse.spent, purse.kept) == (nano(4.5), nano(4.5))


def test_what_was_promised_before_midnight_is_spent_before_midnight() -> None:
    purses = Purses()
    before = ticket(purses.reserve([claim(1.0)], nano(0.5), NOW))
    after = ticket(purses.reserve([claim(1.0)], nano(0.5), NOW + DAY))
    purses.settle(before, nano(0.4))
    assert after.held.purses[0].spent == 0
    assert [purse.row for purse in purses.take_changed()] == [
        Added("caller", "a", "day", int(at("2026-11-22")), nano(0.4), nano(0.4))
    ]


def test_claims_that_come_again_find_the_purses_of_the_new_period() -> None:
    purses, claims = Purses(), (claim(1.0), claim(2.0, period="month"))
    first = ticket(purses.reserve(claims, nano(0.5), NOW))
    again = ticket(purses.reserve(claims, nano(0.5), NOW + 1))
    assert again.held is first.held
    assert refused(purses.reserve(claims, nano(0.5), NOW + 2)).purse.key.period == "day"
    later = ticket(purses.reserve(claims, nano(0.5), NOW + DAY))
    assert [purse.reserved for purse in later.held.purses] == [nano(0.5), nano(1.5)]


def test_claims_that_come_again_find_no_purse_that_was_forgotten() -> None:
    purses, claims = Purses(most=1), (claim(1.0),)
    purses.settle(ticket(purses.reserve(claims, nano(0.5), NOW)), 0)
    purses.purse(claim(1.0, "b").key, NOW)  # takes the room of the first, of which nothing was spent
    del purses.current[claim(1.0, "b").key]
    purses.settle(ticket(purses.reserve(claims, nano(0.5), NOW)), nano(0.5))
    assert purses.purse(claims[0].key, NOW).spent == nano(0.5)


def test_a_clock_that_goes_backwards_opens_no_new_period() -> None:
    purses = Purses()
    purses.settle(ticket(purses.reserve([claim(1.0)], 0, NOW + DAY)), nano(1.0))
    assert isinstance(purses.reserve([claim(1.0)], 0, NOW), Refused)


def test_answers_without_a_price_are_counted_apart() -> None:
    purses = Purses()
    purses.settle(ticket(purses.reserve([claim(1.0)], 0, NOW)), 0, unpriced=True)
    purse = purses.purse(claim(1.0).key, NOW)
    assert (purse.spent, purse.unpriced) == (0, 1)


def test_callers_beyond_a_bound_share_a_purse() -> None:
    purses = Purses(most=2)
    for name in "abcd":
        purses.settle(ticket(purses.reserve([claim(1.0, name)], 0, NOW)), nano(0.6))
    spent = {key.name: purse.spent for key, purse in purses.current.items()}
    assert spent == {"a": nano(0.6), "b": nano(0.6), OTHERS: nano(1.2)}


def test_purses_that_say_nothing_make_room_for_others() -> None:
    purses = Purses(most=2)
    for name in "abcd":
        purses.settle(ticket(purses.reserve([claim(1.0, name)], 0, NOW)), 0)
    assert OTHERS not in {key.name for key in purses.current}


# What is kept


def test_what_was_kept_is_added_to_what_was_spent_meanwhile() -> None:
    purses = Purses()
    purses.settle(ticket(purses.reserve([claim(1.0)], 0, NOW)), nano(0.1))
    purses.restore([Spent("caller", "a", "day", int(at("2026-11-22")), nano(0.5))], NOW, adding=True)
    assert purses.purse(claim(1.0).key, NOW).spent == nano(0.6)


def test_what_was_kept_of_a_period_that_is_over_is_not_restored() -> None:
    purses = Purses()
    purses.restore([Spent("caller", "a", "day", int(at("2026-11-21")), nano(0.5))], NOW, adding=True)
    assert purses.purse(claim(1.0).key, NOW).spent == 0


# A model: sums over the requests themselves.


@attrs.define(eq=False)
class Request:
    ticket: Ticket
    names: tuple[str, ...]


class Model(RuleBasedStateMachine):
    """Hard budgets of $1 each on three names; a request is under some of them."""

    tickets = Bundle("tickets")
    LIMIT = nano(1.0)

    def __init__(self) -> None:
        super().__init__()
        self.purses = Purses()
        self.running: list[Request] = []
        self.spent = dict.fromkeys("abc", 0)

    def _held(self, name: str) -> int:
        return sum(each.ticket.amount for each in self.running if name in each.names)

    @rule(target=tickets, names=st.sets(st.sampled_from("abc"), min_size=1), amount=st.integers(0, LIMIT))
    def reserve(self, names: set[str], amount: int) -> Request | None:
        ordered = tuple(sorted(names))
        answer = self.purses.reserve([claim(1.0, name) for name in ordered], amount, NOW)
        used = {name: self.spent[name] + self._held(name) for name in ordered}
        fits = all(total < self.LIMIT and total + amount <= self.LIMIT for total in used.values())
        assert isinstance(answer, Ticket) == fits
        if isinstance(answer, Refused):
            return None
        self.running.append(Request(answer, ordered))
        return self.running[-1]

    @rule(request=consumes(tickets), share=st.floats(0, 1))
    def settle(self, request: Request | None, share: float) -> None:
        if request is not None:
            amount = int(request.ticket.amount * share)
            self.purses.settle(request.ticket, amount)
            self.running.remove(request)
            for name in request.names:
                self.spent[name] += amount

    @invariant()
    def the_sums_are_those_of_the_requests(self) -> None:
        for name in "abc":
            purse = self.purses.purse(claim(1.0, name).key, NOW)
            assert (purse.spent, purse.reserved) == (self.spent[name], self._held(name))
            assert purse.spent + purse.reserved <= self.LIMIT


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_a_purse_is_what_it_is_called() -> None:
    assert isinstance(Purses().purse(claim(1.0).key, NOW), Purse)
    assert str(claim(1.0, "team-a").key) == "caller:team-a/day"
