"""Who of the workers has which part of the limits; for the process that leads them.

All parts add up to a limit at every moment, whoever is slow to hear of his. So a worker's part is what it has been told
last and has, or may have, heard: others are given of it only when it has said that it has let go. One that hangs is
asked before it is given more, and so never is: what it holds stays what it was, and whoever comes meanwhile waits for
it only where that is more, of whatever limit, than it is to have then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from infermux.actors.bank import Bank
from infermux.actors.share import Share

from .messages import Adopt, See
from .process import Child

OVER_POLL = 0.1
SILENT_AFTER = 1.0  # seconds without an answer, after which one is judged by what it has said before


@attrs.define(eq=False)
class Dealing:
    """`counted` are the places whose limits are dealt out, `children` those that run.

    `ask` gets the answer of one, None where it is gone. `background` outlives them all.
    """

    children: dict[int, Child]
    ask: Callable[[Child, Any], Awaitable[Any]]
    background: trio.Nursery
    counted: set[int] = attrs.field(factory=set[int])
    bank: Bank = attrs.field(factory=Bank)

    def share(self, place: int, *, late: bool) -> Share:
        """What is to be told one there."""
        return Share(sorted(self.counted).index(place), len(self.counted), late)

    async def make_room(self, place: int) -> None:
        """Have the others let go of what one that comes is to have. Before it is started: so it cannot hold it yet."""
        self.counted.add(place)
        await self.deal()

    async def deal(self) -> None:
        """Tell every worker its part; returns when all have heard who might hold too much. None holds up another."""
        async with trio.open_nursery() as nursery:
            for child in list(self.children.values()):
                if not self._is_dealt_to(child):
                    continue
                share = self.share(child.place, late=child.late)
                if child.telling.locked() or not is_more(share, child.share):
                    nursery.start_soon(self._tell, child)
                elif is_less(share, child.share):
                    nursery.start_soon(self._give_more, child)
                elif not child.growing:
                    self.background.start_soon(self._give_more, child)

    def _is_dealt_to(self, child: Child) -> bool:
        return child.listens.is_set() and child.place in self.counted

    async def _give_more(self, child: Child) -> None:
        """What it is sent it takes when it goes on, hours later if need be: so nothing before it has answered."""
        child.growing = True
        try:
            seen = await self.ask(child, See())
        finally:
            child.growing = False
        if seen is not None:
            await self._tell(child)

    async def _tell(self, child: Child) -> None:
        """Its part as it is when it is told: what it hears last is so what holds."""
        async with child.telling:
            if not self._is_dealt_to(child):
                return
            share = self.share(child.place, late=child.late)
            if share != child.share and await self.ask(child, Adopt(share)) is not None:
                child.share, child.has_told = share, False

    async def let_in(self, child: Child) -> None:
        """It has come late: its part is its own when the others run no more than theirs, and budgets are told of."""
        self.bank.comes(child.place)
        while not await self._others_have_let_go(child):  # noqa: ASYNC110 - rare
            await trio.sleep(OVER_POLL)
        self.bank.turns.discard(child.place)
        while child.place not in self.bank.turns:  # noqa: ASYNC110 - rare
            await trio.sleep(OVER_POLL)
        child.late = False
        await self.deal()

    async def _others_have_let_go(self, child: Child) -> bool:
        """Those that do not answer have said it before: since they have told all, they were given nothing more."""
        others = [each for each in self.children.values() if each is not child and each.listens.is_set()]
        asked = [self._look_at(each) for each in others]
        with trio.move_on_after(SILENT_AFTER):
            for answered in asked:
                await answered.wait()
        turns = self.bank.turns
        return not any(each.is_over for each in others) and all(
            each.place in turns or (each.looked_at is not None and each.has_told and not each.telling.locked())
            for each in others
        )

    def _look_at(self, child: Child) -> trio.Event:
        """Have it asked how it is, once at a time; the event is set when it has answered, or is gone."""
        if child.looked_at is None:
            child.looked_at = trio.Event()
            self.background.start_soon(self._look, child, child.looked_at)
        return child.looked_at

    async def _look(self, child: Child, answered: trio.Event) -> None:
        try:
            await self.ask(child, See())
        finally:
            child.looked_at = None
            answered.set()


def is_more(share: Share, than: Share) -> bool:
    """Whether it may be more of some limit."""
    return share.index < than.index or share.of < than.of or (than.late and not share.late)


def is_less(share: Share, than: Share) -> bool:
    """Whether it may be less of some limit. It may be both: (0 of 3) is more than (1 of 2) of 1, and less of 6."""
    return share.index > than.index or share.of > than.of
