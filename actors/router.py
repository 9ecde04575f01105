"""The router actor: turns a request into an ordered choice of providers and hands it to the first.

It reads what the providers' actors have published and never their inside. An asker sends `Advance(plan)`; the router
forwards `Acquire` to the provider's actor together with the asker's reply slot, so the answer (a lease) does not come
back through here. A provider that refuses sends the plan back for the next step.
"""

from __future__ import annotations

import enum
import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import attrs
import trio

from infermux.config.settings import Config, Group, Queue, Retry, Routing
from infermux.errors import InvalidRequest, ModelNotFound, PreviousResponseNotFound, RateLimited, ShuttingDown
from infermux.providers.interface import Endpoint
from infermux.providers.peek import Preferences

from .actor import BaseActor, Context
from .budget import Budget
from .catalogue import Candidate, Catalogue, Route, Tiers
from .homes import Home
from .messages import Reason, Standing, Want
from .plan import Plan, Refusal
from .queue import SHORTEST_WAIT, Waiter, WaitingRoom, is_curable
from .ref import Ref
from .reply import Reply
from .strategies import make_strategy
from .strategy import Choice, Option, Strategy

log = logging.getLogger("infermux.actors")

# How `provider.sort` of a request names the strategies.
SORTS = {"price": "cost_weighted", "latency": "least_latency"}
HEALTH_SLACK = 0.5  # seconds a waiting request is kept beyond the longest first probe
LOOK_EVERY = 1.0  # seconds after which the queue is looked at again whatever was told
_FULL = "as many requests wait for a provider as may (queue.max_size is {}); try again later"
_TOO_LONG = "no provider can take the request within the {:.3g} s it may wait, probably in {:.3g} s ({})"
PER_MILLION = 1_000_000


@attrs.frozen
class Advance:
    """Take `plan` to its next candidate. Answered with a lease, or with an `InfermuxError` when nobody is left."""

    plan: Plan


@attrs.frozen
class Again:
    """Ask the provider of `plan.last` once more, then the next candidates. Answered as `Advance`."""

    plan: Plan


@attrs.frozen
class Longer:
    """The prompt was too long: go on with the models declared for that. Answered as `Advance`, None: there are none."""

    plan: Plan


class Stay(enum.Enum):
    """The answer to `Advance` where `plan.staying`: another model, or nobody, would be next, and a retry is allowed."""

    HERE = "here"


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
class Wanted:
    """Told to a provider's actor: requests wait for it. It tells `router` once, when it next may take one."""

    router: Ref[Any]


@attrs.frozen
class Freed:
    """A provider that is wanted has let a request go, or is routable again."""

    provider: str


@attrs.frozen
class LookAtQueue:
    """A limit that somebody waits for has freed, or somebody has waited long enough."""


@attrs.frozen
class TurnAway:
    """Whoever waits is told `why`; nobody waits from then on."""

    why: str


@attrs.frozen
class Serve:
    """The world as it is from now on: the catalogue, the providers' refs, and the configuration where it is another."""

    catalogue: Catalogue
    refs: Mapping[str, Ref[Any]]
    config: Config | None = None


