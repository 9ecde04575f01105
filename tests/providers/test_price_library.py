"""The library's prices as ours: what is looked up where, and that both come to the same sum."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TimeOfDateConstraint,
)
from genai_prices.types import Usage as TheirUsage
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.config.settings import ProviderSettings
from infermux.providers.interface import Usage
from infermux.providers.price_library import BY_TYPE, PriceLibrary, price_at
from infermux.providers.prices import cost, loaded_library
from tests._properties import examples

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def library() -> PriceLibrary:
    found = loaded_library(ProviderSettings(name="any", type="openai"))
    assert found is not None
    return found


def at(base_url: str | None = None, type: str = "openai") -> str | None:
    provider = library().provider(ProviderSettings(name="p", type=type, base_url=base_url))
    return None if provider is None else provider.id


@pytest.mark.parametrize(("kind", "name"), BY_TYPE.items())
def test_each_type_has_the_price_list_of_its_maker(kind: str, name: str) -> None:
    assert at(type=kind) == name


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://API.OpenAI.com:443/v1", "openai"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.together.xyz/v1", "together"),
        ("https://api.together.ai/v1", "together"),
        ("https://api.fireworks.ai/inference/v1", "fireworks"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.x.ai/v1", "x-ai"),
        ("https://api.moonshot.cn/v1", "moonshotai"),
        ("https://mine.openai.azure.com/openai/v1", "azure"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        ("http://127.0.0.1:8000/v1", None),
        ("https://llm.example.com/v1", None),
        ("https://api.openai.com.example.com/v1", None),
    ],
)
def test_where_a_provider_is_says_whose_prices_hold(base_url: str, name: str | None) -> None:
    assert at(base_url) == name
    assert at(base_url, type="anthropic") == name


def test_azure_and_bedrock_have_one_list_wherever_they_are() -> None:
    assert at("https://gateway.example.com", type="azure_openai") == "azure"
    assert at("https://vpce.example.com", type="bedrock") == "aws"


def test_a_type_of_a_plugin_has_a_list_only_by_its_address() -> None:
    assert at(type="mine") is None
    assert at("https://api.groq.com/openai/v1", type="mine") == "groq"


def test_a_quote_tells_where_it_comes_from() -> None:
    quote = library().quote(ProviderSettings(name="p", type="openai"), "gpt-4o", NOW)
    assert quote is not None
    assert quote.price is not None
    assert quote.source.startswith("genai-prices ")
    assert quote.listed_as == "gpt-4o"
    assert date.fromisoformat(quote.date or "") >= date(2025, 1, 1)
    assert quote.price.input_per_million > quote.price.cached_input_per_million > 0  # type: ignore[operator]


def test_a_model_the_library_does_not_list_has_no_price() -> None:
    assert library().quote(ProviderSettings(name="p", type="openai"), "gpt-of-my-own", NOW) is None
    assert library().quote(ProviderSettings(name="p", type="mine"), "gpt-4o", NOW) is None


def model(prices: Any, **given: Any) -> ModelInfo:
    return ModelInfo(id="m", match=ClauseEquals(equals="m"), prices=prices, **given)


def test_what_is_not_paid_by_tokens_has_no_price() -> None:
    dollar = Decimal(1)
    assert price_at(model(ModelPrice(audio_hours=dollar)), NOW) is None
    assert price_at(model(ModelPrice(input_mtok=dollar, output_image_mtok=dollar)), NOW) is None
    embeddings = price_at(model(ModelPrice(input_mtok=dollar)), NOW)
    assert embeddings is not None
    assert embeddings.output_per_million == 0


def listed(*prices: ConditionalPrice) -> PriceLibrary:
    provider = Provider(id="openai", name="", api_pattern="", models=[model(list(prices))])
    return PriceLibrary((provider,), "0", None)


def conditional(dollars: int, constraint: Any = None) -> ConditionalPrice:
    return ConditionalPrice(constraint, prices=ModelPrice(input_mtok=Decimal(dollars), output_mtok=Decimal(dollars)))


def told(of: PriceLibrary, moment: datetime) -> tuple[float, str | None, float]:
    quote = of.quote(ProviderSettings(name="p", type="openai"), "m", moment)
    assert quote is not None
    assert quote.price is not None
    return quote.price.input_per_million, quote.since, quote.until


def test_a_price_that_begins_on_a_day_holds_from_its_first_moment() -> None:
    of = listed(conditional(1), conditional(2, StartDateConstraint(date(2026, 12, 1))))
    first = datetime(2026, 12, 1, tzinfo=UTC)
    assert told(of, first - timedelta(seconds=1)) == (1, None, first.timestamp())
    assert told(of, first) == (2, "2026-12-01", math.inf)


def test_a_price_by_the_hour_says_when_it_ends() -> None:
    night = TimeOfDateConstraint(time(22, 0, tzinfo=UTC), time(6, 0, tzinfo=UTC))
    of = listed(conditional(4), conditional(1, night))
    assert told(of, NOW) == (4, None, NOW.replace(hour=22).timestamp())
    evening = NOW.replace(hour=22)
    assert told(of, evening) == (1, None, (NOW.replace(hour=6) + timedelta(days=1)).timestamp())


def test_an_hour_in_another_zone_is_that_moment() -> None:
    zone = timezone(timedelta(hours=8))
    of = listed(
        conditional(4), conditional(1, TimeOfDateConstraint(time(0, 30, tzinfo=zone), time(8, 30, tzinfo=zone)))
    )
    price, _, until = told(of, NOW)
    assert price == 4
    assert until == NOW.replace(hour=16, minute=30).timestamp()


ALL = [
    (provider, each) for provider in library().providers for each in provider.models if price_at(each, NOW) is not None
]


@settings(max_examples=examples(300), deadline=None)
@given(
    st.sampled_from(ALL),
    st.tuples(*[st.sampled_from([0, 1, 1000, 99_999, 100_001, 199_999, 200_000, 200_001, 500_000])] * 3),
    st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)),
    st.sampled_from(["", "batch", "flex", "priority", "default", "unheard-of"]),
)
def test_our_sum_is_the_librarys(
    which: tuple[Provider, ModelInfo], prompt: tuple[int, ...], answer: tuple[int, int], tier: str
) -> None:
    provider, each = which
    _, cached, written = prompt
    price = price_at(each, NOW)
    assert price is not None
    ours = Usage(sum(prompt), sum(answer), cached, answer[1], cache_write_tokens=written, service_tier=tier)
    theirs = TheirUsage(
        input_tokens=sum(prompt),
        output_tokens=sum(answer),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_reasoning_tokens=answer[1],
    )
    context = {"processing" if tier == "batch" else "service_tier": tier} if tier in price.service_tiers else None
    told = each.calc_price(theirs, provider, genai_request_timestamp=NOW, price_context=context)
    assert cost(price, ours) == pytest.approx(float(told.total_price), rel=1e-9, abs=1e-12)
