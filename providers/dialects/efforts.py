"""A budget of thinking tokens as a word of effort, for models that take the word alone. The bounds are our own."""

from __future__ import annotations

from typing import Final

_MOST: Final = ((4096, "low"), (16_384, "medium"))


def effort_of(budget: int | None) -> str:
    """`low`, `medium` or `high`; no budget is the least."""
    return next((effort for most, effort in _MOST if (budget or 0) <= most), "high")
