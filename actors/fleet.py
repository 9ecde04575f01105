"""All actors of one router: the providers' and the router's, under one supervisor."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from infermux.config.settings import Config, ProviderSettings
from infermux.errors import NotFound
from infermux.providers.interface import Adapter, Endpoint
from infermux.providers.registry import ThinkingStores, TypeNotAvailable, make_adapter
from infermux.providers.unavailable import Unavailable

from .attempt import Caller
from .catalogue import Catalogue, Entry
from .dispatch import Anyone, Run
from .gate import Gate
from .hold_back import HoldBack
from .kit_errors import ActorDied
from .messages import Reason, Standing, Want
from .provider import Command, Describe, Description, ProviderActor, Revoke, Verb, describe
from .ref import Ref
from .router import HealthKnown, RouterActor, Serve
from .strategies import load_strategy_plugins
from .supervisor import Backoff, Child, Restart, Supervisor

log = logging.getLogger("infermux.actors")

ROUTER = "infermux.router"  # no provider can be called so: `check` refuses the name
DRAIN_POLL = 0.05
CLOSE_GRACE = 2.0
ROUTER_SLACK = 1024  # mailbox room beyond one message per concurrent request

AdapterMaker = Callable[[ProviderSettings], Adapter]


@attrs.define(eq=False)
class Member:
    """One provider: what was declared, its wire, its state, its actor."""

    entry: Entry
    adapter: Adapter
    gate: Gate
    ref: Ref[Any]

    @property
    def settings(self) -> ProviderSettings:
        return self.entry.settings

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


@attrs.define(eq=False)
class Fleet:
    """The running actors. Made by `open_fleet`."""

    config: Config
    rng: random.Random
    make_adapter: AdapterMaker
    supervisor: Supervisor
    members: dict[str, Member] = attrs.field(factory=dict)
    hold_back: HoldBack = attrs.field(factory=HoldBack)
    catalogue: Catalogue = attrs.field(init=False)
    router: Ref[Any] = attrs.field(init=False)
    _count: int = 0

    def run(self, want: Want, call: Any, *, caller: Caller | None = None, timeout: float | None = None) -> Run:
        """A request, ready to begin."""
        return Run(
            router=self.router,
            want=want,
            call=call,
            caller=caller or Anyone(),
            retry=self.config.retry,
            rng=self.rng,
            hold_back=self.hold_back,
            timeout=timeout,
        )

    async def add(self, settings: ProviderSettings) -> None:
        """Add a provider; returns when its actor runs and its first probe is under way. ValueError: name taken."""
        await self._start(settings)
        await self._publish()

    async def remove(self, name: str, *, grace: float = 0.0) -> None:
        """Take a provider out: nothing new goes to it, what is in flight has `grace` seconds. NotFound: none."""
        member = self.member(name)
        del self.members[name]
        try:
            await self._publish()
            with trio.move_on_after(grace):
                while member.gate.leases:  # noqa: ASYNC110 - the gate is pure, and removing is rare
                    await trio.sleep(DRAIN_POLL)
        finally:
            # Also when nobody waits for it any more: half removed it would be in nobody's hands.
            with trio.CancelScope(deadline=trio.current_time() + 2 * CLOSE_GRACE, shield=True):
                await self._end(member)

    async def _end(self, member: Member) -> None:
        member.ref.deliver(Revoke("the provider was removed"))
        with trio.move_on_after(CLOSE_GRACE):
            while member.gate.leases:  # noqa: ASYNC110 - as above
                await trio.sleep(DRAIN_POLL)
        await self.supervisor.stop_child(member.settings.name)
        await member.adapter.aclose()

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
            for name in member.gate.found_models:
                found.setdefault(name, []).append(member)
        return found

    def is_ready(self) -> bool:
        """True when at least one provider is routable now."""
        now = trio.current_time()
        return any(member.blocked(now) is None for member in self.members.values())

    def revoke_all(self, why: str) -> None:
        """End every request in flight: each caller is told, none goes on to another provider."""
        for member in self.members.values():
            member.ref.deliver(Revoke(why, last_word=True))

    async def start(self) -> None:
        """Start the providers' actors, then the router's."""
        for settings in self.config.providers:
            await self._start(settings)
        plugins = load_strategy_plugins()
        capacity = self.config.limits.max_concurrent_requests + ROUTER_SLACK
        self.catalogue = self._catalogue()
        child = Child(
            ROUTER, lambda: RouterActor.made(self.config, self._world(), self.rng, plugins), capacity=capacity
        )
        self.router = await self.supervisor.start_child(child)

    async def _start(self, settings: ProviderSettings) -> None:
        if settings.name in self.members:
            raise ValueError(f"there is a provider named {settings.name!r} already")
        adapter, unavailable = self._adapter(settings)
        gate = Gate(settings, self.config.routing, unavailable)
        entry = Entry(settings=settings, index=self._count, endpoints=adapter.endpoints)
        self._count += 1

        def actor() -> ProviderActor:
            return ProviderActor(gate=gate, adapter=adapter, rng=self.rng, announce=self._announce)

        capacity = self.config.limits.max_concurrent_requests + ROUTER_SLACK
        try:
            ref = await self.supervisor.start_child(Child(settings.name, actor, capacity=capacity))
        except BaseException:
            with trio.CancelScope(deadline=trio.current_time() + CLOSE_GRACE, shield=True):
                await adapter.aclose()
            raise
        self.members[settings.name] = Member(entry, adapter, gate, ref)

    def _adapter(self, settings: ProviderSettings) -> tuple[Adapter, str | None]:
        try:
            return self.make_adapter(settings), None
        except TypeNotAvailable as missing:
            log.warning("provider %s is not routable: %s", settings.name, missing)
            return Unavailable(frozenset(Endpoint), str(missing)), str(missing)

    def _announce(self, name: str) -> None:
        router = getattr(self, "router", None)
        if router is not None:
            router.deliver(HealthKnown(name))

    def _catalogue(self) -> Catalogue:
        return Catalogue.build(self.config, [member.entry for member in self.members.values()])

    def _world(self) -> Serve:
        return Serve(self.catalogue, {name: member.ref for name, member in self.members.items()})

    async def _publish(self) -> None:
        self.catalogue = self._catalogue()
        while True:
            try:
                await self.router.ask(self._world())
                return
            except ActorDied:  # its next incarnation starts with the new world
                if self.router.gone:
                    raise
                await trio.sleep(DRAIN_POLL)

    async def aclose(self) -> None:
        """Close every adapter. The actors end with the supervisor."""
        for member in self.members.values():
            await member.adapter.aclose()


@asynccontextmanager
async def open_fleet(
    config: Config,
    *,
    environ: Mapping[str, str] | None = None,
    rng: random.Random | None = None,
    adapters: AdapterMaker | None = None,
) -> AsyncGenerator[Fleet]:
    """Run the actors of `config` in a nursery of their own.

    `adapters` replaces how a provider's adapter is made (tests, embedding). A crash that the supervisor cannot mend is
    raised here, in a group; what the block itself raises comes out as it is, and so does a failed start. Leaving the
    block ends all actors and closes every connection.
    """
    env = os.environ if environ is None else environ
    kept: ThinkingStores = {}
    maker = adapters or (lambda settings: make_adapter(settings, environ=env, kept=kept))
    supervisor = Supervisor(
        intensity=None, backoff=Backoff(base=0.1, max=30.0), when_exhausted="abandon", on_restart=_report
    )
    fleet = Fleet(config, rng or random.Random(), maker, supervisor)
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        nursery.start_soon(fleet.hold_back.run)
        try:
            await fleet.start()
            yield fleet
        except Exception as error:
            raised = error  # the nursery would wrap it in a group, and who uses the router expects its errors
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(deadline=trio.current_time() + CLOSE_GRACE, shield=True):
                await fleet.aclose()
    if raised is not None:
        raise raised


def _report(restart: Restart) -> None:
    after = f"restarting in {restart.delay:.1f} s" if restart.delay is not None else "not restarted"
    log.error("actor %s crashed (%s); %s", restart.name, type(restart.crash).__name__, after, exc_info=restart.crash)
