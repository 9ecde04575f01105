"""How a request comes by its leases: it asks the router, waits in its queue, pauses where it is told to.

These are the waits without a lease. They have a cancel scope of their own, which the caller's leaving, the request's
deadline and a kill end; an answer that is there at once needs none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import msgspec
import trio

from infermux.errors import CallerLeft, InfermuxError, NoHealthyProviders, Overloaded

from .caller import Caller, Deadline
from .kit_errors import ActorDied, MailboxFull
from .lease import Lease
from .messages import Reason
from .phase import Phase
from .plan import Plan, Refusal
from .ref import Ref
from .router_messages import Advance, Again, Stay
from .supply import REQUEST_WAITS, Supply

T = TypeVar("T")

_SHARED = frozenset({Reason.REQUEST_LIMIT, Reason.TOKEN_LIMIT})
ROUTER_RESTARTS = 20  # waits for a crashed router actor ...
ROUTER_PAUSE = 0.1  # ... seconds each


class Leasing(msgspec.Struct, eq=False):
    """Of one request. `waited` seconds went by in queues and pauses; `phase` is the wait it is in, or was ended in.

    `pause`: seconds before the same provider is asked again, where the router says that it may be.
    """

    router: Ref[Any]
    plan: Plan
    caller: Caller
    deadline: Deadline
    pause: float = 0.0
    waited: float = 0.0
    phase: Phase | None = None
    supply: Supply | None = None
    _supplied_by: float = 0.0  # until when it waits for a limit that was asked for
    _scope: trio.CancelScope | None = None
    _killed: InfermuxError | None = None

    async def obtain(self, message: Any) -> Lease | InfermuxError | None:
        """What the router answers to `message`: a lease on the next candidate, or why there is none.

        Raises Overloaded, NoHealthyProviders while the router is restarting, and what ends a wait: CallerLeft,
        DeadlineExceeded, the error of a kill.
        """
        restarts = 0
        while True:
            try:
                reply = self.router.request(message)
                # Mostly the answer is there at once.
                granted = reply.take() if reply.done else await self._wait(Phase.QUEUED, reply.wait)
            except MailboxFull as full:
                raise Overloaded(
                    "the router has more requests waiting than it can hold; try again", retry_after=1
                ) from full
            except ActorDied as died:
                restarts += 1
                await self._after_death(restarts, died)
                message = Advance(self.plan)
                continue
            if self.supply is not None and isinstance(granted, InfermuxError) and await self._resupplied(self.supply):
                message = Advance(self.plan)
                continue
            if granted is not Stay.HERE:
                answer: Lease | InfermuxError | None = granted
                return answer
            await self._wait(Phase.PAUSING, partial(trio.sleep, self.pause))
            message = Again(self.plan)

    async def _resupplied(self, supply: Supply) -> bool:
        """Whether a limit that nodes share, and that this one has nothing left of, was asked for anew meanwhile."""
        if not any(refusal.reason in _SHARED for refusal in self.plan.refusals.values()):
            return False
        self._supplied_by = self._supplied_by or trio.current_time() + REQUEST_WAITS
        if not await self._wait(Phase.QUEUED, partial(supply.coming, self._supplied_by)):
            return False
        self.plan.restart()
        return True

    async def follow(self, over: Callable[[], Awaitable[None]]) -> None:
        """Wait until `over` returns; raises what ends a wait."""
        await self._wait(Phase.FOLLOWING, over)

    def kill(self, error: InfermuxError) -> None:
        """End the wait it is in with `error`."""
        self._killed = error
        if self._scope is not None:
            self._scope.cancel()

    async def _wait(self, phase: Phase, what: Callable[[], Awaitable[T]]) -> T:
        since = trio.current_time()
        self.phase = phase
        try:
            with trio.CancelScope(deadline=self.deadline.at) as self._scope:
                self.caller.watch(self._scope)
                answer = await what()
                self.phase = None
                return answer
        finally:
            self._scope = None
            self.waited += trio.current_time() - since
        self._gave_up()

    def _gave_up(self) -> NoReturn:
        """A wait was cancelled."""
        if self.caller.left:
            raise CallerLeft
        raise self._killed or self.deadline.error(None)

    async def _after_death(self, restarts: int, died: ActorDied) -> None:
        """A provider's actor crashed under us: go on without it. The router's own: wait for its restart."""
        if died.name != self.router.name:
            self.plan.silent |= {died.name}
            self.plan.refuse(Refusal(died.name, Reason.CRASHED))
        elif restarts > ROUTER_RESTARTS:
            raise NoHealthyProviders("the router is restarting; try again", retry_after=1) from died
        else:
            self.plan.parked = False  # what would have ended its wait for a first probe died as well
            await self._wait(Phase.PAUSING, partial(trio.sleep, ROUTER_PAUSE))
