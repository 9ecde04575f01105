"""What an answer costs: prices, where they come from, and the sum. No network, nothing on the way of a request."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from infermux.config.redact import plain
from infermux.config.settings import Config, Price, ProviderSettings

from .interface import Usage

if TYPE_CHECKING:
    from .price_library import PriceLibrary

PER_MILLION = 1_000_000
QUOTES_KEPT = 4096  # callers choose model names, so what is remembered of them is bounded

# Of a self-hosted type a request costs nothing unless `pricing` says otherwise.
SELF_HOSTED = frozenset({"ollama", "process", "simulated"})
FREE = Price()


def cost(price: Price, usage: Usage) -> float:
    """US dollars of one answer; never negative.

    Each token is paid once: of the prompt those read from a cache, then those written to one, and the rest; of the
    answer the reasoning and the rest. Numbers of a provider that do not add up are cut to what they are a part of.
    """
    if usage.service_tier:
        price = price.service_tiers.get(usage.service_tier, price)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if not (usage.cached_tokens or usage.cache_write_tokens or usage.reasoning_tokens):
        return cost_of(price, prompt, completion)
    if price.above:
        price = price_of_prompt(price, prompt)
    into, out = price.input_per_million, price.output_per_million
    dollars = prompt * into + completion * out
    if usage.cached_tokens and price.cached_input_per_million is not None:
        dollars += min(usage.cached_tokens, prompt) * (price.cached_input_per_million - into)
    if usage.cache_write_tokens and price.cache_write_per_million is not None:
        written = min(usage.cache_write_tokens, prompt - min(usage.cached_tokens, prompt))
        dollars += written * (price.cache_write_per_million - into)
    if usage.reasoning_tokens and price.reasoning_per_million is not None:
        dollars += min(usage.reasoning_tokens, completion) * (price.reasoning_per_million - out)
    # A rounding error is no credit.
    return (dollars / PER_MILLION if dollars > 0.0 else 0.0) + price.per_request


def cost_of(price: Price, prompt: int, completion: int) -> float:
    """US dollars of an answer of which nothing else is known than its tokens."""
    if price.above:
        price = price_of_prompt(price, prompt)
    return (prompt * price.input_per_million + completion * price.output_per_million) / PER_MILLION + price.per_request


def price_of_prompt(price: Price, prompt_tokens: int) -> Price:
    """The prices for a prompt of that length."""
    for step in reversed(price.above):
        if prompt_tokens > step.prompt_tokens:
            return step.price
    return price


@attrs.frozen(kw_only=True)
class Quote:
    """The price of one provider's model; None: nobody knows it, which is not 0.

    `source` says who told it: the file, "self-hosted", or the library with its version; "" where nobody did. `date` is
    of the source: when the file was last changed, the newest date in the library's data. `since` is when this price
    began, where the library knows; `until` (seconds since 1970) when another one follows, inf where none is known of.
    `listed_as` is the name the library has for the model.
    """

    price: Price | None = None
    source: str = ""
    date: str | None = None
    since: str | None = None
    until: float = math.inf
    listed_as: str | None = None


UNKNOWN = Quote()


@attrs.define(eq=False, kw_only=True)
class PriceBook:
    """Looks prices up, once per provider and model: in the configuration, then in the library if there is one here.

    `changes_at` is when the first of the prices given out is no longer the right one (seconds since 1970).
    """

    pricing: Mapping[str, Mapping[str, Price]] = attrs.field(factory=dict[str, Mapping[str, Price]])
    source: str = "the configuration"
    date: str | None = None
    library: PriceLibrary | None = None
    clock: Callable[[], float] = time.time
    changes_at: float = math.inf
    _kept: OrderedDict[tuple[str, str], Quote] = attrs.field(factory=OrderedDict[tuple[str, str], Quote], repr=False)

    @classmethod
    def of(cls, config: Config, library: PriceLibrary | None = None) -> PriceBook:
        """The prices of `config`."""
        source = config.source or "the configuration"
        return cls(pricing=config.pricing, source=source, date=_changed(config.source), library=library)

    def price(self, settings: ProviderSettings, model: str) -> Price | None:
        return self.quote(settings, model).price

    def quote(self, settings: ProviderSettings, model: str) -> Quote:
        """What is known of the price of a provider's model."""
        key = (settings.name, model)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._look_up(settings, model)
            self.changes_at = min(self.changes_at, found.until)
            if len(self._kept) > QUOTES_KEPT:
                self._kept.popitem(last=False)
        return found

    def _look_up(self, settings: ProviderSettings, model: str) -> Quote:
        declared = self.pricing.get(settings.name, {}).get(model)
        if declared is not None:
            return Quote(price=declared, source=self.source, date=self.date)
        if settings.type in SELF_HOSTED:
            return Quote(price=FREE, source="self-hosted")
        if self.library is None:
            return UNKNOWN
        return self.library.quote(settings, model, datetime.fromtimestamp(self.clock(), UTC)) or UNKNOWN


def priced(book: PriceBook, settings: ProviderSettings) -> Iterator[dict[str, Any]]:
    """The price of every model a provider declares, by its own name for it; `price` null where nobody knows it."""
    for model in dict.fromkeys((*(settings.models or ()), *settings.model_aliases.values())):
        quote = book.quote(settings, model)
        row = attrs.asdict(quote, recurse=False)
        del row["until"]
        yield {"provider": settings.name, "model": model, **row, "price": plain(quote.price)}


def unpriced(config: Config) -> list[ProviderSettings]:
    """The providers that may be asked for a model whose price `config` does not have itself."""
    found: list[ProviderSettings] = []
    for settings in config.providers:
        prices = config.pricing.get(settings.name, {})
        if settings.models is None or not prices.keys() >= {*settings.models, *settings.model_aliases.values()}:
            found.append(settings)
    return found


def _changed(path: str | None) -> str | None:
    """The day a file was last changed; None where there is no such file."""
    try:
        return None if path is None else datetime.fromtimestamp(Path(path).stat().st_mtime, UTC).date().isoformat()
    except OSError:
        return None


_library: PriceLibrary | None = None


def loaded_library(*providers: ProviderSettings) -> PriceLibrary | None:
    """The library, loaded now if one of `providers` needs it and it is not here yet. That takes a third of a second."""
    global _library  # noqa: PLW0603 - it is as large as it is constant
    if _library is None and any(settings.type not in SELF_HOSTED for settings in providers):
        from .price_library import PriceLibrary

        _library = PriceLibrary.load()
    return _library


async def library_for(*providers: ProviderSettings) -> PriceLibrary | None:
    """As `loaded_library`, loaded beside the event loop, so that whoever is being served does not wait for it."""
    if _library is None and any(settings.type not in SELF_HOSTED for settings in providers):
        return await trio.to_thread.run_sync(loaded_library, *providers)
    return _library
