"""The prices of `genai-prices`, as this router's own: its bundled data, no network.

The library is data more than code: which model a name means, and what that costs at a time. The sum is ours (`cost`),
and a test holds the two against each other over all of its models. Importing it takes a third of a second: only
`prices.loaded_library` does it. Shapes: `genai_prices.types`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from infermux.config.settings import Price, PriceStep, ProviderSettings

from .prices import Quote

# What each provider is called there. Those with another `base_url` than the type's own are found by it.
BY_TYPE: Final = {"openai": "openai", "anthropic": "anthropic", "azure_openai": "azure", "bedrock": "aws"}
WHEREVER: Final = frozenset({"azure_openai", "bedrock"})  # these have no address in common, and one price list
BY_HOST: Final = {"api.together.ai": "together", "api.fireworks.ai": "fireworks"}

_KINDS: Final = {
    "input_per_million": "input_mtok",
    "output_per_million": "output_mtok",
    "cached_input_per_million": "cache_read_mtok",
    "cache_write_per_million": "cache_write_mtok",
    "reasoning_per_million": "output_reasoning_mtok",
}
_DAY: Final = timedelta(days=1)


@attrs.frozen
class PriceLibrary:
    """The library's data. `date`: the newest day on which a price in it begins, as of when it was loaded."""

    providers: tuple[Provider, ...] = attrs.field(repr=False)  # a megabyte
    version: str
    date: str | None

    @classmethod
    def load(cls) -> PriceLibrary:
        """From the package as it is installed."""
        providers = tuple(get_snapshot().providers)
        today = datetime.now(UTC).date()
        days = [day for provider in providers for model in provider.models for day in _days(model) if day <= today]
        return cls(providers, genai_prices.__version__, max(days).isoformat() if days else None)

    @property
    def source(self) -> str:
        return f"genai-prices {self.version}"

    def quote(self, settings: ProviderSettings, model: str, at: datetime) -> Quote | None:
        """The price of a provider's model at a time (with a zone); None where the library has none by tokens."""
        provider = self.provider(settings)
        if provider is None:
            return None
        found = provider.find_model(model.lower(), all_providers=list(self.providers))
        price = None if found is None else price_at(found, at, own=any(found is each for each in provider.models))
        if found is None or price is None:
            return None
        since = _since(found, at)
        return Quote(
            price=price,
            source=self.source,
            date=self.date,
            since=None if since is None else since.isoformat(),
            until=min((moment.timestamp() for moment in _changes(found, at)), default=float("inf")),
            listed_as=found.id,
        )

    def provider(self, settings: ProviderSettings) -> Provider | None:
        """Whose price list holds for a provider: by its type, or by where it is."""
        if settings.base_url is None or settings.type in WHEREVER:
            return self._named(BY_TYPE.get(settings.type))
        parts = urlsplit(settings.base_url)
        host = (parts.hostname or "").lower()
        if host in BY_HOST:
            return self._named(BY_HOST[host])
        address = f"{parts.scheme}://{host}{parts.path}/"
        return next((each for each in self.providers if _is_at(each.api_pattern, address)), None)

    def _named(self, name: str | None) -> Provider | None:
        return next((each for each in self.providers if each.id == name), None)


def _is_at(pattern: str, address: str) -> bool:
    """Whether `address` is the pattern's: its host whole, not as the beginning of another one's name."""
    found = re.match(pattern, address)
    if found is None:
        return False
    rest = address[found.end() :]
    return pattern.endswith(".") or found.group().endswith("/") or rest.startswith("/")


def price_at(model: ModelInfo, at: datetime, *, own: bool = True) -> Price | None:
    """The library's price as ours; None where it is not by tokens. `own`: the price list is of the model's maker.

    Processing in a batch and tiers of service are prices of their own, which only hold on the maker's list, as in
    `ModelInfo.calc_price`. Tokens of pictures, sound and video are priced as text: providers do not tell them apart in
    what we read of their usage.
    """
    price = _price(model.get_prices(at))
    if price is None or not own:
        return price
    tiers: dict[str, Price] = {}
    for variant in model.price_variants or ():
        for key in ("processing", "service_tier"):
            name = variant.when.get(key)
            if name is not None and len(variant.when) == 1 and name not in tiers:
                other = _price(model.get_prices(at, {key: name}))
                if other is not None and other != price:
                    tiers[name] = other
    return attrs.evolve(price, service_tiers=tiers)


def _price(rates: ModelPrice) -> Price | None:
    given: Mapping[str, Any] = {key: value for key, value in rates.__dict__.items() if value is not None}
    if "input_mtok" not in given or ("output_mtok" not in given and any(key.startswith("output_") for key in given)):
        return None
    starts = sorted({tier.start for value in given.values() if isinstance(value, TieredPrices) for tier in value.tiers})
    steps = [PriceStep(prompt_tokens=start, price=_flat(given, start + 1)) for start in starts]
    return attrs.evolve(_flat(given, 0), above=tuple(steps))


def _flat(given: Mapping[str, Any], prompt_tokens: int) -> Price:
    """What holds for a prompt of that length; a tier begins above its start (`genai_prices.types.calc_unit_price`)."""
    rates: dict[str, Any] = {kind: _rate(given[key], prompt_tokens) for kind, key in _KINDS.items() if key in given}
    if "requests_kcount" in given:
        rates["per_request"] = _rate(given["requests_kcount"], prompt_tokens) / 1000
    return Price(**rates)


def _rate(value: Any, prompt_tokens: int) -> float:
    if isinstance(value, TieredPrices):
        reached = [tier.price for tier in value.tiers if prompt_tokens > tier.start]
        value = reached[-1] if reached else value.base
    return float(value)


# When.


def _conditions(model: ModelInfo) -> Iterator[StartDateConstraint | TimeOfDateConstraint]:
    prices = () if isinstance(model.prices, ModelPrice) else model.prices
    for each in (*prices, *(model.price_variants or ())):
        if each.constraint is not None:
            yield each.constraint


def _days(model: ModelInfo) -> Iterable[date]:
    return (each.start_date for each in _conditions(model) if isinstance(each, StartDateConstraint))


def _since(model: ModelInfo, at: datetime) -> date | None:
    """When the price of that time began, as far as the library tells."""
    if isinstance(model.prices, ModelPrice):
        return None
    days = [each.constraint.start_date for each in model.prices if isinstance(each.constraint, StartDateConstraint)]
    return max((day for day in days if day <= at.date()), default=None)


def _changes(model: ModelInfo, at: datetime) -> Iterator[datetime]:
    """The moments after `at` at which another price may begin."""
    for each in _conditions(model):
        if isinstance(each, StartDateConstraint):
            start = datetime.combine(each.start_date, time(), UTC)
            if start > at:
                yield start
        else:
            for clock in (each.start_time, each.end_time):
                moment = datetime.combine(at.date(), clock, clock.tzinfo or UTC).astimezone(UTC)
                yield min(day for day in (moment - _DAY, moment, moment + _DAY, moment + 2 * _DAY) if day > at)
