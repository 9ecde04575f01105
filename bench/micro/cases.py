"""All microbenches."""

from __future__ import annotations

from typing import Final

from . import bodies, routing, steps, translations, whole
from .case import Case

CASES: Final[tuple[Case, ...]] = (*whole.CASES, *routing.CASES, *steps.CASES, *bodies.CASES, *translations.CASES)
