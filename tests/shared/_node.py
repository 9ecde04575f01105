"""One node as a process: limits and a budget, shared, under callers that ask for more than there is.

    python -m tests.shared._node SETTINGS

SETTINGS is a `Settings` as JSON. It begins with a line on stdin, and ends with another one. What it has admitted is on
the board with each admission: so it is known to the last one when the process is killed.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import trio

from infermux.actors.identity import Identity
from infermux.actors.journal import Journal
from infermux.actors.kit import Child, supervise
from infermux.actors.ledger import open_ledger
from infermux.actors.messages import Want
from infermux.actors.record import Record
from infermux.actors.shared_purse import SharedPurse
from infermux.actors.supplier import START_PATIENCE, SupplierActor, say_farewell
from infermux.actors.supply import Supply
from infermux.actors.treasury import MONEY_WAITS, TREASURY, Treasury, TreasuryActor
from infermux.config.settings import Budget, Price
from infermux.database.budgets import DatabaseBudgets
from infermux.database.place import Place
from infermux.database.worker import Database
from infermux.errors import BudgetExceeded
from infermux.providers.interface import Usage
from infermux.secret import Secret
from infermux.shared.client import Redis
from tests.shared._board import MOST_NODES, MOST_ROWS, Board, Money, Says
from tests.shared._board import Node as Counter

RESERVED: Final = 100  # tokens of a request; 75 are used, on average
AMPLE: Final = 6_000_000  # requests a minute that nobody reaches
PROMISE: Final = 10_000  # micro-dollars; of which three quarters are spent, on average
PAYS: Final = 5  # of so many turns of a caller one is about money
MICRO: Final = 1e6
PERIOD: Final = "month"
FULL: Final = "full"
AFTER_OUTAGE: Final = 3.0  # seconds until what was refused counts again
OUTPUT: Final = 100  # tokens, so that a promise is what it is
ROUTE: Final[Any] = SimpleNamespace(
    group=None, unpriced=None, prices=(Price(input_per_million=0.0, output_per_million=PROMISE / OUTPUT),)
)


def payer(row: int) -> str:
    """Who spends the budget of that row."""
    return f"row-{row}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`budget` in micro-dollars; `pause` in seconds; no `database`: nothing is written down."""

    redis: str
    database: str | None
    board: str
    place: int
    requests: int
    tokens: int
    budget: int
    callers: int
    pause: float


