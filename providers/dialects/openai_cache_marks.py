"""Cache marks as callers of OpenAI's APIs write them."""

from __future__ import annotations

from .fields import Fields
from .neutral import CacheControl


def read_cache_control(fields: Fields) -> CacheControl | None:
    """The cache mark of a part: `cache_control`, or OpenAI's own `prompt_cache_breakpoint`.

    Half an hour and more is `1h`, the longest other APIs have.
    """
    mark = fields.child("cache_control")
    if mark is not None:
        return CacheControl(ttl=mark.text("ttl"))
    point = fields.child("prompt_cache_breakpoint")
    if point is None:
        return None
    return CacheControl(ttl="1h" if point.text("ttl") else None)
