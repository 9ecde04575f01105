"""Several routers on one database, without the routers: `python -m tests.database._node URL REQUESTS NAME...`.

A process for each name ends so many requests of a caller of that name, each of which costs a thousandth of a dollar,
and writes them down. A line on stdout says that it has begun. They are forked: what they import takes longest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from infermux.actors.identity import Identity
from infermux.actors.journal import Journal
from infermux.actors.kit import Child, supervise
from infermux.actors.ledger import Books, open_ledger
from infermux.actors.record import Record
from infermux.actors.treasury import TREASURY, Treasury, TreasuryActor
from infermux.config.settings import Budget
from infermux.database.budgets import NANO, DatabaseBudgets
from infermux.database.place import Place
from infermux.database.worker import Database
from infermux.providers.interface import Usage

COST = 0.001
ALL = Budget(limit_usd=1e6)
AT_ONCE = 5


@asynccontextmanager
async def node(url: str) -> AsyncGenerator[tuple[Journal, Books, Treasury]]:
    """What a router has of a database; the end of the block writes what is left."""
    books_of, budgets_of = Database.at(Place.of(url)), Database.at(Place.of(url))
    journal = Journal()
    store = DatabaseBudgets(budgets_of)
    treasury = Treasury(budgets=(ALL,), store=store)
    async with supervise(Child(TREASURY, lambda: TreasuryActor(treasury))) as supervisor:
        async with open_ledger(supervisor, journal, books_of) as books:
            store.company = books.ledger.lend
            await treasury.keeper.ready()
            yield journal, books, treasury
        await supervisor.stop_child(TREASURY)
        await treasury.keeper.aclose()
    await books_of.aclose()
    await budgets_of.aclose()


async def end_requests(journal: Journal, treasury: Treasury, name: str, count: int) -> None:
    """One after the other, as fast as a router would, a few at a time."""
    who, usage = Identity(caller=name), Usage(prompt_tokens=100, completion_tokens=10)
    for number in range(count):
        journal.tell(Record(id=f"{name}-{number}", at=time.time(), who=who, usage=usage, cost=COST))
        treasury.spend(who, round(COST * NANO), unpriced=False)
        if number % AT_ONCE == 0:
            await trio.sleep(0.01)


async def main(url: str, name: str, count: int) -> None:
    async with node(url) as (journal, books, treasury):
        assert await books.flush(within=30)
        print("begins", flush=True)
        await end_requests(journal, treasury, name, count)
        # The end is not what is tried here: it waits a few seconds for a server, and the test may be slow to start it.
        while not await books.flush(within=30):  # noqa: ASYNC110 - the server has no event
            await trio.sleep(0.1)
        while any(purse.unsent for purse in treasury.purses.current.values()):  # noqa: ASYNC110
            await trio.sleep(0.1)


if __name__ == "__main__":
    url, count, *names = sys.argv[1:]
    children: list[int] = []
    for name in names:
        child = os.fork()
        if not child:
            trio.run(main, url, name, int(count))
            sys.exit(0)
        children.append(child)
    sys.exit(max([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], key=abs))
