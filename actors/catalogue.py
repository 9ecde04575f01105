"""Who could answer a model: the pure part of routing that does not change from request to request.

Built once from the declarations. A look-up costs the same however many providers do not serve the model: names are
dictionary keys, and only the open-ended providers (those that list nothing) are walked.
"""

from __future__ import annotations

import fnmatch
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from infermux.config.settings import Config, Group, Price, ProviderSettings, Routing
from infermux.providers.interface import Endpoint, ModelInfo
from infermux.providers.prices import PriceBook

DEFAULT = ("", "auto")  # what callers name the default model
KEPT_ROUTES = 4096  # callers choose model names, so what is remembered of them is bounded


@attrs.frozen(kw_only=True)
class Entry:
    """A provider in the catalogue: what the router needs of its declaration. `index` is declaration order.

    `found` are the models that it says it has, where it is asked for that and has answered: it serves these and no
    others then, unless the declaration says which.
    """

    settings: ProviderSettings
    index: int
    endpoints: frozenset[Endpoint]
    found: tuple[ModelInfo, ...] | None = None

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def models(self) -> tuple[str, ...] | None:
        """What it serves; None: it is considered for any model."""
        if self.settings.models is not None or self.found is None:
            return self.settings.models
        return tuple(info.id for info in self.found)

    @property
    def declared(self) -> tuple[str, ...]:
        """The names it is found by, models before aliases."""
        return tuple(dict.fromkeys((*(self.models or ()), *self.settings.model_aliases)))

    def info(self, model: str) -> ModelInfo | None:
        """What the provider says of a model."""
        return next((info for info in self.found or () if info.id == model), None)


@attrs.frozen
class Candidate:
    """A provider and the name it knows the model by."""

    entry: Entry
    model: str
    price: Price | None  # None: nobody knows it
    info: ModelInfo | None = None  # None: it does not say

    @property
    def is_judged(self) -> bool:
        """Whether anything is known of the model that could stand in a request's way."""
        info = self.info
        return info is not None and (info.context_window is not None or info.images is False or info.tools is False)


Tiers = tuple[tuple[Candidate, ...], ...]


@attrs.frozen(kw_only=True)
class Route:
    """What a model name resolves to: candidates in tiers (earlier tiers first), and the group that governs them.

    `fallbacks` come after its own providers, `longer` when a prompt is too long for them.
    """

    model: str
    tiers: Tiers
    group: Group | None
    fallbacks: tuple[Route, ...] = ()
    longer: tuple[Route, ...] = ()
    longest_timeout: float = attrs.field(init=False)
    is_judged: bool = attrs.field(init=False)  # whether a request may be one that a candidate does not take
    prices: tuple[Price, ...] = attrs.field(init=False)  # of all candidates, the others' too
    unpriced: tuple[str, str] | None = attrs.field(init=False)  # provider and model of one without a price
    is_empty: bool = attrs.field(init=False)
    walk: tuple[tuple[Route, tuple[Candidate, ...]], ...] = attrs.field(init=False, repr=False, eq=False)
    """All tiers in their order, the fallbacks' too, each with the route it is of."""

    def __attrs_post_init__(self) -> None:
        judged = any(c.is_judged for tier in self.tiers for c in tier)
        others = (*self.fallbacks, *self.longer)
        object.__setattr__(self, "is_judged", judged or any(route.is_judged for route in others))
        timeouts = [c.entry.settings.first_token_timeout for tier in self.tiers for c in tier]
        timeouts += [c.entry.settings.timeout for tier in self.tiers for c in tier]
        longest = max([*timeouts, *(route.longest_timeout for route in others)], default=0.0)
        object.__setattr__(self, "longest_timeout", longest)
        asked = [c for route in (self, *others) for tier in route.tiers for c in tier]
        prices = {id(c.price): c.price for c in asked if c.price is not None}
        object.__setattr__(self, "prices", tuple(prices.values()))
        unpriced = [(c.entry.name, c.model) for c in asked if c.price is None]
        object.__setattr__(self, "unpriced", unpriced[-1] if unpriced else None)
        empty = not any(self.tiers) and all(route.is_empty for route in self.fallbacks)
        object.__setattr__(self, "is_empty", empty)
        walk = tuple((route, tier) for route in (self, *self.fallbacks) for tier in route.tiers)
        object.__setattr__(self, "walk", walk)


