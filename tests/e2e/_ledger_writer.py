"""A process that keeps a ledger under load, for tests that kill it: `python -m tests.e2e._ledger_writer URL RATE`.

Each line on its stdout is the time by which so many requests have ended; the first comes when the database is open.
"""

from __future__ import annotations

import sys
import time

import trio

from infermux.actors.journal import Journal
from infermux.actors.kit import supervise
from infermux.actors.ledger import open_ledger
from infermux.actors.record import Record
from infermux.database.place import Place
from infermux.database.worker import Database


async def main(url: str, rate: int) -> None:
    """Tell a ledger of `rate` requests a second until killed. Their ids count from 0."""
    journal, count = Journal(), 0
    async with supervise() as supervisor, open_ledger(supervisor, journal, Database.at(Place.of(url))) as books:
        assert await books.flush(within=30)
        begun = trio.current_time()
        while True:
            while count < (trio.current_time() - begun) * rate:
                journal.tell(Record(id=str(count), at=time.time()))
                count += 1
            print(time.time(), count, flush=True)
            await trio.sleep(0.01)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