class Limited:
    """Two limits of one provider, taken from as gates do."""

    def __init__(self, supply: Supply, name: str, requests: int, tokens: int) -> None:
        limits = supply.of_provider(name, lambda: None)
        self.requests, self.tokens = limits.requests(requests), limits.tokens(tokens)

    def ask(self) -> int:
        """The tokens that were used; 0 where it was not admitted."""
        now = trio.current_time()
        if not (self.requests.can_take(1, now) and self.tokens.take(RESERVED, now)):
            return 0
        self.requests.take(1, now)
        used = random.randint(RESERVED // 2, RESERVED)
        self.tokens.settle(RESERVED, used, now)
        return used


class Node:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shared = Redis(url=Secret(settings.redis))
        self.supply = supply = Supply(prefix="test")
        self.board = Board(Path(settings.board))
        self.mine = self.board.node(settings.place)
        self.money = [self.board.money(settings.place, row) for row in range(MOST_ROWS)]
        self.by_requests = Limited(supply, "requests", settings.requests, AMPLE * RESERVED)
        self.by_tokens = Limited(supply, "tokens", AMPLE, settings.tokens)
        self.by_none = Limited(supply, FULL, AMPLE, AMPLE * RESERVED)
        self.journal = Journal()
        self.outage = self.fell_back = -AFTER_OUTAGE
        scarce = Budget(caller="*", limit_usd=settings.budget / MICRO, period=PERIOD)
        ample = Budget(caller=FULL, limit_usd=1e6, period=PERIOD)
        self.database = Database.at(Place.of(settings.database)) if settings.database else None
        store = DatabaseBudgets(self.database) if self.database else None
        self.treasury = Treasury(budgets=(scarce, ample), store=store)
        self.treasury.share_by(supply)
        made = self.treasury.purses.lease
        assert made is not None
        self.treasury.purses.lease = lambda purse: self.told_of(made(purse))

    def told_of(self, lease: SharedPurse) -> SharedPurse:
        """The board tells when a request has waited for Redis in vain."""
        falls_back = lease.fall_back

        def told() -> None:
            now = trio.current_time()
            if not self.supply.is_degraded and now > self.fell_back + MONEY_WAITS:  # all who wait do
                self.mine[Counter.FELL_BACK] += 1
                self.fell_back = now
            falls_back()

        cast("Any", lease).fall_back = told
        return lease

    async def call(self) -> None:
        """Ask again and again."""
        pause = self.settings.pause
        for turn in count(random.randrange(PAYS)):
            is_full = self.board.says[Says.FULL]
            await trio.sleep(random.expovariate((4 if is_full else 1) / pause))
            if is_full:
                await self.ask_for_much()
            elif turn % PAYS:
                self.ask()
            else:
                await self.pay(self.board.says[Says.ROW])

    def ask(self) -> None:
        mine = self.mine
        mine[Counter.ASKED] += 1
        mine[Counter.REQUESTS] += self.by_requests.ask() > 0
        mine[Counter.ASKED_TOKENS] += 3 * RESERVED // 4
        mine[Counter.TOKENS] += self.by_tokens.ask()

    async def ask_for_much(self) -> None:
        """As a request of a router at full load: under two limits and a budget."""
        account = await self.opened(FULL)
        if account is not None and self.by_none.ask():
            self.mine[Counter.FULL] += 1
        self.close(account, PROMISE)

    async def pay(self, row: int) -> None:
        """A request under the budget of that row, which takes its time and costs less than was promised."""
        mine = self.money[row]
        mine[Money.ASKED] += 1
        account = await self.opened(payer(row))
        if account is None:
            self.refused(row)
            return
        mine[Money.ADMITTED] += 1
        mine[Money.PROMISED] += PROMISE
        mine[Money.MOST_PROMISED] = max(mine[Money.MOST_PROMISED], mine[Money.PROMISED])
        await trio.sleep(random.uniform(0.05, 0.2))
        cost = random.randint(PROMISE // 2, PROMISE)
        self.close(account, cost)
        mine[Money.PROMISED] -= PROMISE  # first: who looks in between must not see both
        mine[Money.SPENT] += cost
        who = Identity(caller=payer(row))
        self.journal.tell(Record(id="r", at=time.time(), who=who, usage=Usage(), cost=cost / MICRO))

    async def opened(self, who: str) -> Any:
        """The account of a request of `who`, with its promise; None: it was refused."""
        want = Want(model="m", max_tokens=OUTPUT, who=Identity(caller=who))
        account = self.treasury.account(want, ROUTE)
        assert account is not None
        try:
            try:
                account.open()
            except BudgetExceeded as refused:
                await account.open_when_supplied(refused)
        except BudgetExceeded:
            return None
        return account

    @staticmethod
    def close(account: Any, cost: int) -> None:
        """The request has ended, and cost that."""
        if account is not None:
            outcome = SimpleNamespace(usage=Usage(completion_tokens=OUTPUT), failure=None, cancelled=False)
            account.close([SimpleNamespace(outcome=outcome, cost=cost / MICRO)])

    def refused(self, row: int) -> None:
        if self.supply.is_degraded or trio.current_time() < self.outage + AFTER_OUTAGE:
            return
        all_of_it = [self.board.money(place, row) for place in range(MOST_NODES)]
        free = self.settings.budget - sum(each[Money.SPENT] + each[Money.PROMISED] for each in all_of_it)
        mine = self.money[row]
        mine[Money.FREE] = max(mine[Money.FREE], free)

    async def watch(self) -> None:
        while True:
            numbers = self.supply.numbers
            self.mine[Counter.ROUNDS], self.mine[Counter.OUTAGES] = numbers.rounds, numbers.outages
            self.mine[Counter.DEGRADED], self.mine[Counter.NODES] = self.supply.is_degraded, self.supply.share.of
            if self.supply.is_degraded:
                self.outage = trio.current_time()
            shown = {key.name: purse.spent for key, purse in self.treasury.purses.current.items()}
            for row, money in enumerate(self.money):
                money[Money.SHOWN] = shown.get(payer(row), 0) // 1000
            await trio.sleep(0.02)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """What a router runs of limits, budgets and the ledger; at the end it gives back and writes what it has."""
        children = [Child("supplier", partial(SupplierActor, supply=self.supply, shared=self.shared))]
        children.append(Child(TREASURY, partial(TreasuryActor, self.treasury)))
        async with supervise(*children, intensity=None) as supervisor:
            if self.settings.database is None:
                yield
            else:
                of_rows = Database.at(Place.of(self.settings.database))
                async with open_ledger(supervisor, self.journal, of_rows) as books:
                    self.treasury.keeper.flush = partial(books.flush, 1.0)
                    await self.treasury.keeper.ready()
                    yield
                await of_rows.aclose()
        await say_farewell(self.supply, self.shared)
        await self.treasury.keeper.aclose()
        if self.database:
            await self.database.aclose()

    async def run(self) -> None:
        async with self.running(), trio.open_nursery() as nursery:
            nursery.start_soon(self.watch)
            with trio.move_on_after(START_PATIENCE):  # as a router does
                await self.supply.heard.wait()
            await trio.to_thread.run_sync(sys.stdin.readline)  # everybody is there
            async with trio.open_nursery() as calls:
                for _ in range(self.settings.callers):
                    calls.start_soon(self.call)
                await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
                calls.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


async def main(settings: Settings) -> None:
    await Node(settings).run()


if __name__ == "__main__":
    trio.run(main, msgspec.json.decode(sys.argv[1], type=Settings))
