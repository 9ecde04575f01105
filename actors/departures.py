"""Providers that are taken out of a fleet: nothing new goes to them, what is in flight has its time, then they end."""

from __future__ import annotations

import attrs
import trio

from .gate import Gate
from .member import CLOSE_GRACE, Member, close, idle
from .provider_messages import Revoke
from .supervisor import Supervisor


@attrs.define(eq=False, repr=False)
class Departures:
    """Providers that are about to end, and the used up limits of those that have: to come back is no way round them."""

    supervisor: Supervisor
    members: dict[str, Member] = attrs.field(factory=dict[str, Member])
    former: dict[str, Gate] = attrs.field(factory=dict[str, Gate])  # while their limits are used up

    def __repr__(self) -> str:
        return f"Departures({', '.join(self.members)})"

    def begin(self, member: Member) -> trio.CancelScope:
        """The scope of the wait for its last requests, which is `see_off`'s. Until then it can be taken back."""
        self.members[member.settings.name] = member
        member.departure = trio.CancelScope()
        return member.departure

    async def see_off(self, member: Member, departure: trio.CancelScope, grace: float) -> None:
        """Wait until nothing is in flight, for `grace` seconds at most; then end it, unless it was taken back."""
        try:
            with departure:
                await idle(lambda: member.gate.leases, within=grace)
        finally:
            # Also when nobody waits for it any more: half removed it would be in nobody's hands.
            if member.departure is departure:  # else it was taken back
                member.departure = None
                await self.dismiss(member)

    def take_back(self, name: str) -> Member | None:
        """The provider of that name, if it was about to depart and can still stay."""
        member = self.members.get(name)
        if member is None or member.departure is None:
            return None
        member.departure.cancel()
        member.departure = None
        del self.members[name]
        return member

    async def dismiss(self, member: Member) -> None:
        """End a provider: its requests, its actor, its connections. Bounded in time, whoever is cancelled."""
        name = member.settings.name
        try:
            with trio.CancelScope(deadline=trio.current_time() + 2 * CLOSE_GRACE, shield=True):
                member.ref.deliver(Revoke("the provider was removed"))
                await idle(lambda: member.gate.leases and not member.ref.gone, within=CLOSE_GRACE)
                await self.supervisor.stop_child(name)
                await close(member.adapter, name)
        finally:
            self.former[name] = member.gate
            member.gate.let_go()
            self.members.pop(name, None)
            member.gone.set()

    async def gone(self, name: str) -> None:
        """Return when no provider of that name is about to end."""
        last = self.members.get(name)
        if last is not None:
            await last.gone.wait()

    def forget(self, now: float) -> None:
        """Whose limits are whole again is not remembered."""
        self.former = {name: gate for name, gate in self.former.items() if not gate.is_settled(now)}
