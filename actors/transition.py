"""One change of state, kept for the management API and for tests."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

S = TypeVar("S")

KEPT = 32


@attrs.frozen
class Transition(Generic[S]):
    """From `source` to `target` at the time `at` (seconds on the actor's clock), and why in a few words."""

    at: float
    source: S
    target: S
    why: str
