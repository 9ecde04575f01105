"""The fault script of a simulated provider, as the file writes it: what may stand in a step, and what beside what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAULTS = ("ok", "status", "hang", "refuse", "malformed", "cut_after", "stall_after")
_ANSWERING = frozenset({"ok", "cut_after", "stall_after"})
_DOING = (*FAULTS, "first_token", "tokens_per_second")


def clashes(step: Mapping[str, Any]) -> list[str]:
    """Why these keys cannot stand in one step, one sentence each. Their values are not looked at."""
    faults = [key for key in FAULTS if key in step]
    found: list[str] = []
    if len(faults) > 1 and set(faults) != {"cut_after", "stall_after"}:
        found.append(f"takes one of {', '.join(FAULTS)}, not {' and '.join(faults)} together")
    if not any(key in step for key in _DOING):
        found.append(f"says nothing to do; give one of {', '.join(_DOING)}")
    for key, needed in (("retry_after", "status"), ("code", "status"), ("message", "status"), ("for", "stall_after")):
        if key in step and needed not in step:
            found.append(f"`{key}` needs `{needed}` beside it")
    if "tokens_per_second" in step and set(faults) - _ANSWERING:
        found.append(f"`tokens_per_second` has no meaning beside `{faults[0]}`")
    if {"from", "to"} & step.keys() and {"times", "repeat"} & step.keys():
        found.append("a window (`from`, `to`) takes neither `times` nor `repeat`")
    if {"times", "repeat"} <= step.keys():
        found.append("takes `times` or `repeat`, not both")
    return found


def never_reached(script: tuple[Mapping[str, Any], ...]) -> int | None:
    """The step that repeats for ever although others come after it."""
    plain = [index for index, step in enumerate(script) if not {"from", "to"} & step.keys()]
    return next((index for index in plain[:-1] if "repeat" in script[index]), None)
