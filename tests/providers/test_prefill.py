"""Which models go on with the beginning of an answer."""

from __future__ import annotations

import pytest

from infermux.config.settings import ProviderSettings
from infermux.providers.interface import takes_prefill
from infermux.providers.registry import make_adapter
from infermux.providers.unavailable import Unavailable
from infermux.secret import Secret

CASES = [
    ("anthropic", "claude-sonnet-4-5-20250929", True),
    ("anthropic", "claude-3-5-haiku-latest", True),
    ("anthropic", "claude-opus-4-6", False),
    ("anthropic", "claude-sonnet-5", False),
    ("anthropic", "model-of-an-imitation", True),
    ("bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", True),
    ("bedrock", "us.anthropic.claude-opus-4-6-v1", False),
    ("bedrock", "amazon.nova-pro-v1:0", False),
    ("bedrock", "arn:aws:bedrock:eu-west-1:1:application-inference-profile/x", False),
    ("openai", "gpt-4o", False),
    ("ollama", "llama3.2", False),
    ("simulated", "demo", True),
]


@pytest.mark.parametrize(("type_", "model", "takes"), CASES)
def test_it_is_known_by_the_models_name(type_: str, model: str, takes: bool) -> None:
    settings = ProviderSettings(
        name="p", type=type_, api_key=Secret("unused"), region="eu-west-1", base_url=_base_url(type_)
    )
    assert takes_prefill(make_adapter(settings, environ={}), model) is takes


def _base_url(type_: str) -> str | None:
    return "http://127.0.0.1:9" if type_ in ("anthropic", "bedrock", "openai") else None


def test_an_adapter_that_does_not_know_is_asked_to_go_on() -> None:
    assert not takes_prefill(Unavailable(frozenset(), "why"), "m")
