"""The router actor: turns a request into an ordered choice of providers and hands it to the first.

It reads what the providers' actors have published and never their inside. An asker sends `Advance(plan)`; the router
forwards `Acquire` to the provider's actor together with the asker's reply slot, so the answer (a lease) does not come
back through here. A provider that refuses sends the plan back for the next step.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs
import trio
from msgspec.structs import replace

from infermux.config.settings import Config, Retry
from infermux.errors import InfermuxError, InvalidRequest, ModelNotFound, ShuttingDown

from .actor import BaseActor, Context
from .beginning import UNREAD, Beginnings, only, tiers_of
from .budget import Budget
from .catalogue import DEFAULT, Candidate, Catalogue, Route
from .first_probes import Expire, FirstProbes
from .kit_errors import ActorDied
from .lease import Lease
from .mailbox import NOT_NOW
from .messages import Reason, Standing
from .plan import Look, Plan, Refusal
from .preferences import check_home, check_names, is_allowed, preferred
from .queue import WaitingRoom
from .ref import Ref
from .reply import Reply
from .router_messages import Acquire, Advance, Again, CountWaiting, HealthKnown, Longer, Serve, Stay, TurnAway
from .router_queue import Freed, LookAtQueue, RouterQueue, standing_of
from .strategy import Choice, Option
from .strategy_table import StrategyTable
from .suitability import nobody_suited, unsuited

log = logging.getLogger("infermux.actors")

PICKED = 4  # choices among many that are picked one by one, before all are put in order


@attrs.define(eq=False)
class RouterActor(BaseActor[Any]):
    """Owns the strategies' state, the budget of retries and the requests that wait."""

    eager: ClassVar[bool] = True
    direct: ClassVar[tuple[str, ...]] = ("lease",)

    retry: Retry
    room: WaitingRoom
    strategies: StrategyTable = attrs.field(init=False)
    _catalogue: Catalogue | None = None
    _refs: Mapping[str, Ref[Any]] = attrs.field(factory=dict)
    _sent: dict[str, int] = attrs.field(factory=dict)
    _lives: dict[str, int] = attrs.field(factory=dict[str, int])
    _beginnings: Beginnings = attrs.field(factory=Beginnings)
    _context: Context[Any] | None = None
    _budget: Budget = attrs.field(init=False)
    _queue: RouterQueue = attrs.field(init=False)
    _first_probes: FirstProbes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._queue = RouterQueue(self.room, self._advance)
        self._first_probes = FirstProbes(self._advance)
        self._budget = Budget(self.retry.budget_ratio, self.retry.budget_min_per_second)

    @classmethod
    def made(cls, config: Config, world: Serve, rng: random.Random, plugins: Mapping[str, Any]) -> RouterActor:
        """A router that serves `world` from the start."""
        room = WaitingRoom(config.queue.max_wait, config.queue.max_size)
        actor = cls(config.retry, room)
        actor.strategies = StrategyTable(config.routing, rng, plugins, actor._load)
        actor._serve(world)
        return actor

    async def started(self, context: Context[Any]) -> None:
        self._context = self._queue.context = self._first_probes.context = context

    def stopped(self) -> None:
        self.strategies.forget_fields()  # the next incarnation has its own

    def receive(self, message: Any, reply: Reply[Any] | None) -> None:
        match message:
            case Advance(plan) if reply is not None:
                self._advance(plan, reply)
            case Again(plan) if reply is not None:
                self._again(plan, reply)
            case Longer(plan) if reply is not None:
                self._longer(plan, reply)
            case HealthKnown():
                self._first_probes.retry()
            case Expire(plan):
                self._first_probes.expire(plan)
            case Freed(provider):
                self._queue.freed(provider)
            case LookAtQueue():
                self._queue.look()
            case TurnAway(why):
                self._turn_away(why)
            case CountWaiting() if reply is not None:
                reply.send(len(self.room) + len(self._first_probes))
            case Serve():
                self._serve(message)
                self._first_probes.retry()
                self._queue.serve()
                if reply is not None:
                    reply.send(None)
            case _:
                pass

    def _serve(self, world: Serve) -> None:
        if world.config is not None:
            self._adopt(world.config)
        self.strategies.forget_fields()
        self._beginnings.clear()
        self._catalogue = world.catalogue
        self._refs = self._queue.refs = world.refs
        self._sent = {name: self._sent.get(name, standing_of(ref).seen) for name, ref in world.refs.items()}
        self._lives = {name: self._lives.get(name, standing_of(ref).life) for name, ref in world.refs.items()}

    def _adopt(self, config: Config) -> None:
        self.strategies.adopt(config.routing)
        self.retry = config.retry
        self.room.max_wait, self.room.max_size = config.queue.max_wait, config.queue.max_size
        self._budget.ratio, self._budget.per_second = self.retry.budget_ratio, self.retry.budget_min_per_second

    # One request.

    def lease(self, plan: Plan, now: float) -> Lease | InfermuxError | None:
        """What `Advance` does with a new plan, called, as far as its first choice: the lease, or why there is none.

        None where it goes on from there by messages: that choice refuses or is busy, or there is nobody to choose.
        """
        try:
            if not self._next_tier(plan, now) or not plan.steps:
                return None
        except (InvalidRequest, ModelNotFound) as refused:
            return refused
        choice = plan.steps[0]
        name = choice.option.provider
        ref = self._asked(plan, choice, now)
        if ref is None:
            plan.position = 1
            return None
        number = self._sent[name] + 1
        try:
            granted = ref.call("grant", plan, choice, number, now)
        except ActorDied:
            plan.silent.add(name)
            plan.refuse(Refusal(name, Reason.CRASHED))
            granted = None
        if granted is NOT_NOW:
            return None  # it is asked by a message
        self._sent[name] = number
        plan.last, plan.position = choice, 1
        return granted  # type: ignore[no-any-return]

    def _advance(self, plan: Plan, reply: Reply[Any]) -> None:
        now = trio.current_time()
        try:
            while True:
                while plan.position < len(plan.steps) or self._has_more(plan, now):
                    choice = plan.steps[plan.position]
                    if plan.staying is not None and self._is_other(choice, plan, now) and self._stay(plan, reply, now):
                        return
                    plan.position += 1
                    if self._try(plan, choice, reply, now):
                        return
                if not self._next_tier(plan, now):
                    break
            if plan.catalogue is not self._catalogue:  # a reload came between: not all who could answer were asked
                plan.restart()
                self._advance(plan, reply)
                return
            if plan.staying is not None and not plan.is_starting and self._stay(plan, reply, now):
                return
        except (InvalidRequest, ModelNotFound) as refused:
            reply.send(refused)
            return
        if plan.beside is None and plan.insist():
            self._advance(plan, reply)
            return
        if plan.is_starting and plan.beside is None:
            self._first_probes.park(plan, reply, self._first_probe_bound)
        elif not plan.refusals and not plan.tried and plan.unsuited:
            reply.send(nobody_suited(plan.want.model, plan.unsuited))
        elif not plan.refusals and not plan.tried:
            reply.send(
                ModelNotFound(f"no provider of model {plan.want.model!r} is left by the request's `provider` object")
            )
        elif not self._queue.waits(plan, reply, now):
            reply.send(plan.verdict(now))

    def _try(self, plan: Plan, choice: Choice, reply: Reply[Any], now: float) -> bool:
        ref = self._asked(plan, choice, now)
        if ref is None:
            return False
        assert self._context is not None
        name = choice.option.provider
        number = self._sent[name] = self._sent[name] + 1
        plan.last = choice
        ref.forward(Acquire(plan, choice, self._context.ref, number), reply)
        return True

    def _asked(self, plan: Plan, choice: Choice, now: float) -> Ref[Any] | None:
        """Whom to ask for `choice`; None, and a refusal in the plan, where it is seen from here that it cannot be."""
        option = choice.option
        name = option.provider
        if (name, option.model) in plan.tried or name in plan.silent:
            return None
        ref = self._refs.get(name)
        if ref is None:
            return None
        room = self.room
        if room.waiters and plan not in room and room.is_claimed(name, plan.want.priority):
            plan.refuse(Refusal(name, Reason.CLAIMED))
            return None
        standing = None if option.standing is UNREAD or plan.rest is not None else standing_of(ref)
        if standing is not None and now < standing.blocked_until and not plan.disregards(standing):
            plan.refuse(Refusal(name, standing.reason or Reason.CRASHED, standing.blocked_until), choice)
            return None
        if not ref.alive:
            plan.refuse(Refusal(name, Reason.CRASHED))
            return None
        return ref

    # The same provider once more, and prompts that are too long.

    def _is_other(self, choice: Choice, plan: Plan, now: float) -> bool:
        """Whether `choice` could answer, but with another model than the one the request would stay with."""
        option, here = choice.option, plan.staying
        if here is None or option.model == here.option.model or not self.retry.stay_when_model_changes:
            return False
        if (option.provider, option.model) in plan.tried or option.provider in plan.silent:
            return False
        ref = self._refs.get(option.provider)
        return ref is not None and ref.alive and now >= standing_of(ref).blocked_until

    def _stay(self, plan: Plan, reply: Reply[Any], now: float) -> bool:
        if not self._budget.take(now):
            plan.staying = None
            return False
        reply.send(Stay.HERE)
        return True

    def _again(self, plan: Plan, reply: Reply[Any]) -> None:
        choice, plan.staying = plan.staying, None
        ref = self._refs.get(choice.option.provider) if choice is not None else None
        if choice is None or ref is None or not ref.alive:
            self._advance(plan, reply)
            return
        assert self._context is not None
        name = choice.option.provider
        number = self._sent[name] = self._sent[name] + 1
        plan.last = choice
        ref.forward(Acquire(plan, choice, self._context.ref, number), reply)

    def _longer(self, plan: Plan, reply: Reply[Any]) -> None:
        catalogue, route, last = self._catalogue, plan.route, plan.last
        assert catalogue is not None
        assert route is not None
        routes = route.longer
        if not routes and last is not None:
            routes = catalogue.resolve(last.option.model, plan.want.endpoint).longer
        plan.tiers = ((longer, tier) for longer in routes for tier in longer.tiers)
        plan.steps, plan.position, plan.rest = [], 0, None
        alone = plan.want.preferences is not None and not plan.want.preferences.allow_fallbacks
        if alone or not any(longer.tiers for longer in routes):
            reply.send(None)
            return
        self._advance(plan, reply)

    def _next_tier(self, plan: Plan, now: float) -> bool:
        if plan.tiers is None:
            if not plan.parked and plan.beside is None and not (self.room.waiters and plan in self.room):
                self._budget.note_request(now)
            route = plan.route = self._route(plan)
            plan.catalogue = self._catalogue
            want = plan.want
            if want.preferences is None and want.home is None and plan.beside is None:
                beginning = self._beginnings.of(route, self.strategies)
                if beginning is not None:
                    beginning.begin(plan)
                    return True
            plan.tiers = tiers_of(plan)
        found = next(plan.tiers, None)
        if found is None:
            return False
        route, tier = found
        judged = plan.route is not None and plan.route.is_judged
        left_out = unsuited(tier, plan.route, plan.want) if judged and plan.route is not None else {}
        # Those of the route that answers: a fallback model may belong to another group.
        plan.group = route.group.name if route.group else ""
        plan.strategy = self.strategies.name(route.group, plan.want.preferences)
        suited = tuple(c for c in tier if (c.entry.name, c.model) not in left_out) if left_out else tier
        plan.rest = None
        first = None if left_out else self.strategies.first(plan, tier, self._refs, now)
        plan.rest = None if first is None else tier
        plan.steps = self._order(plan, suited, now) if first is None else [first]
        plan.looks.append(Look(plan.strategy, plan.group, tier, plan.steps, left_out, first is None))
        plan.position = 0
        return True

    def _route(self, plan: Plan) -> Route:
        catalogue = self._catalogue
        assert catalogue is not None
        want = plan.want
        if want.preferences is not None:
            check_names(want.preferences, catalogue)
        route = catalogue.resolve(want.model, want.endpoint)
        if catalogue.unlisted and want.model in DEFAULT and self._is_unknown(plan, catalogue.unlisted, route):
            return Route(model="", tiers=(), group=None)
        if route.is_empty:
            raise ModelNotFound(catalogue.nobody(route.model, want.endpoint), param="model")
        if want.home is not None:
            check_home(want, want.home, route, catalogue)
        return route

    def _is_unknown(self, plan: Plan, providers: Iterable[str], route: Route) -> bool:
        """Whether the default model is not known before one of `providers` has said what it has, or has failed to."""
        now = trio.current_time()
        standings = {name: standing_of(self._refs[name]) for name in providers}
        reasons = {name: each.reason if now < each.blocked_until else None for name, each in standings.items()}
        if Reason.STARTING not in reasons.values() and not route.is_empty:
            return False
        for name, reason in reasons.items():
            plan.refuse(Refusal(name, reason or Reason.STARTING))
        return True

    def _has_more(self, plan: Plan, now: float) -> bool:
        """Go on after the first choice among many, at last with all of them in order; False where there is nobody."""
        if plan.rest is None:
            return False
        tier = plan.rest
        if len(plan.steps) < PICKED and (choice := self.strategies.first(plan, tier, self._refs, now)) is not None:
            plan.steps.append(choice)
            return True
        plan.rest = None
        there = {(choice.option.provider, choice.explore) for choice in plan.steps}
        ordered = self._order(plan, tier, now)
        plan.steps += [choice for choice in ordered if (choice.option.provider, choice.explore) not in there]
        plan.looks[-1] = replace(plan.looks[-1], whole=True)
        return plan.position < len(plan.steps)

    def _order(self, plan: Plan, tier: tuple[Candidate, ...], now: float) -> list[Choice]:
        preferences, home = plan.want.preferences, plan.want.home
        if home is not None:
            tier = tuple(c for c in tier if c.entry.name == home.provider)
        if preferences is None and len(tier) == 1:
            return [Choice(only(tier[0]))]
        if preferences is not None:
            tier = tuple(c for c in tier if is_allowed(c, preferences))
        options = [option for c in tier if (option := self._option(plan, c, now)) is not None]
        if len(options) < 2:
            ordered = [Choice(option) for option in options]
        else:
            ordered = self.strategies.order(options, plan, now)
        return preferred(ordered, preferences) if preferences is not None else ordered

    def _option(self, plan: Plan, candidate: Candidate, now: float) -> Option | None:
        entry = candidate.entry
        name = entry.settings.name
        ref = self._refs.get(name)
        if ref is None:
            return None
        standing = standing_of(ref)
        if now < standing.blocked_until:
            held = Choice(only(candidate)) if standing.reason is Reason.SLOW_START else None
            plan.refuse(Refusal(name, standing.reason or Reason.CRASHED, standing.blocked_until), held)
            return None
        load = self._load(name, standing)
        return Option(name, candidate.model, standing, entry.index, load, entry.settings.weight, candidate.price)

    def _load(self, name: str, standing: Standing) -> int:
        """The requests that a provider has, those included that are on their way to it."""
        if self._sent[name] == standing.seen:
            return standing.in_flight
        return standing.in_flight + self._in_transit(name, standing)

    def _in_transit(self, name: str, standing: Standing) -> int:
        if self._lives.get(name) != standing.life:
            # It crashed since: what was on its way to it never arrives.
            self._lives[name] = standing.life
            self._sent[name] = standing.seen
        return max(self._sent[name] - standing.seen, 0)

    def _first_probe_bound(self, provider: str) -> float:
        assert self._catalogue is not None
        entry = self._catalogue.entries.get(provider)
        return entry.settings.health_check.timeout if entry else 0.0

    def _turn_away(self, why: str) -> None:
        error = ShuttingDown(f"the request was still waiting for a provider: {why}")
        self._queue.turn_away(error)
        self._first_probes.turn_away(error)
