"""What a microbench is: something small of the hot path, made ready once and run many times."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs

Act = Callable[[], object]
"""One operation. Synchronous, and called in a trio task that does not wait between two of them."""


@attrs.frozen(kw_only=True)
class Case:
    """`name` is what its bound is recorded under. `open` makes what it needs, in a trio loop, and gives the operation.

    `per` operations are done by one call: its time is divided by that.
    """

    name: str
    open: Callable[[], AbstractAsyncContextManager[Act]]
    per: int = 1


def plain(name: str, make: Callable[[], Act], *, per: int = 1) -> Case:
    """A case of which nothing has to be taken down again."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Act]:
        yield make()

    return Case(name=name, open=opened, per=per)
