"""Opening a fleet: what is made for it, what is started in which order, and how all of it ends."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import trio

from infermux.config.settings import Config
from infermux.errors import InfermuxError, ProviderNotStarted
from infermux.providers.interface import lasting
from infermux.providers.prices import library_for, unpriced
from infermux.providers.registry import ThinkingStores, make_adapter
from infermux.shared.client import Shared

from .fleet import AdapterMaker, Fleet
from .gossip import Gossip
from .hedging import hedging_of
from .member import RESTARTS
from .purse_keeper import BudgetStore
from .rescue import rescue_of
from .share import WHOLE, Share
from .supervisor import Child, Restart, Supervisor
from .supplier import START_PATIENCE, SUPPLIER, SupplierActor, shared_state
from .supply import Supply
from .treasury import TREASURY, Treasury, TreasuryActor

log = logging.getLogger("infermux.actors")


@asynccontextmanager
async def open_fleet(
    config: Config,
    *,
    environ: Mapping[str, str] | None = None,
    rng: random.Random | None = None,
    adapters: AdapterMaker | None = None,
    budget_store: BudgetStore | None = None,
    share: Share = WHOLE,
    shared: Shared | None = None,
) -> AsyncGenerator[Fleet]:
    """Run the actors of `config` in a nursery of their own.

    `adapters` replaces how a provider's adapter is made (tests, embedding). `budget_store` keeps what was spent of
    budgets; without one they begin anew with each start. `share` is what is ours of every limit (where nodes
    share them by way of Redis: of this router's, until that tells); `shared` is where they do, in the place of what
    `state` says. A crash that the supervisor cannot mend is raised here, in a group; what the block itself raises comes
    out as it is, and so does a failed start. Leaving the block ends all actors and closes every connection.
    """
    env = os.environ if environ is None else environ
    kept: ThinkingStores = {}
    maker = adapters or (lambda settings: make_adapter(settings, environ=env, kept=kept))
    supervisor = Supervisor(intensity=None, backoff=RESTARTS, when_exhausted="abandon", on_restart=_report)
    treasury = Treasury(budgets=config.budgets, keyed=config.auth.is_keyed, store=budget_store)
    fleet = Fleet(config, rng or random.Random(), maker, supervisor, treasury=treasury, share=share)
    _divide(fleet, shared or shared_state(config.state))
    fleet.now = trio.lowlevel.current_clock().current_time
    fleet.hedging, fleet.rescue = hedging_of(config.hedge), rescue_of(config.rescue)
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        fleet.nursery = nursery
        await nursery.start(supervisor.run)
        nursery.start_soon(fleet.hold_back.run)
        nursery.start_soon(fleet.arrivals.run)
        nursery.start_soon(fleet.alarms.run)
        try:
            await _start(fleet)
            nursery.start_soon(fleet.keep_prices)
            yield fleet
        except Exception as error:
            raised = error  # the nursery would wrap it in a group, and who uses the router expects its errors
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await fleet.aclose()
    if raised is not None:
        raise raised


def _divide(fleet: Fleet, shared: Shared | None) -> None:
    """Give the fleet its part of every limit: the one it was made with, or what nodes agree on by way of Redis."""
    fleet.shared, share, state = shared, fleet.share, fleet.config.state
    if shared is None:
        fleet.treasury.adopt_share(share)
        return
    # Redis says what is ours; until it does, we take every other router to have as many workers.
    fleet.share = share = Share(share.index, share.of * state.nodes)
    supply = Supply(prefix=state.prefix, share=share, place=shared.place, dealt=fleet.deal, last_dealt=share)
    supply.is_over = lambda: fleet.is_over
    fleet.supply = supply
    fleet.treasury.share_by(supply)


async def _start(fleet: Fleet) -> None:
    """Start what the actors need, then they themselves. ProviderNotStarted: a strict provider did not come up."""
    await library_for(*unpriced(fleet.config))
    await fleet.supervisor.start_child(Child(TREASURY, lambda: TreasuryActor(fleet.treasury)))
    await _start_supply(fleet)
    await fleet.start()
    await fleet.treasury.keeper.ready()
    if fleet.supply is not None:
        with trio.move_on_after(START_PATIENCE):
            await fleet.supply.filled()
    await _strict_ones(fleet)


async def _start_supply(fleet: Fleet) -> None:
    """Begin to share limits with other nodes, and wait a moment for what they have left."""
    supply, shared = fleet.supply, fleet.shared
    if supply is None or shared is None:
        return
    gossip = fleet.gossip = Gossip(supply, lambda name: fleet.members.get(name))
    actor = partial(SupplierActor, supply=supply, shared=shared, gossip=gossip)
    await fleet.supervisor.start_child(Child(SUPPLIER, actor))
    with trio.move_on_after(START_PATIENCE):
        await supply.heard.wait()


async def _strict_ones(fleet: Fleet) -> None:
    """Wait for the providers that are declared `strict`. All are being started, whichever is waited for first."""
    for name, member in fleet.members.items():
        part = lasting(member.adapter) if member.settings.strict else None
        if part is None:
            continue
        try:
            await part.started()
        except InfermuxError as error:
            raise ProviderNotStarted(f"provider {name} could not be started, and is `strict`: {error}") from error


def _report(restart: Restart) -> None:
    after = f"restarting in {restart.delay:.1f} s" if restart.delay is not None else "not restarted"
    log.error("actor %s crashed (%s); %s", restart.name, type(restart.crash).__name__, after, exc_info=restart.crash)
