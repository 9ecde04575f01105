"""Budgets of several workers: never more than the limit, and no worker sits on what another one needs."""

from __future__ import annotations

from typing import Final

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.bank import KEPT_AFTER, Account, Bank, Grant, accounts, adopt
from infermux.actors.purse import Claim
from infermux.actors.purses import OTHERS, SWEEP_EVERY, Purses, Ticket
from infermux.actors.share import Share
from infermux.config.settings import Budget
from tests._properties import examples

NOW: Final = 1_780_000_000.0
LIMIT: Final = 100
_CLAIM: Final = Claim.of(Budget(caller="a", limit_usd=1.0, period="day"), "caller", "a")


def claims(limit: int = LIMIT) -> tuple[Claim, ...]:
    return (_CLAIM._replace(limit=limit),)


HARD: Final = claims()


@attrs.define(eq=False)
class Worker:
    """`told`: what it has said in a turn whose answer it has not heard yet; `unheard`: what it spent since its last."""

    place: int
    purses: Purses = attrs.field(factory=lambda: Purses(banked=True))
    tickets: list[Ticket] = attrs.field(factory=list[Ticket])
    told: list[Grant] | None = None
    unheard: int = 0

    def takes(self, amount: int) -> bool:
        ticket = self.purses.reserve(HARD, amount, NOW)
        if isinstance(ticket, Ticket):
            self.tickets.append(ticket)
            return True
        return False

    def settles(self, used: int) -> int:
        if not self.tickets:
            return 0
        ticket = self.tickets.pop()
        used = min(used, ticket.amount)
        self.purses.settle(ticket, used)
        self.unheard += used
        return used


class Crew:
    """A bank and its workers, dealt with as the one that leads deals with them."""

    def __init__(self, of: int) -> None:
        self.bank = Bank(clock=lambda: NOW)
        self.workers: dict[int, Worker] = {}
        self.spent = self.lost = 0
        for place in range(of):
            self.bank.comes(place)
            self.workers[place] = Worker(place)
        self.deal()

    def deal(self, *, late: int | None = None) -> None:
        for index, (place, worker) in enumerate(sorted(self.workers.items())):
            worker.purses.adopt_share(Share(index, len(self.workers), place == late))

    def turn(self, worker: Worker) -> None:
        """Half of it: the answer is heard at the next call."""
        if worker.told is not None:
            worker.purses.moved.update(dict.fromkeys(adopt(worker.purses, worker.told, NOW)))
            worker.told = None
        else:
            worker.told = self.bank.turn(worker.place, accounts(worker.purses.take_moved()))
            worker.unheard = 0

    def turns(self, times: int = 1) -> None:
        for _ in range(2 * times):
            for worker in self.workers.values():
                self.turn(worker)

    def dies(self, worker: Worker) -> None:
        del self.workers[worker.place]
        self.lost += worker.unheard
        self.bank.goes(worker.place)
        self.deal()

    def comes(self) -> None:
        place = next(each for each in range(9) if each not in self.workers)
        self.bank.comes(place)
        worker = self.workers[place] = Worker(place)
        self.deal(late=place)
        others = self.workers.keys() - {place}
        while not others <= self.bank.turns:
            for other in others:
                self.turn(self.workers[other])
        self.turn(worker)
        self.turn(worker)
        self.deal()

    @property
    def promised(self) -> int:
        return sum(ticket.amount for worker in self.workers.values() for ticket in worker.tickets)


@given(
    of=st.integers(1, 4),
    script=st.lists(
        st.tuples(
            st.sampled_from(["take", "take", "settle", "turn", "turn", "dies", "comes"]),
            st.integers(0, 5),
            st.integers(0, 70),
        ),
        max_size=60,
    ),
)
@settings(max_examples=examples(100), deadline=None)
def test_whoever_comes_and_goes_no_more_is_spent_and_promised_than_there_is(
    of: int, script: list[tuple[str, int, int]]
) -> None:
    crew = Crew(of)
    for what, which, amount in script:
        worker = list(crew.workers.values())[which % len(crew.workers)]
        if what == "take":
            worker.takes(amount)
        elif what == "settle":
            crew.spent += worker.settles(amount)
        elif what == "turn":
            crew.turn(worker)
        elif what == "dies" and len(crew.workers) > 1:
            crew.dies(worker)
        elif what == "comes" and len(crew.workers) < 5:
            crew.comes()
        assert crew.spent + crew.promised <= LIMIT + crew.lost


