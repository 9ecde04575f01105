"""The router actor: turns a request into an ordered choice of providers and hands it to the first.

It reads what the providers' actors have published and never their inside. An asker sends `Advance(plan)`; the router
forwards `Acquire` to the provider's actor together with the asker's reply slot, so the answer (a lease) does not come
back through here. A provider that refuses sends the plan back for the next step.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import attrs
import trio

from infermux.config.settings import Config, Group, Routing
from infermux.errors import InvalidRequest, ModelNotFound
from infermux.providers.interface import Endpoint
from infermux.providers.peek import Preferences

from .actor import BaseActor, Context
from .catalogue import Candidate, Catalogue, Route, Tiers
from .messages import Reason, Standing
from .plan import Plan, Refusal
from .ref import Ref
from .reply import Reply
from .strategies import make_strategy
from .strategy import Choice, Option, Strategy

log = logging.getLogger("infermux.actors")

# How `provider.sort` of a request names the strategies.
SORTS = {"price": "cost_weighted", "latency": "least_latency"}
HEALTH_SLACK = 0.5  # seconds a waiting request is kept beyond the longest first probe
PER_MILLION = 1_000_000


@attrs.frozen
class Advance:
    """Take `plan` to its next candidate. Answered with a lease, or with an `InfermuxError` when nobody is left."""

    plan: Plan


@attrs.frozen
class Acquire:
    """A provider's turn: grant a lease on `choice`, or send the plan back to `router`.

    `number` counts what the router has sent to this provider: what a crash lost on the way is seen in the next one.
    """

    plan: Plan
    choice: Choice
    router: Ref[Any]
    number: int = 0


@attrs.frozen
class HealthKnown:
    """A provider's first probe has ended."""

    provider: str


@attrs.frozen
class Expire:
    """A request waited long enough for first probes."""

    plan: Plan


@attrs.frozen
class Serve:
    """The world as it is from now on: the catalogue and the providers' refs."""

    catalogue: Catalogue
    refs: Mapping[str, Ref[Any]]


