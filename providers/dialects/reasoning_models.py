"""Which of OpenAI's models reason, for every dialect that reaches them.

The names are read, not listed: `o3-mini`, `gpt-5.1`, `codex-mini-latest`, `openai/gpt-5`. Source: what the guide to
reasoning models covers, https://platform.openai.com/docs/guides/reasoning. Of other names nothing is known.
"""

from __future__ import annotations

import re
from typing import Final

_REASONS: Final = re.compile(r"(?:^|/)(?:o[1-9](?:-|$)|gpt-[5-9](?!.*-chat)|codex-)")
_NEVER: Final = re.compile(r"(?:^|/)(?:gpt-[34]|chatgpt-|gpt-.*-chat)")


def reasons(model: str) -> bool:
    """Whether it is known to reason: it takes an effort, and refuses temperature, top_p and max_tokens."""
    return _REASONS.search(model) is not None


def never_reasons(model: str) -> bool:
    """Whether it is known not to: it refuses an effort."""
    return _NEVER.search(model) is not None
