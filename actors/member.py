"""One provider of a fleet: what was declared, its wire, its state, its actor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Any

import attrs
import trio

from infermux.config.settings import ProviderSettings
from infermux.providers.interface import Adapter, Lasting, ModelInfo, describing

from .catalogue import Entry
from .gate import Gate
from .messages import Reason, Standing
from .provider_messages import LookAgain
from .ref import Ref
from .supervisor import Backoff

log = logging.getLogger("infermux.actors")

POLL = 0.05
RESTARTS = Backoff(base=0.1, max=30.0)  # of a crashed actor, and of what an adapter needs running
CLOSE_GRACE = 2.0  # seconds for attempts that were ended to let go of their leases, and for connections to close


@attrs.define(eq=False)
class Member:
    """A running provider. It may be declared otherwise (`entry`, `adapter`); gate and actor are its own for life.

    `by_hand`: no configuration declares it, so none takes it away. Once it is taken out, `departure` is the scope of
    the wait for its last requests: while there is one it can be taken back. `gone` is set when all of it has ended.
    """

    entry: Entry
    adapter: Adapter
    gate: Gate
    by_hand: bool = False
    ref: Ref[Any] = attrs.field(init=False)
    departure: trio.CancelScope | None = None
    gone: trio.Event = attrs.field(factory=trio.Event)

    @property
    def settings(self) -> ProviderSettings:
        return self.entry.settings

    @property
    def described(self) -> tuple[ModelInfo, ...] | None:
        """The models its adapter says it has; None where it says nothing, or has not yet."""
        return self.gate.found_models if describing(self.adapter) is not None else None

    @property
    def standing(self) -> Standing:
        status = self.ref.status
        return status if isinstance(status, Standing) else Standing()

    def blocked(self, now: float) -> Reason | None:
        """Why nothing goes to this provider now, None when it is routable. A crashed actor takes nothing."""
        if not self.ref.alive:
            return Reason.CRASHED
        standing = self.standing
        return (standing.reason or Reason.CRASHED) if now < standing.blocked_until else None

    def revoke_on(self, adapter: Adapter, why: str) -> None:
        """End the attempts that run over `adapter`."""
        for lease in self.gate.leases:
            if lease.adapter is adapter:
                lease.revoke(why)

    def uses(self, adapter: Adapter) -> bool:
        """Whether a lease is out that was granted on `adapter`."""
        return any(lease.adapter is adapter for lease in self.gate.leases)


async def idle(busy: Callable[[], object], *, within: float) -> None:
    """Return when `busy()` is false, after `within` seconds at the latest. Gates are pure, so none could wake us."""
    with trio.move_on_after(within):
        while busy():  # noqa: ASYNC110 - as the docstring says; and this is rare
            await trio.sleep(POLL)


async def close(adapter: Adapter, provider: str) -> None:
    """Close a provider's connections. A failure is logged: whoever closes has nobody to tell."""
    try:
        await adapter.aclose()
    except Exception:
        log.exception("the connections of provider %s could not be closed", provider)


async def keep(part: Lasting, member: Member) -> None:
    """Run what the member's adapter needs until it is closed, again after each crash; its news make the actor look."""

    def news(up: bool) -> None:
        member.ref.deliver(LookAgain(up))

    for crashes in count(1):
        try:
            await part.run(news)
        except Exception:
            log.exception("what provider %s needs running crashed", member.settings.name)
            await trio.sleep(RESTARTS.delay(crashes))
        else:
            return
