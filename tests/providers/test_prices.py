"""What an answer costs, and who says so."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.config.settings import Config, Price, PriceStep, ProviderSettings
from infermux.providers.interface import Usage
from infermux.providers.prices import FREE, QUOTES_KEPT, UNKNOWN, PriceBook, Quote, cost, price_of_prompt, unpriced
from tests._properties import examples

FULL = Price(
    input_per_million=3.0,
    output_per_million=15.0,
    cached_input_per_million=0.3,
    cache_write_per_million=3.75,
    reasoning_per_million=20.0,
)
HOSTED = ProviderSettings(name="a", type="openai")
LOCAL = ProviderSettings(name="local", type="ollama")

RATE = st.floats(0, 200)
TOKENS = st.integers(0, 2_000_000)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    part = st.none() | RATE
    return Price(
        input_per_million=draw(RATE),
        output_per_million=draw(RATE),
        cached_input_per_million=draw(part),
        cache_write_per_million=draw(part),
        reasoning_per_million=draw(part),
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, plain, reasoning, text = (draw(TOKENS) for _ in range(5))
    return Usage(
        prompt_tokens=cached + written + plain,
        completion_tokens=reasoning + text,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )


def together(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
    )


# The sum


def test_prompt_and_answer_are_paid_by_the_million() -> None:
    price = Price(input_per_million=2.5, output_per_million=10.0)
    assert cost(price, Usage(prompt_tokens=1000, completion_tokens=500)) == pytest.approx(0.0075)


def test_each_token_is_paid_once_at_the_price_of_its_kind() -> None:
    usage = Usage(
        prompt_tokens=1_000_000,
        completion_tokens=1_000_000,
        cached_tokens=600_000,
        cache_write_tokens=300_000,
        reasoning_tokens=200_000,
    )
    parts = 0.6 * 0.3 + 0.3 * 3.75 + 0.1 * 3.0 + 0.2 * 20.0 + 0.8 * 15.0
    assert cost(FULL, usage) == pytest.approx(parts)


def test_a_kind_without_a_price_of_its_own_costs_what_it_is_a_part_of() -> None:
    plain = Price(input_per_million=3.0, output_per_million=15.0)
    usage = Usage(100, 100, cached_tokens=50, cache_write_tokens=20, reasoning_tokens=70)
    assert cost(plain, usage) == cost(plain, Usage(100, 100))


def test_what_is_paid_by_the_request_is_added() -> None:
    assert cost(Price(per_request=0.005), Usage(10, 10)) == 0.005


def test_a_longer_prompt_has_its_price_for_all_of_its_tokens() -> None:
    step = PriceStep(prompt_tokens=200_000, price=Price(input_per_million=6.0, output_per_million=22.5))
    price = Price(input_per_million=3.0, output_per_million=15.0, above=(step,))
    assert cost(price, Usage(200_000, 1000)) == pytest.approx(0.615)
    assert cost(price, Usage(200_001, 1000)) == pytest.approx(1.222506)


def test_of_several_steps_the_highest_that_was_exceeded_counts() -> None:
    steps = tuple(PriceStep(prompt_tokens=n, price=Price(input_per_million=n)) for n in (10, 20))
    price = Price(input_per_million=1, above=steps)
    assert [price_of_prompt(price, n).input_per_million for n in (10, 11, 20, 21)] == [1, 10, 10, 20]


def test_a_tier_of_service_has_its_own_price() -> None:
    price = Price(input_per_million=2.0, service_tiers={"flex": Price(input_per_million=1.0)})
    dollars = [cost(price, Usage(1_000_000, service_tier=tier)) for tier in ("", "default", "flex")]
    assert dollars == [2.0, 2.0, 1.0]


@settings(max_examples=examples(100), deadline=None)
@given(prices(), usages(), usages())
def test_the_cost_of_two_answers_is_the_sum_of_theirs(price: Price, one: Usage, other: Usage) -> None:
    both = cost(price, together(one, other))
    assert both == pytest.approx(cost(price, one) + cost(price, other), rel=1e-9, abs=1e-9)


@settings(max_examples=examples(100), deadline=None)
@given(prices(), st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, st.booleans(), TOKENS))
def test_no_numbers_of_a_provider_make_a_cost_negative_or_dearer_than_the_dearest_kind(
    price: Price, usage: Usage
) -> None:
    into = max(price.input_per_million, price.cached_input_per_million or 0, price.cache_write_per_million or 0)
    out = max(price.output_per_million, price.reasoning_per_million or 0)
    dollars = cost(price, usage)
    assert 0 <= dollars <= (usage.prompt_tokens * into + usage.completion_tokens * out) / 1e6 * (1 + 1e-9) + 1e-9


# Who says so


class Counted:
    """A library that counts how often it is asked."""

    def __init__(self, **given: Any) -> None:
        self.answer = Quote(price=Price(input_per_million=7.0), source="library", **given)
        self.asked = 0

    def quote(self, provider: ProviderSettings, model: str, at: object) -> Quote | None:
        self.asked += 1
        return self.answer if model == "known" else None


def book(library: Any = None, **pricing: Any) -> PriceBook:
    return PriceBook(pricing=pricing, source="infermux.yml", library=library)


def test_the_file_goes_before_the_library() -> None:
    own = Price(input_per_million=1.0)
    found = book(Counted(), a={"known": own})
    assert found.quote(HOSTED, "known").price == own
    assert found.quote(HOSTED, "known").source == "infermux.yml"


def test_what_the_file_does_not_say_the_library_does() -> None:
    assert book(Counted()).quote(HOSTED, "known").source == "library"


def test_a_price_nobody_knows_is_not_zero() -> None:
    assert book(Counted()).quote(HOSTED, "unheard-of") == UNKNOWN
    assert book().price(HOSTED, "known") is None


def test_what_is_self_hosted_costs_nothing_unless_priced() -> None:
    assert book(Counted()).quote(LOCAL, "known") == Quote(price=FREE, source="self-hosted")
    dear = Price(input_per_million=1.0)
    assert book(local={"known": dear}).price(LOCAL, "known") == dear


def test_a_price_is_looked_up_once() -> None:
    library = Counted()
    found = book(library)
    assert [found.price(HOSTED, name) is None for name in ("known", "known", "no", "no")] == [False, False, True, True]
    assert library.asked == 2


def test_what_is_remembered_of_callers_names_is_bounded() -> None:
    library = Counted()
    found = book(library)
    for number in range(QUOTES_KEPT + 1):
        found.price(HOSTED, f"m{number}")
    found.price(HOSTED, "m0")
    assert library.asked == QUOTES_KEPT + 2


def test_a_book_knows_when_one_of_its_prices_changes() -> None:
    found = book(Counted(until=1000.0))
    assert found.changes_at == math.inf
    found.price(HOSTED, "known")
    assert found.changes_at == 1000.0


def test_the_date_of_the_files_prices_is_when_it_was_last_changed(tmp_path: Path) -> None:
    file = tmp_path / "infermux.yml"
    file.write_text("")
    os.utime(file, (86_400, 86_400))
    config = Config(pricing={"a": {"m": FREE}}, source=str(file))
    quote = PriceBook.of(config).quote(HOSTED, "m")
    assert (quote.source, quote.date) == (str(file), "1970-01-02")


def test_a_text_that_is_no_file_has_no_date() -> None:
    assert PriceBook.of(Config(pricing={"a": {"m": FREE}}, source="demo")).quote(HOSTED, "m").date is None


@pytest.mark.slow
def test_only_who_may_be_asked_for_a_model_without_a_price_in_the_file_needs_the_library() -> None:
    dollar = Price(input_per_million=1.0)
    whole = ProviderSettings(name="whole", type="openai", models=("m",), model_aliases={"smart": "n"})
    partly = attrs.evolve(whole, name="partly")
    open_ended = attrs.evolve(whole, name="open", models=None)
    pricing = {"whole": {"m": dollar, "n": dollar}, "partly": {"m": dollar}, "open": {"m": dollar, "n": dollar}}
    config = Config(providers=(whole, partly, open_ended), pricing=pricing)
    assert unpriced(config) == [partly, open_ended]


def test_the_library_is_not_imported_before_a_hosted_provider_needs_it() -> None:
    program = (
        "import sys, infermux.serving, infermux.http.application\n"
        "from infermux.config.settings import ProviderSettings as P\n"
        "from infermux.providers.prices import loaded_library\n"
        "assert loaded_library(P(name='a', type='ollama')) is None\n"
        "assert 'genai_prices' not in sys.modules\n"
        "assert loaded_library(P(name='a', type='openai')) is not None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
