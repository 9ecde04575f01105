"""What requests cost and what may be spent: the sections pricing and budgets."""

from __future__ import annotations

from typing import Any

from . import settings
from .kinds import ListOf, MapOf, one_of
from .scalars import COUNT, DOLLARS, SWITCH, TAG, TEXT
from .section import Key, Section, keys_of
from .values import name


def _price(*, above: tuple[settings.PriceStep, ...] = (), **given: Any) -> settings.Price:
    return settings.Price(above=tuple(sorted(above, key=lambda step: step.prompt_tokens)), **given)


def _step(*, prompt_tokens: int, **rates: Any) -> settings.PriceStep:
    return settings.PriceStep(prompt_tokens=prompt_tokens, price=settings.Price(**rates))


_RATES = keys_of(
    settings.Price,
    ("input_per_million", DOLLARS, "US dollars per million prompt tokens."),
    ("output_per_million", DOLLARS, "US dollars per million answer tokens."),
    (
        "cached_input_per_million",
        DOLLARS.or_null(),
        "Of prompt tokens read from the provider's cache; null: as input.",
    ),
    (
        "cache_write_per_million",
        DOLLARS.or_null(),
        "Of prompt tokens written to the provider's cache; null: as input.",
    ),
    ("reasoning_per_million", DOLLARS.or_null(), "Of answer tokens that are reasoning; null: as output."),
    ("per_request", DOLLARS, "US dollars for each answer, whatever its length."),
)
_STEP = Section(
    make=_step,
    keys=(Key(name="prompt_tokens", kind=COUNT, doc="Prompts longer than this.", default=1, required=True), *_RATES),
)
_PRICE = Section(
    make=_price,
    keys=(
        *_RATES,
        Key(
            name="above",
            kind=ListOf(item=_STEP, what="a list of prices for longer prompts"),
            doc="Prices of requests with longer prompts, for all of their tokens.",
            default=(),
        ),
        Key(
            name="service_tiers",
            kind=MapOf(
                value=Section(keys=_RATES, make=settings.Price), what="a mapping of the provider's tiers to prices"
            ),
            doc="Prices where the answer names such a tier (`batch`, `flex`, `priority`).",
            default={},
        ),
    ),
)
PRICING = MapOf(
    value=MapOf(value=_PRICE, what="a mapping of models to prices"),
    what="a mapping of provider names to prices",
    key=name,
    key_what="a provider's name",
)

BUDGET = Section(
    make=settings.Budget,
    what="a budget: a mapping with limit_usd and period",
    keys=(
        *keys_of(
            settings.Budget,
            ("caller", TEXT.or_null(), 'Of one caller by its name; "*": of each that no other budget names.'),
            ("key", TEXT.or_null(), 'Of one key by its id; "*" as above.'),
            ("tag", TAG.or_null(), 'Of requests with that tag: "NAME=VALUE"; "NAME=*": of each value.'),
            ("group", TEXT.or_null(), 'Of one route group; "*" as above.'),
        ),
        Key(name="limit_usd", kind=DOLLARS, doc="US dollars per period.", default=0.0, required=True),
        Key(
            name="period",
            kind=one_of(("day", "week", "month")),
            doc="When it begins anew: at midnight, on Monday, on the first; UTC.",
            default="month",
            required=True,
        ),
        *keys_of(
            settings.Budget,
            ("hard", SWITCH, "Refuse what does not fit (429), or only say so in `X-Infermux-Budget` and the log."),
            (
                "unpriced",
                one_of(("allow", "refuse")),
                "Of a hard one: models whose price nobody knows count as 0, or are refused.",
            ),
        ),
    ),
)