@attrs.define(eq=False)
class RouterActor(BaseActor[Any]):
    """Owns the strategies' state and the requests that wait for a first health result."""

    eager: ClassVar[bool] = True

    routing: Routing
    rng: random.Random
    plugins: Mapping[str, Callable[..., Strategy]] = attrs.field(factory=dict)
    _catalogue: Catalogue | None = None
    _refs: Mapping[str, Ref[Any]] = attrs.field(factory=dict)
    _sent: dict[str, int] = attrs.field(factory=dict)
    _lives: dict[str, int] = attrs.field(factory=dict[str, int])
    _strategies: dict[tuple[str, str], Strategy] = attrs.field(factory=dict)
    _waiting: dict[int, tuple[Plan, Reply[Any]]] = attrs.field(factory=dict)
    _context: Context[Any] | None = None

    @classmethod
    def made(cls, config: Config, world: Serve, rng: random.Random, plugins: Mapping[str, Any]) -> RouterActor:
        """A router that serves `world` from the start."""
        actor = cls(config.routing, rng, plugins)
        actor._serve(world)
        return actor

    async def started(self, context: Context[Any]) -> None:
        self._context = context

    def receive(self, message: Any, reply: Reply[Any] | None) -> None:
        match message:
            case Advance(plan) if reply is not None:
                self._advance(plan, reply)
            case HealthKnown():
                self._retry_waiting()
            case Expire(plan):
                self._expire(plan)
            case Serve():
                self._serve(message)
                self._retry_waiting()
                if reply is not None:
                    reply.send(None)
            case _:
                pass

    def _serve(self, world: Serve) -> None:
        self._catalogue, self._refs = world.catalogue, world.refs
        self._sent = {name: self._sent.get(name, _standing(ref).seen) for name, ref in world.refs.items()}
        self._lives = {name: self._lives.get(name, _standing(ref).life) for name, ref in world.refs.items()}

    # One request.

    def _advance(self, plan: Plan, reply: Reply[Any]) -> None:
        now = trio.current_time()
        try:
            while True:
                while plan.position < len(plan.steps):
                    choice = plan.steps[plan.position]
                    plan.position += 1
                    if self._try(plan, choice, reply, now):
                        return
                if not self._next_tier(plan, now):
                    break
        except (InvalidRequest, ModelNotFound) as refused:
            reply.send(refused)
            return
        if plan.is_starting:
            self._park(plan, reply)
        elif not plan.refusals and not plan.tried:
            reply.send(
                ModelNotFound(f"no provider of model {plan.want.model!r} is left by the request's `provider` object")
            )
        else:
            reply.send(plan.verdict(now))

    def _try(self, plan: Plan, choice: Choice, reply: Reply[Any], now: float) -> bool:
        option = choice.option
        name = option.provider
        if (name, option.model) in plan.tried or name in plan.silent:
            return False
        ref = self._refs.get(name)
        if ref is None:
            return False
        if option.standing is not _UNREAD and now < (standing := _standing(ref)).blocked_until:
            plan.refuse(Refusal(name, standing.reason or Reason.CRASHED, standing.blocked_until))
            return False
        if not ref.alive:
            plan.refuse(Refusal(name, Reason.CRASHED))
            return False
        assert self._context is not None
        number = self._sent[name] = self._sent[name] + 1
        ref.forward(Acquire(plan, choice, self._context.ref, number), reply)
        return True

    def _next_tier(self, plan: Plan, now: float) -> bool:
        if plan.tiers is None:
            plan.route = self._route(plan)
            plan.tiers = _tiers(plan)
        found = next(plan.tiers, None)
        if found is None:
            return False
        route, tier = found
        # Those of the route that answers: a fallback model may belong to another group.
        plan.group = route.group.name if route.group else ""
        plan.strategy = self._strategy_name(route.group, plan.want.preferences)
        plan.steps = self._order(plan, route, tier, now)
        plan.position = 0
        return True

    def _route(self, plan: Plan) -> Route:
        catalogue = self._catalogue
        assert catalogue is not None
        want = plan.want
        if want.preferences is not None:
            _check_names(want.preferences, catalogue)
        route = catalogue.resolve(want.model, want.endpoint)
        if route.is_empty:
            raise ModelNotFound(_nobody(route.model, want.endpoint, catalogue), param="model")
        return route

    def _order(self, plan: Plan, route: Route, tier: tuple[Candidate, ...], now: float) -> list[Choice]:
        preferences = plan.want.preferences
        if preferences is None and len(tier) == 1:
            return [Choice(_only(tier[0]))]
        if preferences is not None:
            tier = tuple(c for c in tier if _is_allowed(c, preferences))
        options = [option for c in tier if (option := self._option(plan, c, now)) is not None]
        if len(options) < 2:
            ordered = [Choice(option) for option in options]
        else:
            ordered = self._by_strategy(options, plan, route, now)
        return _preferred(ordered, preferences) if preferences is not None else ordered

    def _by_strategy(self, options: list[Option], plan: Plan, route: Route, now: float) -> list[Choice]:
        """The strategy's order; that of declaration where it fails, or one plugin's bug would stop every request."""
        try:
            return list(self._strategy(route.group, plan.want.preferences).order(options, plan.want, now))
        except Exception:
            log.exception(
                "the strategy %s failed; providers are tried in the order of their declaration", plan.strategy
            )
            return [Choice(option) for option in sorted(options, key=_by_index)]

    def _option(self, plan: Plan, candidate: Candidate, now: float) -> Option | None:
        entry = candidate.entry
        name = entry.settings.name
        ref = self._refs.get(name)
        if ref is None:
            return None
        standing = _standing(ref)
        if now < standing.blocked_until:
            plan.refuse(Refusal(name, standing.reason or Reason.CRASHED, standing.blocked_until))
            return None
        load = standing.in_flight
        if self._sent[name] != standing.seen:
            load += self._in_transit(name, standing)
        return Option(name, candidate.model, standing, entry.index, load, entry.settings.weight, candidate.price)

    def _in_transit(self, name: str, standing: Standing) -> int:
        if self._lives.get(name) != standing.life:
            # It crashed since: what was on its way to it never arrives.
            self._lives[name] = standing.life
            self._sent[name] = standing.seen
        return max(self._sent[name] - standing.seen, 0)

    # Strategies.

    def _strategy_name(self, group: Group | None, preferences: Preferences | None) -> str:
        if preferences is not None and preferences.sort is not None:
            return SORTS[preferences.sort]
        return (group.strategy if group else None) or self.routing.strategy

    def _strategy(self, group: Group | None, preferences: Preferences | None) -> Strategy:
        name = self._strategy_name(group, preferences)
        key = (group.name if group else "", name)
        strategy = self._strategies.get(key)
        if strategy is None:
            strategy = make_strategy(name, self.routing, rng=self.rng, plugins=self.plugins)
            self._strategies[key] = strategy
        return strategy

    # Requests that wait for a first health result.

    def _park(self, plan: Plan, reply: Reply[Any]) -> None:
        assert self._context is not None
        self._waiting[id(plan)] = (plan, reply)
        self._context.hold(reply)
        if not plan.parked:
            plan.parked = True
            waits = [self._first_probe_bound(r.provider) for r in plan.refusals.values() if r.reason is Reason.STARTING]
            self._context.start_soon(self._expire_later, plan, max(waits) + HEALTH_SLACK)

    def _first_probe_bound(self, provider: str) -> float:
        assert self._catalogue is not None
        entry = self._catalogue.entries.get(provider)
        return entry.settings.health_check.timeout if entry else 0.0

    async def _expire_later(self, plan: Plan, seconds: float) -> None:
        await trio.sleep(seconds)
        assert self._context is not None
        self._context.ref.deliver(Expire(plan))

    def _retry_waiting(self) -> None:
        """A first result is known: whoever can be served now is, the others wait on for the next one."""
        waiting, self._waiting = self._waiting, {}
        for plan, reply in waiting.values():
            if not reply.done:
                plan.restart()
                self._advance(plan, reply)

    def _expire(self, plan: Plan) -> None:
        waiting = self._waiting.pop(id(plan), None)
        if waiting is not None and not waiting[1].done:
            waiting[1].send(plan.verdict(trio.current_time()))