@attrs.define(eq=False)
class RouterActor(BaseActor[Any]):
    """Owns the strategies' state, the budget of retries and the requests that wait for a first health result."""

    eager: ClassVar[bool] = True

    routing: Routing
    retry: Retry
    queue: Queue
    rng: random.Random
    plugins: Mapping[str, Callable[..., Strategy]] = attrs.field(factory=dict)
    _catalogue: Catalogue | None = None
    _refs: Mapping[str, Ref[Any]] = attrs.field(factory=dict)
    _sent: dict[str, int] = attrs.field(factory=dict)
    _lives: dict[str, int] = attrs.field(factory=dict[str, int])
    _strategies: dict[tuple[str, str], Strategy] = attrs.field(factory=dict)
    _waiting: dict[int, tuple[Plan, Reply[Any]]] = attrs.field(factory=dict)
    _context: Context[Any] | None = None
    _budget: Budget = attrs.field(init=False)
    _room: WaitingRoom = attrs.field(init=False)
    _wanted: set[str] = attrs.field(factory=set[str])
    _due: float = math.inf  # when the queue is looked at next
    _ended: str | None = None  # why nobody waits any more

    def __attrs_post_init__(self) -> None:
        self._room = WaitingRoom(self.queue.max_wait, self.queue.max_size)
        self._budget = Budget(self.retry.budget_ratio, self.retry.budget_min_per_second)

    @classmethod
    def made(cls, config: Config, world: Serve, rng: random.Random, plugins: Mapping[str, Any]) -> RouterActor:
        """A router that serves `world` from the start."""
        actor = cls(config.routing, config.retry, config.queue, rng, plugins)
        actor._serve(world)
        return actor

    async def started(self, context: Context[Any]) -> None:
        self._context = context

    def receive(self, message: Any, reply: Reply[Any] | None) -> None:
        match message:
            case Advance(plan) if reply is not None:
                self._advance(plan, reply)
            case Again(plan) if reply is not None:
                self._again(plan, reply)
            case Longer(plan) if reply is not None:
                self._longer(plan, reply)
            case HealthKnown():
                self._retry_waiting()
            case Expire(plan):
                self._expire(plan)
            case Freed(provider):
                self._wanted.discard(provider)
                self._serve_queue()
            case LookAtQueue():
                self._due = math.inf
                self._serve_queue()
            case TurnAway(why):
                self._turn_away(why)
            case Serve():
                self._serve(message)
                self._retry_waiting()
                self._serve_queue()
                if reply is not None:
                    reply.send(None)
            case _:
                pass

    def _serve(self, world: Serve) -> None:
        if world.config is not None:
            self._adopt(world.config)
        self._catalogue, self._refs = world.catalogue, world.refs
        self._sent = {name: self._sent.get(name, _standing(ref).seen) for name, ref in world.refs.items()}
        self._lives = {name: self._lives.get(name, _standing(ref).life) for name, ref in world.refs.items()}

    def _adopt(self, config: Config) -> None:
        """Strategies keep their state where nothing has changed that they were made from, which plugins' may be all."""
        old, new = self.routing, config.routing
        self._strategies = {
            key: strategy
            for key, strategy in self._strategies.items()
            if old == new or (key[1] not in self.plugins and _is_kept(key[0], old, new))
        }
        self.routing, self.retry = new, config.retry
        self.queue = config.queue
        self._room.max_wait, self._room.max_size = config.queue.max_wait, config.queue.max_size
        self._budget.ratio, self._budget.per_second = self.retry.budget_ratio, self.retry.budget_min_per_second

    # One request.

    def _advance(self, plan: Plan, reply: Reply[Any]) -> None:
        now = trio.current_time()
        try:
            while True:
                while plan.position < len(plan.steps):
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
            self._park(plan, reply)
        elif not plan.refusals and not plan.tried:
            reply.send(
                ModelNotFound(f"no provider of model {plan.want.model!r} is left by the request's `provider` object")
            )
        elif not self._waits(plan, reply, now):
            reply.send(plan.verdict(now))

    def _try(self, plan: Plan, choice: Choice, reply: Reply[Any], now: float) -> bool:
        option = choice.option
        name = option.provider
        if (name, option.model) in plan.tried or name in plan.silent:
            return False
        ref = self._refs.get(name)
        if ref is None:
            return False
        if self._room and plan not in self._room and self._room.is_claimed(name, plan.want.priority):
            plan.refuse(Refusal(name, Reason.CLAIMED))
            return False
        standing = None if option.standing is _UNREAD else _standing(ref)
        if standing is not None and now < standing.blocked_until and not plan.disregards(standing):
            plan.refuse(Refusal(name, standing.reason or Reason.CRASHED, standing.blocked_until), choice)
            return False
        if not ref.alive:
            plan.refuse(Refusal(name, Reason.CRASHED))
            return False
        assert self._context is not None
        number = self._sent[name] = self._sent[name] + 1
        plan.last = choice
        ref.forward(Acquire(plan, choice, self._context.ref, number), reply)
        return True

    # The same provider once more, and prompts that are too long.

    def _is_other(self, choice: Choice, plan: Plan, now: float) -> bool:
        """Whether `choice` could answer, but with another model than the one the request would stay with."""
        option, here = choice.option, plan.staying
        if here is None or option.model == here.option.model or not self.retry.stay_when_model_changes:
            return False
        if (option.provider, option.model) in plan.tried or option.provider in plan.silent:
            return False
        ref = self._refs.get(option.provider)
        return ref is not None and ref.alive and now >= _standing(ref).blocked_until

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
        plan.steps, plan.position = [], 0
        alone = plan.want.preferences is not None and not plan.want.preferences.allow_fallbacks
        if alone or not any(longer.tiers for longer in routes):
            reply.send(None)
            return
        self._advance(plan, reply)

    def _next_tier(self, plan: Plan, now: float) -> bool:
        if plan.tiers is None:
            if not plan.parked and plan.beside is None and plan not in self._room:
                self._budget.note_request(now)
            plan.route, plan.catalogue = self._route(plan), self._catalogue
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
        if want.home is not None:
            _check_home(want, want.home, route, catalogue)
        return route

    def _order(self, plan: Plan, route: Route, tier: tuple[Candidate, ...], now: float) -> list[Choice]:
        preferences, home = plan.want.preferences, plan.want.home
        if home is not None:
            tier = tuple(c for c in tier if c.entry.name == home.provider)
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
            held = Choice(_only(candidate)) if standing.reason is Reason.SLOW_START else None
            plan.refuse(Refusal(name, standing.reason or Reason.CRASHED, standing.blocked_until), held)
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

    # Requests that wait for a provider to become routable.

    def _waits(self, plan: Plan, reply: Reply[Any], now: float) -> bool:
        """Whether a request that nobody took stays in the queue, or comes into it."""
        room = self._room
        if plan in room:
            waiter = room.look(plan)
            if now < waiter.deadline and waiter.providers:
                self._want(waiter, now)
                return True
            room.remove(plan)
            return False
        if not room.max_wait or self._ended is not None or plan.beside is not None or not is_curable(plan):
            return False
        if room.is_full:
            reply.send(RateLimited(_FULL.format(room.max_size), retry_after=max(room.pace, SHORTEST_WAIT)))
            return True
        waiter = room.add(plan, reply, now)
        wait = room.wait(waiter, now)
        if now + wait > waiter.deadline:
            room.remove(plan)
            reply.send(RateLimited(_TOO_LONG.format(waiter.deadline - now, wait, plan.said), retry_after=wait))
            return True
        assert self._context is not None
        self._context.hold(reply)
        self._want(waiter, now)
        return True

    def _want(self, waiter: Waiter, now: float) -> None:
        """Be told when those it waits for free, and look again when time alone frees one."""
        assert self._context is not None
        if math.isinf(waiter.free_at):
            for name in waiter.providers:
                ref = self._refs.get(name)
                if ref is not None and name not in self._wanted:
                    self._wanted.add(name)
                    ref.deliver(Wanted(self._context.ref))
        due = min(waiter.deadline, max(waiter.free_at, now), now + LOOK_EVERY)
        if due < self._due:
            self._due = due
            self._context.start_soon(self._look_later, due)

    async def _look_later(self, due: float) -> None:
        await trio.sleep_until(due)
        assert self._context is not None
        if due == self._due:  # an earlier look has taken its place otherwise
            self._context.ref.deliver(LookAtQueue())

    def _serve_queue(self) -> None:
        """Whoever can be served now is, the best class and the earliest deadline first."""
        now, room = trio.current_time(), self._room
        room.sweep(now)
        taken: set[str] = set()
        for waiter in room.in_order():
            plan, reply = waiter.plan, waiter.reply
            if now >= waiter.deadline:
                room.remove(plan)
                reply.send(plan.verdict(now))
            elif taken.issuperset(waiter.providers) or not self._may_serve(waiter, now):
                self._want(waiter, now)
            else:
                plan.restart()
                self._advance(plan, reply)
                if reply.done:
                    room.remove(plan, now)
                else:
                    taken.update(waiter.providers)

    def _may_serve(self, waiter: Waiter, now: float) -> bool:
        """Whether some provider of its is routable now, as far as is published."""
        refs = (self._refs.get(name) for name in waiter.providers)
        return any(ref is None or now >= _standing(ref).blocked_until for ref in refs)

    def _turn_away(self, why: str) -> None:
        self._ended = why
        error = ShuttingDown(f"the request was still waiting for a provider: {why}")
        for waiter in self._room.in_order():
            self._room.remove(waiter.plan)
            waiter.reply.send(error)
        waiting, self._waiting = self._waiting, {}
        for _, reply in waiting.values():
            reply.send(error)

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


