"""What a request says of its candidates: its `provider` object, and a response it goes on from. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from infermux.errors import InvalidRequest, PreviousResponseNotFound
from infermux.providers.peek import Preferences

from .catalogue import Candidate, Catalogue, Route, Tiers
from .homes import Home
from .messages import Want
from .strategy import Choice

SORTS = {"price": "cost_weighted", "latency": "least_latency"}
"""How `provider.sort` names the strategies."""


def preferred_tiers(tiers: Tiers, preferences: Preferences | None) -> Tiers:
    """`sort` compares across tiers; those named in `order` go before all others, which keep their tiers."""
    if preferences is None:
        return tiers
    if preferences.sort:
        tiers = (tuple(candidate for tier in tiers for candidate in tier),)
    if preferences.order:
        named = tuple(c for tier in tiers for c in tier if c.entry.name in preferences.order)
        tiers = (named, *(tuple(c for c in tier if c.entry.name not in preferences.order) for tier in tiers))
    return tiers


def check_names(preferences: Preferences, catalogue: Catalogue) -> None:
    """Raises InvalidRequest where they name what there is not."""
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


def is_allowed(candidate: Candidate, preferences: Preferences) -> bool:
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


def preferred(ordered: list[Choice], preferences: Preferences) -> list[Choice]:
    """`order` goes before the strategy; without backups only one provider is left."""
    if preferences.order:
        rank = {name: place for place, name in enumerate(preferences.order)}
        ordered.sort(key=lambda choice: rank.get(choice.option.provider, len(rank)))
    elif not preferences.allow_fallbacks:
        first = ordered[0].option.provider if ordered else None
        ordered = [choice for choice in ordered if choice.option.provider == first]
    return ordered


def check_home(want: Want, home: Home, route: Route, catalogue: Catalogue) -> None:
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
    elif preferences is not None and not any(is_allowed(candidate, preferences) for candidate in served):
        why = f"the request's `provider` object leaves out {name}, which keeps it"
    else:
        return
    raise PreviousResponseNotFound(
        f"Previous response with id {want.previous_response!r} not found: {why}; send the whole conversation as `input`"
    )
