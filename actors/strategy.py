"""The seam between the router and its strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from infermux.config.settings import Price

from .messages import Standing, Want


class Option(msgspec.Struct, frozen=True):
    """A provider that could answer now, with the name it knows the model by.

    `index` is declaration order, `load` the requests in flight plus those in transit to it, `price` None when unknown.
    """

    provider: str
    model: str
    standing: Standing
    index: int = 0
    load: int = 0
    weight: float = 1.0
    price: Price | None = None


class Choice(msgspec.Struct, frozen=True):
    """An option in its place in the order. `explore`: only if nobody else explores that provider at that moment."""

    option: Option
    score: float = 0.0
    explore: bool = False


class Strategy(Protocol):
    """Puts options in the order to try them. Synchronous and pure but for its own rotation state and random source.

    Registered by name; plugins register theirs through the entry-point group `infermux.strategies`.
    """

    def order(self, options: Sequence[Option], want: Want, now: float) -> Sequence[Choice]: ...
