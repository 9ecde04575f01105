"""What there is to choose from, by what the router says."""

from __future__ import annotations

from typing import Any

import pytest

from infermux.chat.models import Row, offer

SMALL: dict[str, Any] = {"id": "small", "providers": ["one", "two"], "context_window": 8192, "images": True}
LARGE: dict[str, Any] = {"id": "two/large", "providers": ["two"], "name": "Large"}
PROVIDERS: list[dict[str, Any]] = [
    {"name": "two", "models": ["small", "two/large"]},
    {"name": "one", "models": ["small"]},
]


def test_the_default_comes_first_then_every_model_then_those_of_each_provider_in_order() -> None:
    assert offer([SMALL, LARGE], PROVIDERS, "small").rows == (
        Row(value="auto", note="the default: small"),
        Row(value="small", note="one, two; 8192 tokens, images"),
        Row(value="two/large", note="Large; two"),
        Row(value="two/small", note="8192 tokens, images"),
        Row(value="two/two/large", note=""),
        Row(value="one/small", note="8192 tokens, images"),
    )


def test_without_management_the_providers_are_those_of_the_models() -> None:
    found = offer([SMALL], None, None)
    assert [row.value for row in found.rows] == ["auto", "small", "one/small", "two/small"]
    assert found.default_name == "auto"


def test_a_router_without_models_offers_its_default() -> None:
    assert [row.value for row in offer([], [], None).rows] == ["auto"]


@pytest.mark.parametrize(
    ("providers", "known"),
    [(PROVIDERS, False), (None, True), ([*PROVIDERS, {"name": "open", "models": None}], True)],
    ids=["all listed", "no management", "an open-ended provider"],
)
def test_a_name_that_is_not_listed_is_left_to_the_router_where_nobody_knows(providers: Any, known: bool) -> None:
    found = offer([SMALL], providers, "small")
    assert found.has("two/small")
    assert found.has("gone") is known
    assert found.default_name == "auto (small)"
