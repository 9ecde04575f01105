"""What the Claude models take and refuse, for every dialect that reaches them.

The names are read, not listed: `claude-sonnet-4-5-20250929`, `us.anthropic.claude-sonnet-4-5-20250929-v1:0`,
`claude-sonnet-4-5@20250929`, `claude-3-7-sonnet-latest`, `anthropic/claude-opus-4.6`. Sources: Anthropic's models
overview (https://platform.claude.com/docs/en/about-claude/models/overview: maximum output, thinking), its pages on
structured outputs (4.5 and later), effort (Opus 4.5, then 4.6 and later) and adaptive thinking (4.6 and later; the only
kind from 4.7 on), its migration guide (from 4.1 on temperature or top_p, not both; from 4.7 on neither, nor top_k), and
"What's new in Claude 4.6" (from then on an assistant message at the end, a prefill, is a 400).
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Final

import attrs

_NAME: Final = re.compile(
    r"claude-(?:(?P<family>opus|sonnet|haiku|fable|mythos)-)?(?P<major>\d)(?:[-.](?P<minor>\d))?(?!\d)"
    r"(?:-(?P<late>opus|sonnet|haiku))?",
    re.IGNORECASE,
)


class Sampling(enum.Enum):
    """Which of temperature, top_p and top_k a model takes."""

    ALL = "all"
    ONE = "one"  # temperature or top_p, not both
    NONE = "none"


@attrs.frozen(kw_only=True)
class Claude:
    """One model. `max_tokens` is the most it can answer; `always_thinks`: thinking cannot be switched off."""

    max_tokens: int
    budget: bool  # thinking {type: enabled, budget_tokens}
    adaptive: bool  # thinking {type: adaptive}
    always_thinks: bool
    effort: bool  # output_config.effort
    highest_effort: bool  # `xhigh` as well
    json_schema: bool  # output_config.format
    sampling: Sampling
    prefill: bool  # the conversation may end with the beginning of the answer


@lru_cache(maxsize=256)
def claude(model: str) -> Claude | None:
    """What is known of `model`; None for a name that is not a Claude's, or does not say which."""
    if "mythos-preview" in model:
        return _of("mythos", (4, 7))
    found = _NAME.search(model)
    if found is None:
        return None
    family = (found["family"] or found["late"] or "").lower()
    return _of(family, (int(found["major"]), int(found["minor"] or 0))) if family else None


def _of(family: str, version: tuple[int, int]) -> Claude:
    adaptive = version >= (4, 6)
    return Claude(
        max_tokens=_max_tokens(family, version),
        budget=(3, 7) <= version < (4, 7),
        adaptive=adaptive,
        always_thinks=family in ("fable", "mythos") or (family == "opus" and version >= (5, 5)),
        effort=adaptive or (family == "opus" and version == (4, 5)),
        highest_effort=version >= (4, 7),
        json_schema=version >= (4, 5),
        sampling=Sampling.NONE if version >= (4, 7) else Sampling.ONE if version >= (4, 1) else Sampling.ALL,
        prefill=version < (4, 6),
    )


def _max_tokens(family: str, version: tuple[int, int]) -> int:
    if version >= (4, 6):
        return 128_000
    if version < (3, 5):
        return 4096
    if version < (3, 7):
        return 8192
    return 32_000 if family == "opus" and version < (4, 5) else 64_000