def _only(candidate: Candidate) -> Option:
    """The option where there is nothing to order: whether it can answer is left to the provider's own gate."""
    entry = candidate.entry
    return Option(entry.settings.name, candidate.model, _UNREAD, entry.index, price=candidate.price)


def _standing(ref: Ref[Any]) -> Standing:
    status = ref.status
    return status if status is not None else _STARTING


_STARTING = Standing()
_UNREAD = Standing()


def _by_index(option: Option) -> int:
    return option.index


def _tiers(plan: Plan) -> Iterator[tuple[Route, tuple[Candidate, ...]]]:
    route = plan.route
    assert route is not None
    preferences = plan.want.preferences
    for tier in _preferred_tiers(route.tiers, preferences):
        yield route, tier
        if plan.steps and preferences is not None and not preferences.allow_fallbacks:
            return
    if preferences is not None and not preferences.allow_fallbacks:
        return
    for fallback in route.fallbacks:
        for tier in fallback.tiers:
            yield fallback, tier


def _preferred_tiers(tiers: Tiers, preferences: Preferences | None) -> Tiers:
    """`sort` compares across tiers; those named in `order` go before all others, which keep their tiers."""
    if preferences is None:
        return tiers
    if preferences.sort:
        tiers = (tuple(candidate for tier in tiers for candidate in tier),)
    if preferences.order:
        named = tuple(c for tier in tiers for c in tier if c.entry.name in preferences.order)
        tiers = (named, *(tuple(c for c in tier if c.entry.name not in preferences.order) for tier in tiers))
    return tiers


def _check_names(preferences: Preferences, catalogue: Catalogue) -> None:
    for field in ("order", "only", "ignore"):
        for name in getattr(preferences, field):
            if name not in catalogue.entries:
                raise InvalidRequest(
                    f"provider.{field} names {name!r}, which is not a provider here; there are: "
                    + ", ".join(list(catalogue.entries)[:20]),
                    param=f"provider.{field}",
                )
    if preferences.sort is not None and preferences.sort not in SORTS:
        raise InvalidRequest(f"provider.sort is one of {', '.join(SORTS)}", param="provider.sort")


def _is_allowed(candidate: Candidate, preferences: Preferences) -> bool:
    name = candidate.entry.name
    if preferences.only and name not in preferences.only:
        return False
    if name in preferences.ignore:
        return False
    if preferences.order and not preferences.allow_fallbacks and name not in preferences.order:
        return False
    return preferences.max_price is None or _is_affordable(candidate, preferences.max_price)


def _is_affordable(candidate: Candidate, bounds: Mapping[str, float]) -> bool:
    """`max_price` is in dollars per million tokens; an unknown price cannot be shown to be below a bound."""
    price = candidate.price
    if price is None:
        return False
    return price.input_per_million <= bounds.get("prompt", math.inf) and price.output_per_million <= bounds.get(
        "completion", math.inf
    )


def _preferred(ordered: list[Choice], preferences: Preferences) -> list[Choice]:
    """`order` goes before the strategy; without backups only one provider is left."""
    if preferences.order:
        rank = {name: place for place, name in enumerate(preferences.order)}
        ordered.sort(key=lambda choice: rank.get(choice.option.provider, len(rank)))
    elif not preferences.allow_fallbacks:
        first = ordered[0].option.provider if ordered else None
        ordered = [choice for choice in ordered if choice.option.provider == first]
    return ordered


def _nobody(model: str, endpoint: Endpoint, catalogue: Catalogue) -> str:
    if not model:
        return "the request names no model and no provider declares one; name a model"
    without = catalogue.without(endpoint, model)
    if without:
        return f"no provider of the model {model!r} has /v1{endpoint.value} ({', '.join(without)})"
    known = list(catalogue.names())
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"no provider serves the model {model!r}; declared here: {shown or 'none'}"