def _is_kept(group: str, old: Routing, new: Routing) -> bool:
    """Whether our own strategies of a group ("": of what is in none) are made as before."""
    here, there = ({each.name: each for each in routing.groups}.get(group) for routing in (old, new))
    return here == there and (not group or here is not None) and old.least_latency == new.least_latency


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
    if plan.beside is not None:
        yield route, tuple(c for tier in route.tiers for c in tier if c.model == plan.beside)
        return
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


def _check_home(want: Want, home: Home, route: Route, catalogue: Catalogue) -> None:
    """Raises PreviousResponseNotFound where whoever keeps the response before can never be asked, and says why.

    The message begins as OpenAI's does.
    """
    name = home.provider
    routes = (route, *route.fallbacks)
    served = [c for each in routes for tier in each.tiers for c in tier if c.entry.name == name]
    preferences = want.preferences
    if name not in catalogue.entries:
        why = f"the provider that keeps it, {name}, is no longer here"
    elif not served:
        why = f"the provider that keeps it, {name}, does not serve the model {route.model!r}"
    elif preferences is not None and not any(_is_allowed(candidate, preferences) for candidate in served):
        why = f"the request's `provider` object leaves out {name}, which keeps it"
    else:
        return
    raise PreviousResponseNotFound(
        f"Previous response with id {want.previous_response!r} not found: {why}; send the whole conversation as `input`"
    )


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
