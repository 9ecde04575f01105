"""A provider becomes part of a fleet: its wire, its limits, its actor, and what it needs running beside it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from infermux.config.settings import ProviderSettings
from infermux.providers.interface import Adapter, Endpoint, lasting
from infermux.providers.registry import TypeNotAvailable
from infermux.providers.unavailable import Unavailable

from .catalogue import Entry
from .gate import Gate
from .member import CLOSE_GRACE, Member, close, keep
from .probe_bill import bill
from .provider import ProviderActor
from .provider_messages import LimitsChanged
from .supervisor import Child
from .supply import Limits

if TYPE_CHECKING:
    from .fleet import Fleet

log = logging.getLogger("infermux.actors")


async def hire(fleet: Fleet, settings: ProviderSettings) -> Member:
    """A provider with its actor running that nobody is served by yet. Cancelled or failed it leaves nothing."""
    await fleet.departures.gone(settings.name)
    adapter, unavailable = wire(fleet, settings)
    gate = _gate(fleet, settings, unavailable)
    member = Member(Entry(settings=settings, index=0, endpoints=adapter.endpoints), adapter, gate)

    def actor() -> ProviderActor:
        adapter, billed = member.adapter, partial(bill, fleet)
        return ProviderActor(
            gate=gate, adapter=adapter, rng=fleet.rng, announce=fleet.announce, billed=billed, found=fleet.found
        )

    try:
        member.ref = await fleet.supervisor.start_child(Child(settings.name, actor, capacity=fleet.capacity))
    except BaseException:
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_GRACE, shield=True):
            await close(adapter, settings.name)
        raise
    launch(fleet, member, adapter)
    return member


def wire(fleet: Fleet, settings: ProviderSettings) -> tuple[Adapter, str | None]:
    """A new wire, and why it cannot be used where that is so."""
    try:
        return fleet.make_adapter(settings), None
    except TypeNotAvailable as missing:
        log.warning("provider %s is not routable: %s", settings.name, missing)
        return Unavailable(frozenset(Endpoint), str(missing)), str(missing)


def launch(fleet: Fleet, member: Member, adapter: Adapter) -> None:
    """Keep running what `adapter` needs, until it is closed."""
    part = lasting(adapter)
    if part is not None:
        fleet.nursery.start_soon(keep, part, member)


def _gate(fleet: Fleet, settings: ProviderSettings, unavailable: str | None) -> Gate:
    """Its state: with our share of its limits, and what the last provider of that name has used of them."""
    gate = Gate(settings, fleet.config.routing, unavailable, buckets=_buckets(fleet, settings.name))
    if not fleet.share.is_whole:
        gate.adopt_share(fleet.share, trio.current_time())
    if fleet.gossip is not None:
        gate.moved = partial(fleet.gossip.note, settings.name)
    former = fleet.departures.former.get(settings.name)
    if former is not None:
        gate.inherit(former, trio.current_time())
    return gate


def _buckets(fleet: Fleet, name: str) -> Limits | None:
    """Those of a provider, where nodes share their limits."""

    def supplied() -> None:
        member = fleet.members.get(name)
        if member is not None:
            member.ref.deliver(LimitsChanged())

    return None if fleet.supply is None else fleet.supply.of_provider(name, supplied)
