"""The actor that speaks to Redis: one round after the other, for as long as there is something to say.

No request waits for it, but for up to five milliseconds where a limit has nothing on this node and was just asked for.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import attrs
import trio

from infermux.config.settings import StateSettings
from infermux.shared.client import Redis, Session, Shared, StateUnavailable, sole

from .actor import BaseActor, Context
from .gossip import Gossip
from .supervisor import Backoff
from .supply import Supply

log = logging.getLogger("infermux.state")

SUPPLIER: Final = "infermux.supplier"
AGAIN: Final = Backoff(base=0.05, max=1.0)  # between two attempts to reach Redis
SETTLING: Final = 1.5  # seconds for all nodes to have reached Redis again, and told what they used
TELL_EVERY: Final = 0.25
START_PATIENCE: Final = 2.0  # seconds a start waits for the first answer
FAREWELL: Final = 1.0  # seconds the last round may take


@attrs.define(eq=False, kw_only=True)
class SupplierActor(BaseActor[Any]):
    """Keeps `supply` supplied, for as long as it lives."""

    supply: Supply
    shared: Shared
    gossip: Gossip | None = None
    _context: Context[Any] | None = None

    async def started(self, context: Context[Any]) -> None:
        context.start_soon(self._keep)

    async def _keep(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                await self.shared.use(self._attend)
            except StateUnavailable as gone:
                if self.supply.lose(str(gone)):
                    attempt = 0
                    log.warning(
                        "%s is gone (%s): limits are held by this node's fair share, 1 of %d",
                        self.shared.place,
                        gone,
                        self.supply.share.of,
                    )
            await trio.sleep(AGAIN.delay(max(attempt, 1)))

    async def _attend(self, session: Session) -> None:
        """Speak with Redis for as long as it answers."""
        try:
            async with trio.open_nursery() as nursery:
                if self.gossip is not None:
                    nursery.start_soon(session.listen, self.gossip.channel, self.gossip.published)
                await self._speak(session)
        except ExceptionGroup as group:
            error = sole(group)
            raise error from error.__cause__  # which has the reason

    async def _speak(self, session: Session) -> None:
        supply = self.supply
        await self._settle(session)
        supply.find()
        while True:
            await self._round(session)
            if self.gossip is not None:
                await self._exchange(session, self.gossip)
            with trio.CancelScope(deadline=supply.next_at()):
                await supply.wanted.wait()
            supply.wanted = trio.Event()

    async def _settle(self, session: Session) -> None:
        """Before anything is taken every node is to have told what it used without Redis: they come back one by one."""
        supply, began = self.supply, trio.current_time()
        while supply.has_used and trio.current_time() < began + SETTLING:
            calls, leased = supply.account(trio.current_time())
            answers = await session.run(calls)
            for each, answer in zip(leased, answers, strict=False):
                each.answered(answer, trio.current_time())
            await trio.sleep(TELL_EVERY)

    async def _round(self, session: Session) -> None:
        supply, began = self.supply, trio.current_time()
        calls, buckets = supply.round(began)
        if not calls:
            return
        try:
            answers = await session.run(calls)
        except StateUnavailable:
            supply.numbers.failures += 1
            raise
        if supply.lost_at is not None:
            supply.lost_at = None
            log.info("limits are shared by way of %s", self.shared.place)
        supply.take(calls, buckets, answers, began)

    async def _exchange(self, session: Session, gossip: Gossip) -> None:
        """Tell other nodes what has become of providers here, and hear what has elsewhere."""
        call = gossip.call(trio.current_time())
        if call is not None:
            await session.run([call])
        if gossip.is_behind:
            number = self.supply.news
            gossip.hear(await session.read(gossip.keys[0]), number, trio.current_time())


def shared_state(settings: StateSettings) -> Shared | None:
    """What `state` of the configuration says; None: nothing is shared."""
    return None if settings.url is None else Redis(url=settings.url)


async def say_farewell(supply: Supply, shared: Shared) -> None:
    """Give back what is not used. Bounded in time; without Redis there is nobody to give it to."""
    if supply.is_degraded:
        return

    async def work(session: Session) -> None:
        await session.run(supply.farewell(trio.current_time()))

    with trio.move_on_after(FAREWELL):
        try:
            await shared.use(work)
        except StateUnavailable as gone:
            log.info("what was not used of the limits could not be given back: %s", gone)
