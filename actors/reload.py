"""From one configuration to another while requests run.

First everything new is made: wires of providers that are declared otherwise, actors of those that are added. That may
take its time, fail or be cancelled, and then it is undone and nobody has noticed. What follows is one synchronous step:
every task of the fleet sees the old world or the new one, never half of each. What the old world leaves behind (removed
providers, wires nobody sends on any more) ends in the background, after the requests that still run on it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from infermux.config.difference import Difference, Impact, effective, provider_change
from infermux.config.settings import Config, ProviderSettings
from infermux.providers.interface import Adapter

from .hiring import hire, launch, wire
from .member import CLOSE_GRACE, Member, close, idle
from .provider_messages import Redeclared

if TYPE_CHECKING:
    from .fleet import Fleet


@attrs.define(eq=False, kw_only=True)
class _Place:
    """A provider of the new world. `wire`: its new adapter, and why it cannot be used where that is so.

    `impact` None: declared as before. `hired`: it is new, `returned`: it was about to depart.
    """

    member: Member
    settings: ProviderSettings
    impact: Impact | None = None
    wire: tuple[Adapter, str | None] | None = None
    hired: bool = False
    returned: bool = False


async def reload(fleet: Fleet, config: Config) -> Difference:
    """See `Fleet.reload`, which sees to it that there is one at a time."""
    found = fleet.difference(config)
    config = effective(fleet.config, config)
    places: list[_Place] = []
    try:
        for settings in config.providers:
            places.append(await _place(fleet, settings))  # noqa: PERF401 - those made so far are undone
        await fleet.expect_budgets(config)
        await trio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        with trio.CancelScope(deadline=trio.current_time() + 2 * CLOSE_GRACE, shield=True):
            await _undo(fleet, places)
        raise
    _commit(fleet, config, places)
    return found


async def _place(fleet: Fleet, settings: ProviderSettings) -> _Place:
    running = fleet.members.get(settings.name)
    member = running or fleet.departures.take_back(settings.name)
    if member is None:
        return _Place(member=await hire(fleet, settings), settings=settings, hired=True)
    place = _Place(member=member, settings=settings, returned=running is None)
    if settings != member.settings:
        place.impact = provider_change(member.settings, settings).impact
        if place.impact is not Impact.KEPT:
            place.wire = wire(fleet, settings)
    return place


async def _undo(fleet: Fleet, places: list[_Place]) -> None:
    for place in places:
        if place.returned:
            fleet.depart(place.member, fleet.config.shutdown_grace)
        if place.hired:
            await fleet.departures.dismiss(place.member)
        if place.wire is not None:
            await close(place.wire[0], place.settings.name)


def _commit(fleet: Fleet, config: Config, places: list[_Place]) -> None:
    names = {place.settings.name for place in places}
    others = [member for name, member in fleet.members.items() if name not in names]
    grace = config.shutdown_grace
    for place in places:
        place.member.by_hand = False
        if place.impact is not None:
            _redeclare(fleet, place, place.impact, grace)
    fleet.serve(config, [*(place.member for place in places), *(member for member in others if member.by_hand)])
    for member in others:
        if not member.by_hand:
            fleet.depart(member, grace)


def _redeclare(fleet: Fleet, place: _Place, impact: Impact, grace: float) -> None:
    member, now = place.member, trio.current_time()
    former = member.adapter
    adapter, unavailable = place.wire or (former, member.gate.unavailable)
    member.adapter = adapter
    member.entry = attrs.evolve(member.entry, settings=place.settings, endpoints=adapter.endpoints)
    member.gate.adopt(place.settings, unavailable, now, renewed=impact is Impact.RENEWED)
    message = Redeclared(adapter)
    member.ref.deliver(message)
    if adapter is not former:
        launch(fleet, member, adapter)
        # Only what goes to where we are not to go any more has to end; the rest is sent as it would be now, or nearly.
        within = grace if impact is Impact.RENEWED else math.inf
        fleet.nursery.start_soon(_retire, member, former, message, within)


async def _retire(member: Member, wire: Adapter, message: Redeclared, grace: float) -> None:
    """Close a wire that has a successor, after the last request on it; those left after `grace` seconds are ended."""

    def is_used() -> bool:
        may_grant = not message.known.is_set() and not member.ref.gone
        return may_grant or member.uses(wire)

    try:
        await idle(is_used, within=grace)
        member.revoke_on(wire, f"the provider is declared otherwise now, and the grace of {grace:g} s is over")
        await idle(lambda: member.uses(wire), within=CLOSE_GRACE)
    finally:
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_GRACE, shield=True):
            await close(wire, member.settings.name)
