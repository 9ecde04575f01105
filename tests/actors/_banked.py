"""Workers of one crew with a bank and a store that all of them keep their budgets in."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from infermux.actors.bank import Bank, Customer, Grant
from infermux.actors.identity import Identity
from infermux.actors.purse import nano
from infermux.actors.purse_keeper import BudgetStore
from infermux.actors.purses import Refused, Ticket
from infermux.actors.share import Share
from infermux.actors.treasury import Treasury
from infermux.config.settings import Budget
from infermux.database.budgets import NANO

START: Final = 1_795_348_800.0  # 2026-11-22T12:00Z
TEAM: Final = Identity(caller="team-a")


@attrs.define(eq=False)
class Worker:
    """`told`: the answer to a turn that it has not heard yet, if it `waits` for one."""

    place: int
    treasury: Treasury
    told: list[Grant] | None = None
    waits: bool = False
    customer: Customer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        treasury, keeper = self.treasury, self.treasury.keeper
        self.customer = Customer(treasury.purses, keeper.knows, keeper.expects, treasury.clock)

    def spend(self, dollars: float) -> bool:
        """A request, unless its budget is used up."""
        ticket = self.promise(dollars)
        if ticket is not None:
            self.treasury.purses.settle(ticket, ticket.amount)
        return ticket is not None

    def promise(self, dollars: float) -> Ticket | None:
        """For a request that goes on."""
        treasury = self.treasury
        ticket = treasury.purses.reserve(treasury.rules.claims(TEAM, ""), nano(dollars), treasury.clock())
        return None if isinstance(ticket, Refused) else ticket

    @property
    def spent(self) -> float:
        """US dollars, as far as it knows: of all that have a budget."""
        return sum(purse.spent for purse in self.treasury.purses.current.values()) / NANO

    @property
    def room(self) -> float:
        """US dollars that it would admit."""
        left = [p.left(p.limit) for p in self.treasury.purses.current.values() if p.limit is not None]
        return sum(left) / NANO

    @property
    def limit(self) -> float | None:
        """US dollars, of its only purse."""
        (purse,) = self.treasury.purses.current.values()
        return None if purse.limit is None else purse.limit / NANO

    def asks(self, bank: Bank) -> None:
        """The first half of a turn."""
        self.told = bank.turn(self.place, self.customer.says())
        self.waits = True

    def hears(self) -> None:
        self.customer.hears(self.told)
        self.waits = False

    def turn(self, bank: Bank) -> None:
        """Half of one."""
        if self.waits:
            self.hears()
        else:
            self.asks(bank)

    async def sync(self) -> None:
        await self.treasury.keeper.save()
        await self.treasury.keeper.look()


def worker(place: int, of: int, store: BudgetStore, *budgets: Budget) -> Worker:
    treasury = Treasury(budgets=budgets, store=store, clock=lambda: START + trio.current_time())
    treasury.adopt_share(Share(place, of))
    treasury.purses.banked = of > 1
    return Worker(place, treasury)


@attrs.define(eq=False)
class Crew:
    workers: list[Worker]
    bank: Bank = attrs.field(factory=lambda: Bank(clock=lambda: START + trio.current_time()))

    def __attrs_post_init__(self) -> None:
        for each in self.workers:
            self.bank.comes(each.place)

    async def ready(self) -> None:
        for each in self.workers:
            await each.treasury.keeper.ready()

    async def restart(self, worker_: Worker, store: BudgetStore) -> None:
        """It ends in peace, with all that it has spent in the store, and another one comes that is let in at once."""
        await worker_.treasury.keeper.ready()
        await worker_.treasury.keeper.aclose()
        self.bank.goes(worker_.place)
        another = worker(worker_.place, len(self.workers), store, *worker_.treasury.budgets)
        await another.treasury.keeper.ready()
        self.bank.comes(worker_.place)
        self.workers[worker_.place] = another

    def turns(self, times: int = 1) -> None:
        for _ in range(2 * times):
            for each in self.workers:
                each.turn(self.bank)

    async def rest(self) -> None:
        """Nothing is spent any more: as many turns and looks as it takes until all is said."""
        for _ in range(4):
            for each in self.workers:
                await each.treasury.keeper.ready()
                await each.sync()
            self.turns()

    @property
    def spent(self) -> list[float]:
        return [each.spent for each in self.workers]


def crew(store: BudgetStore, *budgets: tuple[Budget, ...]) -> Crew:
    """A worker for each, with these budgets."""
    return Crew([worker(place, len(budgets), store, *each) for place, each in enumerate(budgets)])
