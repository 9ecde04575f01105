"""A thread that hangs while it writes, for as long as a test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import trio
from trio.testing import wait_all_tasks_blocked

from infermux.database.session import Session
from infermux.database.worker import Database

PATIENCE = 30.0  # seconds, for what takes milliseconds


async def closed_while_writing(database: Database, work: Callable[[Session], object]) -> Callable[[], None]:
    """Cancel a write in the midst of its transaction, and the wait for its thread too, as where it takes too long.

    What is returned has the thread go on, with `work`.
    """
    writing, go_on = threading.Event(), threading.Event()

    def hang(session: Session) -> None:
        writing.set()
        assert go_on.wait(PATIENCE)
        work(session)

    for task in (partial(database.write, hang), database.aclose):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            assert await trio.to_thread.run_sync(writing.wait, PATIENCE)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return go_on.set


async def reaches(condition: Callable[[], bool]) -> None:
    """Wait for a state that a thread or a database brings about."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - neither has an event
            await trio.sleep(0.01)
