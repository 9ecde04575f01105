"""The names of models say whether they reason."""

from __future__ import annotations

import pytest

from infermux.providers.dialects.reasoning_models import never_reasons, reasons


@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "gpt-5", "gpt-5.1", "gpt-5-codex", "codex-mini-latest", "openai/o4-mini"]
)
def test_these_reason(model: str) -> None:
    assert reasons(model)
    assert not never_reasons(model)


@pytest.mark.parametrize(
    "model", ["gpt-3.5-turbo", "gpt-4o", "gpt-4.1", "chatgpt-4o-latest", "gpt-5-chat-latest", "openai/gpt-4o"]
)
def test_these_do_not(model: str) -> None:
    assert never_reasons(model)
    assert not reasons(model)


@pytest.mark.parametrize("model", ["llama3.1", "qwen3", "o", "solo1", "my-deployment"])
def test_of_these_nothing_is_known(model: str) -> None:
    assert not reasons(model)
    assert not never_reasons(model)
