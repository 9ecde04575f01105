"""What is known of a Claude by its name."""

from __future__ import annotations

import pytest

from infermux.providers.dialects.claude import Sampling, claude


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-sonnet-20241022", 8192),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-sonnet-4@20250514", 64_000),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 64_000),
        ("claude-haiku-4-5", 64_000),
        ("anthropic/claude-opus-4.6", 128_000),
        ("claude-mythos-preview", 128_000),
        ("claude-opus-5", 128_000),
    ],
)
def test_the_most_a_model_answers_is_in_its_name(name: str, most: int) -> None:
    found = claude(name)
    assert found is not None
    assert found.max_tokens == most


@pytest.mark.parametrize("name", ["gpt-4o", "claude-2.1", "claude-instant-1.2", "my-claude", ""])
def test_other_names_say_nothing(name: str) -> None:
    assert claude(name) is None


@pytest.mark.parametrize(
    ("name", "budget", "adaptive", "json_schema", "sampling"),
    [
        ("claude-3-5-haiku-latest", False, False, False, Sampling.ALL),
        ("claude-3-7-sonnet-20250219", True, False, False, Sampling.ALL),
        ("claude-opus-4-1", True, False, False, Sampling.ONE),
        ("claude-sonnet-4-5", True, False, True, Sampling.ONE),
        ("claude-opus-4-6", True, True, True, Sampling.ONE),
        ("claude-opus-4-7", False, True, True, Sampling.NONE),
    ],
)
def test_what_a_model_takes_goes_by_its_version(
    name: str, budget: bool, adaptive: bool, json_schema: bool, sampling: Sampling
) -> None:
    found = claude(name)
    assert found is not None
    assert (found.budget, found.adaptive, found.json_schema, found.sampling) == (
        budget,
        adaptive,
        json_schema,
        sampling,
    )
