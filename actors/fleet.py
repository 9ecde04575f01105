"""All actors of one router: the providers' and the router's, under one supervisor."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import msgspec
import trio

from infermux.config.difference import Difference, difference
from infermux.config.settings import Config, ProviderSettings
from infermux.errors import NotFound
from infermux.providers.arrivals import Arrivals
from infermux.providers.interface import Adapter
from infermux.providers.prices import PriceBook, library_for, loaded_library, unpriced
from infermux.shared.client import Shared

from .alarms import Alarms
from .caller import Anyone, Caller, Deadline
from .catalogue import Catalogue
from .departures import Departures
from .description import Description, describe
from .dispatch import Run
from .gate import Gate
from .gossip import Gossip
from .hedging import Hedging, hedging_of
from .hiring import hire
from .hold_back import HoldBack
from .homes import Homes
from .journal import Journal
from .kit_errors import ActorDied
from .leasing import Leasing
from .member import CLOSE_GRACE, Member, close
from .messages import Want
from .plan import Plan
from .provider_messages import Command, Describe, LimitsChanged, Revoke, Verb
from .ref import Ref
from .reload import reload
from .rescue import Rescue, rescue_of
from .router import RouterActor
from .router_messages import HealthKnown, Serve, TurnAway
from .share import WHOLE, Share, Sharer
from .strategies import load_strategy_plugins
from .supervisor import Child, Supervisor
from .supplier import say_farewell
from .supply import Supply
from .treasury import Treasury
from .verdict import History

log = logging.getLogger("infermux.actors")

ROUTER = "infermux.router"  # no provider can be called so: `check` refuses the name
ROUTER_SLACK = 1024  # mailbox room beyond one message per concurrent request
PRICES_POLL = 60.0  # seconds between looks whether another price holds by now

AdapterMaker = Callable[[ProviderSettings], Adapter]


@attrs.define(eq=False, repr=False)
class Fleet:
    """The running actors. Made by `open_fleet`. `journal` is told of every request that has ended."""

    config: Config
    rng: random.Random
    make_adapter: AdapterMaker
    supervisor: Supervisor
    members: dict[str, Member] = attrs.field(factory=dict[str, Member])
    hold_back: HoldBack = attrs.field(factory=HoldBack)
    arrivals: Arrivals = attrs.field(factory=Arrivals)
    alarms: Alarms = attrs.field(factory=Alarms)
    hedging: Hedging | None = None
    journal: Journal = attrs.field(factory=Journal)
    treasury: Treasury = attrs.field(factory=Treasury)
    rescue: Rescue | None = None
    homes: Homes = attrs.field(factory=Homes)
    shares_keys: bool = False  # some provider has several keys, so that requests need to know their conversation
    share: Share = WHOLE  # what is ours of every limit
    sharers: list[Sharer] = attrs.field(factory=list[Sharer])  # what else has limits
    shared: Shared | None = None
    supply: Supply | None = None  # of limits that nodes share by way of Redis
    gossip: Gossip | None = None  # of providers, between those nodes
    spans: bool = False  # each attempt has a span of its own, which its provider is told
    now: Callable[[], float] = trio.current_time  # once it is open the clock's own, with two calls less
    catalogue: Catalogue = attrs.field(init=False)
    router: Ref[Any] = attrs.field(init=False)
    nursery: trio.Nursery = attrs.field(init=False)
    departures: Departures = attrs.field(init=False)
    _changing: trio.Lock = attrs.field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.departures = Departures(self.supervisor)

    def __repr__(self) -> str:
        return f"Fleet({', '.join(self.members)})"

    def run(
        self,
        want: Want,
        call: Any,
        *,
        caller: Caller | None = None,
        timeout: float | None = None,
        stored: bool = False,
        now: float | None = None,
    ) -> Run:
        """A request, ready to begin. `stored`: it is for a response that its provider keeps.

        `now` is the time, for who has just looked.
        """
        treasury, account = self.treasury, None
        if treasury.budgets or treasury.key_budget is not None:  # else nobody has one
            account = treasury.account(want, self.catalogue.resolve(want.model, want.endpoint))
        caller, retry, now = caller or Anyone(), self.config.retry, self.now() if now is None else now
        deadline = Deadline.of(now, timeout)
        plan = Plan(want, deadline=deadline.at)
        # By position: to find so many fields by their names takes ten times as long.
        return Run(
            self.router,
            want,
            msgspec.structs.replace(call, spans=True) if self.spans else call,
            caller,
            retry,
            self.rng,
            plan,
            History(retry, call.stream),
            deadline,
            Leasing(self.router, plan, caller, deadline, supply=self.supply),
            now,
            self.hold_back,
            self.arrivals,
            self.alarms,
            self.hedging,
            self.rescue,
            self.homes if stored else None,
            account,
            self.now,
        )

    async def add(self, settings: ProviderSettings) -> None:
        """Add a provider that no reload takes away; returns when its actor runs and its first probe is under way.

        ValueError: the name is taken.
        """
        async with self._changing:
            self._check_running()
            if settings.name in self.members:
                raise ValueError(f"there is a provider named {settings.name!r} already")
            await library_for(settings)
            member = await hire(self, settings)
            member.by_hand = True
            self.serve(self.config, [*self.members.values(), member])

    async def remove(self, name: str, *, grace: float = 0.0) -> None:
        """Take a provider out: nothing new goes to it, what is in flight has `grace` seconds. NotFound: none.

        A reload of a configuration that declares it brings it back.
        """
        async with self._changing:
            self._check_running()
            member = self.member(name)
            kept = tuple(provider for provider in self.config.providers if provider.name != name)
            others = [each for each in self.members.values() if each is not member]
            self.serve(attrs.evolve(self.config, providers=kept), others)
            departure = self.departures.begin(member)
        await self.departures.see_off(member, departure, grace)

    async def reload(self, config: Config) -> Difference:
        """Serve `config` from now on, as far as that goes without a restart; returns what it changed.

        Providers that are declared as before are not touched. One that is declared otherwise keeps its limits, its
        leases and, unless it may be another upstream, its state. Those that are gone have `shutdown_grace` seconds for
        what is in flight. What `add` added stays. One reload at a time. When it is cancelled, or a new provider cannot
        be started (that error is raised), nothing has changed.
        """
        async with self._changing:
            self._check_running()
            await library_for(*unpriced(config))
            try:
                return await reload(self, config)
            finally:  # where it failed, those that were expected do not come
                self.treasury.adopt(self.config.budgets, keyed=self.config.auth.is_keyed)

    async def expect_budgets(self, config: Config) -> None:
        """See what was spent of the budgets of a configuration that is about to be served."""
        await self.treasury.expect(config.budgets, keyed=config.auth.is_keyed)

    def adopt_share(self, share: Share) -> None:
        """Our part of every limit is another one from now on. What is left of it stays, up to what it is now.

        Where limits are shared by way of Redis, that alone says what is ours.
        """
        if self.supply is None:
            self.treasury.adopt_share(share)
            self.deal(share)

    def deal(self, share: Share) -> None:
        """Our part of every limit that is held by parts is another one from now on."""
        self.share, now = share, trio.current_time()
        for limits in self._limits():
            limits.adopt_share(share, now)
        for member in self.members.values():
            member.ref.deliver(LimitsChanged())

    def leave(self, requests: Callable[[], int]) -> None:
        """Nothing new comes, `requests` are under way: other nodes are to have what these do not need."""
        if self.supply is not None:
            self.supply.leave(lambda: max(requests(), max((len(gate.leases) for gate in self._gates()), default=0)))

    @property
    def is_over(self) -> bool:
        """Somewhere more runs at once than our part allows, since it has shrunk."""
        return any(limits.is_over for limits in self._limits())

    def _limits(self) -> Iterable[Sharer]:
        return (*self._gates(), *self.departures.former.values(), *self.sharers)

    def _gates(self) -> Iterable[Gate]:
        return (member.gate for member in (*self.members.values(), *self.departures.members.values()))

    def difference(self, config: Config) -> Difference:
        """What `reload(config)` would change now."""
        names = {provider.name for provider in config.providers}
        added = (member.settings for name, member in self.members.items() if member.by_hand and name in names)
        return difference(attrs.evolve(self.config, providers=(*self.config.providers, *added)), config)

    def member(self, name: str) -> Member:
        member = self.members.get(name)
        if member is None:
            raise NotFound(f"there is no provider named {name!r}; there are: {', '.join(self.members)}")
        return member

    async def command(self, name: str, verb: Verb) -> Description:
        """Carry out an operator's command. NotFound, ActorDied (the actor is restarting)."""
        result: Description = await self.member(name).ref.ask(Command(verb))
        return result

    async def describe(self, name: str) -> Description:
        """All that can be told about a provider, also while its actor is restarting. NotFound."""
        member = self.member(name)
        try:
            result: Description = await member.ref.ask(Describe())
        except ActorDied:
            result = describe(member.gate, member.adapter, trio.current_time(), crashed=True)
        return result

    def listed_models(self) -> dict[str, list[Member]]:
        """Models that providers without a `models` list were found to have: for the listing only, not for routing."""
        found: dict[str, list[Member]] = {}
        for member in self.members.values():
            for info in member.gate.found_models or ():
                found.setdefault(info.id, []).append(member)
        return found

    def is_ready(self) -> bool:
        """True when at least one provider is routable now."""
        now = trio.current_time()
        return any(member.blocked(now) is None for member in self.members.values())

    def revoke_all(self, why: str) -> None:
        """End every request in flight: each caller is told, none goes on to another provider."""
        self.router.deliver(TurnAway(why))
        for member in self.members.values():
            member.ref.deliver(Revoke(why, last_word=True))

    async def start(self) -> None:
        """Start the providers' actors, then the router's. What these need is running (`open_fleet`)."""
        self._number()  # prices, for the first probes
        for settings in self.config.providers:
            self.members[settings.name] = await hire(self, settings)
        self._number()
        plugins = load_strategy_plugins()
        child = Child(
            ROUTER, lambda: RouterActor.made(self.config, self._world(), self.rng, plugins), capacity=self.capacity
        )
        self.router = await self.supervisor.start_child(child)
        if any(member.described != member.entry.found for member in self.members.values()):
            self.found(next(iter(self.members)))  # there was nobody yet who could be told

    # Providers come, go, and come back.

    def _check_running(self) -> None:
        if self.router.gone:
            raise ActorDied(ROUTER)

    def serve(self, config: Config, members: Iterable[Member]) -> None:
        """From now on `config` is served, by `members` in this order. Synchronous: a whole world or none."""
        if config.hedge != self.config.hedge:
            self.hedging = hedging_of(config.hedge)
        if config.rescue != self.config.rescue:
            self.rescue = rescue_of(config.rescue)
        self.config = config
        self.treasury.adopt(config.budgets, keyed=config.auth.is_keyed)
        self.members = {member.settings.name: member for member in members}
        self.departures.forget(trio.current_time())
        self._number()
        self.router.deliver(self._world())

    def depart(self, member: Member, grace: float) -> None:
        """A provider that takes nothing new has `grace` seconds for what is in flight, then it ends."""
        self.nursery.start_soon(self.departures.see_off, member, self.departures.begin(member), grace)

    async def keep_prices(self) -> None:
        """Some prices change at an hour or on a day: then everything is priced anew."""
        while True:
            await trio.sleep(PRICES_POLL)
            if time.time() >= self.catalogue.prices.changes_at:
                self._number()
                self.router.deliver(self._world())

    # What the router is told.

    def _number(self) -> None:
        """Put members and catalogue into the order of declaration."""
        for index, member in enumerate(self.members.values()):
            member.entry = attrs.evolve(
                member.entry, index=index, endpoints=member.adapter.endpoints, found=member.described
            )
            member.gate.routing = self.config.routing
        prices = PriceBook.of(self.config, loaded_library())
        self.catalogue = Catalogue.build(self.config, [member.entry for member in self.members.values()], prices)
        self.shares_keys = any(member.gate.ring is not None for member in self.members.values())

    def found(self, name: str) -> None:
        """A provider has said which models it has, and it was not that before."""
        if name in self.members and hasattr(self, "router"):
            self._number()
            self.router.deliver(self._world())

    def _world(self) -> Serve:
        return Serve(self.catalogue, {name: member.ref for name, member in self.members.items()}, self.config)

    @property
    def capacity(self) -> int:
        """Of an actor's mailbox: a message of every request, and some."""
        return self.config.limits.max_concurrent_requests + ROUTER_SLACK

    def announce(self, name: str) -> None:
        """A provider's first probe is over."""
        router = getattr(self, "router", None)
        if router is not None:
            router.deliver(HealthKnown(name))

    async def aclose(self) -> None:
        """Close every adapter, and keep what was spent. The actors have ended, or are about to.

        Each part is bounded in time by itself: a store that hangs keeps no connection open.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_what_was_spent)
            with trio.move_on_after(CLOSE_GRACE):
                for member in self.members.values():
                    await close(member.adapter, member.settings.name)

    async def _keep_what_was_spent(self) -> None:
        """Redis first: of a store nobody could tell whether Redis is still to be told."""
        if self.supply is not None and self.shared is not None:
            await say_farewell(self.supply, self.shared)
        await self.treasury.keeper.aclose()