def test_what_one_spent_while_it_was_alone_is_known_to_who_comes() -> None:
    crew = Crew(1)
    (first,) = crew.workers.values()
    assert first.takes(70)
    crew.spent += first.settles(70)
    crew.turns()
    crew.comes()
    assert not crew.workers[1].takes(31)


def test_who_needs_more_gets_what_the_others_do_not_use() -> None:
    crew = Crew(2)
    busy, idle = crew.workers.values()
    while busy.takes(10):
        crew.spent += busy.settles(10)
    assert crew.spent == 50
    for _ in range(40):
        crew.turns()
        if busy.takes(1):
            crew.spent += busy.settles(1)
    assert crew.spent >= 80
    assert idle.purses.purse(_CLAIM.key, NOW).spent >= 80 - 2


def test_when_nothing_moves_nothing_is_told() -> None:
    crew = Crew(3)
    for worker in crew.workers.values():
        worker.takes(7)
        worker.settles(5)
    crew.turns(6)
    for worker in crew.workers.values():
        assert not worker.purses.moved
        assert crew.bank.turn(worker.place, ()) == []


def test_all_know_what_all_have_spent() -> None:
    crew = Crew(3)
    for worker in crew.workers.values():
        worker.takes(9)
        worker.settles(9)
    crew.turns(3)
    assert [worker.purses.purse(_CLAIM.key, NOW).spent for worker in crew.workers.values()] == [27, 27, 27]


def test_what_was_spent_before_is_counted_once() -> None:
    crew = Crew(2)
    for worker in crew.workers.values():
        purse = worker.purses.purse(_CLAIM.key, NOW)
        purse.spent = purse.kept = 60  # both have read it
        worker.takes(10)
        worker.settles(10)
    crew.turns(3)
    assert [worker.purses.purse(_CLAIM.key, NOW).spent for worker in crew.workers.values()] == [80, 80]


def test_a_soft_budget_has_no_cap_and_is_known_to_all() -> None:
    bank = Bank({0, 1}, clock=lambda: NOW)
    purse = Purses().purse(_CLAIM.key, NOW)
    purse.spent = purse.own = 5
    (grant,) = bank.turn(0, [Account.of(purse)]) or []
    assert (grant.limit, grant.spent) == (None, 5)
    (grant,) = bank.turn(1, ()) or []
    assert (grant.limit, grant.spent, grant.others) == (None, 5, 5)


def test_periods_are_forgotten_an_hour_after_their_end() -> None:
    at = NOW
    bank = Bank({0}, clock=lambda: at)
    days = [Purses().purse(_CLAIM.key._replace(name=f"caller-{day}"), NOW + day * 86_400) for day in range(2)]
    for day in days:
        bank.turn(0, [Account.of(day)])
    bank.comes(1)
    assert {grant.key.name for grant in bank.turn(1, ()) or []} == {"caller-0", "caller-1"}
    at = days[0].end + KEPT_AFTER
    bank.comes(2)
    assert {grant.key.name for grant in bank.turn(2, ()) or []} == {"caller-1"}


def test_of_a_period_that_is_over_no_purse_is_made() -> None:
    over, runs = (Purses().purse(_CLAIM.key._replace(period=period), NOW) for period in ("day", "month"))
    bank = Bank({0}, clock=lambda: NOW)
    grants = bank.turn(0, [Account.of(over), Account.of(runs)]) or []
    purses = Purses(banked=True)
    adopt(purses, grants, over.end + 1)
    assert [purse.key for purse in purses.current.values()] == [runs.key]


@attrs.define(eq=False)
class Counting(Purses):
    looked: list[float] = attrs.field(factory=list[float])

    def _sweep(self, at: float) -> None:
        self.looked.append(at)
        super()._sweep(at)


def test_names_for_which_there_is_no_room_are_passed_over_without_looking_through_all_for_each() -> None:
    names = [_CLAIM.key._replace(name=f"caller-{number}") for number in range(300)]
    purses = Counting(most=100, banked=True)
    for key in names[:100]:
        purses.purse(key, NOW).spent = 5
    told = Purses()
    for key in names:
        told.purse(key, NOW).own = 7
    grants = Bank({0}, clock=lambda: NOW).turn(0, [Account.of(purse) for purse in told.current.values()]) or []
    adopt(purses, grants, NOW)
    adopt(purses, grants, NOW + 1)
    assert purses.looked == [NOW]
    assert {purse.spent for key, purse in purses.current.items() if key.name != OTHERS} == {7}
    purses.purse(names[-1], NOW + SWEEP_EVERY)
    assert len(purses.looked) == 2
