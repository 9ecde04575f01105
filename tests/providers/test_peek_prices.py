"""`provider.max_price` bounds what it names, and nothing else may stand in it."""

from __future__ import annotations

import msgspec
import pytest

from infermux.errors import InvalidRequest
from infermux.providers.peek import peek_chat


def body(max_price: object) -> bytes:
    messages = [{"role": "user", "content": "Hello"}]
    return msgspec.json.encode({"model": "m", "messages": messages, "provider": {"max_price": max_price}})


@pytest.mark.parametrize("bounds", [{}, {"prompt": 3}, {"completion": 1.5}, {"prompt": 0, "completion": 0}])
def test_known_prices_are_read(bounds: dict[str, float]) -> None:
    preferences = peek_chat(body(bounds)).provider
    assert preferences is not None
    assert preferences.max_price == bounds


def test_a_misspelt_price_is_named_instead_of_bounding_nothing() -> None:
    with pytest.raises(InvalidRequest, match="known are prompt and completion") as caught:
        peek_chat(body({"promt": 3}))
    assert caught.value.param == "provider.max_price.promt"


def test_a_price_that_is_no_number_is_named() -> None:
    with pytest.raises(InvalidRequest, match="max_price"):
        peek_chat(body({"prompt": "cheap"}))
