"""A trio run on a virtual clock that does the same thing each time.

trio itself is random in one place: it takes the tasks that became runnable at the same moment in an order of chance, so
that nobody relies on it. It has no public way to fix that. What its own integration with Hypothesis does is done here:
`_ALLOW_DETERMINISTIC_SCHEDULING` makes it sort such tasks by age before it shuffles them with `_r`, a `random.Random`,
which is seeded. Both are private; a test holds that they are there and do what is said here.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")


def run_virtually(main: Callable[[], Awaitable[T]], *, seed: int) -> T:
    """Run `main` to its end; time passes only while every task sleeps. The same seed, the same order of everything.

    Not for tasks that wait for a socket, a thread or a signal: the clock would jump over them.
    """
    with _deterministic(seed):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


@contextmanager
def _deterministic(seed: int) -> Generator[None]:
    internals: Any = importlib.import_module("trio._core._run")
    order: random.Random = internals._r
    was, state = internals._ALLOW_DETERMINISTIC_SCHEDULING, order.getstate()
    internals._ALLOW_DETERMINISTIC_SCHEDULING = True
    order.seed(seed)
    try:
        yield
    finally:
        internals._ALLOW_DETERMINISTIC_SCHEDULING = was
        order.setstate(state)