@attrs.define(eq=False)
class Catalogue:
    """The declared models of all providers, by name."""

    routing: Routing
    prices: PriceBook
    entries: dict[str, Entry]
    _listed: dict[str, list[Candidate]] = attrs.field(factory=dict, repr=False)
    _aliased: dict[str, list[Candidate]] = attrs.field(factory=dict, repr=False)
    _open_ended: list[Entry] = attrs.field(factory=list, repr=False)
    _groups: list[tuple[re.Pattern[str], Group]] = attrs.field(factory=list, repr=False)
    _kept: OrderedDict[tuple[str, Endpoint], Route] = attrs.field(factory=OrderedDict, repr=False)
    _told: str | None = attrs.field(default=None, repr=False)  # what is declared, as errors tell it
    is_judged: bool = False  # whether any provider says what its models do not take
    # Before the first one with models: the default model is one of theirs, if they still say which they have.
    unlisted: tuple[str, ...] = ()

    @classmethod
    def build(cls, config: Config, entries: Iterable[Entry], prices: PriceBook | None = None) -> Catalogue:
        """The catalogue of `entries`, in the order of their index. Without `prices`: those of `config`."""
        prices = prices or PriceBook.of(config)
        made = cls(config.routing, prices, {entry.name: entry for entry in sorted(entries, key=_by_index)})
        for entry in made.entries.values():
            made._add(entry)
        made.is_judged = any(entry.found for entry in made.entries.values())
        made.unlisted = () if config.routing.default_model else tuple(_unlisted(made.entries.values()))
        made._groups = [(_globs(group.models), group) for group in config.routing.groups]
        return made

    def _add(self, entry: Entry) -> None:
        settings = entry.settings
        # One candidate per name: within one provider an alias beats a listing, a name as it is written other spellings.
        declared = {**{model: model for model in entry.models or ()}, **settings.model_aliases}
        for name, target in tuple(declared.items()):
            for spelling in spellings(settings, name):
                declared.setdefault(spelling, target)
        for name, target in declared.items():
            shelf = self._listed if target in spellings(settings, name) else self._aliased
            shelf.setdefault(name, []).append(self._candidate(entry, target))
        if entry.models is None:
            self._open_ended.append(entry)

    def _candidate(self, entry: Entry, model: str) -> Candidate:
        return Candidate(entry, model, self.prices.price(entry.settings, model), entry.info(model))

    @property
    def default_model(self) -> str | None:
        """`routing.default_model`, else the first declared model or alias in file order."""
        if self.routing.default_model:
            return self.routing.default_model
        for entry in self.entries.values():
            if entry.declared:
                return entry.declared[0]
        return None

    def names(self) -> dict[str, list[Entry]]:
        """Every declared model and alias with the providers that serve it, in declaration order."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            for name in entry.declared:
                found.setdefault(name, []).append(entry)
        return found

    def resolve(self, requested: str, endpoint: Endpoint) -> Route:
        """The route of a model name; `""` and `auto` are the default model. Empty tiers: nobody serves it."""
        name = requested if requested not in DEFAULT else (self.default_model or "")
        key = (name, endpoint)
        route = self._kept.get(key)
        if route is None:
            route = self._resolve(name, endpoint)
            self._kept[key] = route
            if len(self._kept) > KEPT_ROUTES:
                self._kept.popitem(last=False)
        return route

    def without(self, endpoint: Endpoint, name: str) -> list[str]:
        """The providers that serve a model, but not at `endpoint`."""
        entries = [candidate.entry for tier in self._tiers(name) for candidate in tier]
        return list(dict.fromkeys(entry.name for entry in entries if endpoint not in entry.endpoints))

    def nobody(self, model: str, endpoint: Endpoint) -> str:
        """Why a model has no route, for whoever asked for it."""
        if not model:
            return "the request names no model and no provider declares one; name a model"
        without = self.without(endpoint, model)
        if without:
            return f"no provider of the model {model!r} has /v1{endpoint.value} ({', '.join(without)})"
        if self._told is None:  # once: callers can ask for as many unknown models as they like
            known = list(self.names())
            self._told = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        return f"no provider serves the model {model!r}; declared here: {self._told or 'none'}"

    def _resolve(self, name: str, endpoint: Endpoint) -> Route:
        own = self._own_route(name, endpoint)
        fallbacks, longer = (
            tuple(self._own_route(other, endpoint) for other in declared.get(name, ()) if other != name)
            for declared in (self.routing.fallbacks, self.routing.context_fallbacks)
        )
        return attrs.evolve(own, fallbacks=fallbacks, longer=longer)

    def _own_route(self, name: str, endpoint: Endpoint) -> Route:
        group = self._group(name)
        tiers = [_allowed(tier, group, endpoint) for tier in self._tiers(name)] if name else []
        return Route(model=name, tiers=tuple(tier for tier in tiers if tier), group=group)

    def _tiers(self, name: str) -> list[list[Candidate]]:
        listed, aliased = self._listed.get(name, []), self._aliased.get(name, [])
        if listed or aliased:
            return [*self._declared(listed, aliased), self._open(name)]
        provider, slash, rest = name.partition("/")
        if slash and rest and provider in self.entries:
            return self._within(self.entries[provider], rest)
        return [self._open(name)]

    def _declared(self, listed: list[Candidate], aliased: list[Candidate]) -> list[list[Candidate]]:
        if self.routing.aliases == "equal":
            return [sorted([*listed, *aliased], key=lambda candidate: candidate.entry.index)]
        return [listed, aliased]

    def _within(self, entry: Entry, model: str) -> list[list[Candidate]]:
        own = [c for c in (*self._aliased.get(model, ()), *self._listed.get(model, ())) if c.entry is entry]
        if not own and entry.models is None:
            own = [self._candidate(entry, model)]
        return [own[:1]]

    def _open(self, name: str) -> list[Candidate]:
        declared = {c.entry.name for c in (*self._listed.get(name, ()), *self._aliased.get(name, ()))}
        return [self._candidate(entry, name) for entry in self._open_ended if entry.name not in declared]

    def _group(self, name: str) -> Group | None:
        for pattern, group in self._groups:
            if pattern.fullmatch(name):
                return group
        return None


def _unlisted(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        if entry.declared:
            return
        if entry.settings.type == "process" and entry.found is None and not entry.settings.health_check.disabled:
            yield entry.name


def spellings(settings: ProviderSettings, model: str) -> Sequence[str]:
    """The names under which a declared model is found: Ollama's match with and without `:latest`."""
    if settings.type != "ollama":
        return (model,)
    if model.endswith(":latest"):
        return (model, model.removesuffix(":latest"))
    return (model,) if ":" in model else (model, f"{model}:latest")


def _allowed(tier: list[Candidate], group: Group | None, endpoint: Endpoint) -> tuple[Candidate, ...]:
    providers = None if group is None else group.providers
    return tuple(
        candidate
        for candidate in tier
        if endpoint in candidate.entry.endpoints and (providers is None or candidate.entry.name in providers)
    )


def _globs(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")


def _by_index(entry: Entry) -> Any:
    return entry.index
