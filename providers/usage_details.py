"""Usage as both of OpenAI's APIs tell it: two totals, each with details; only the names of the members differ."""

from __future__ import annotations

import msgspec

from .interface import Usage


class Details(msgspec.Struct):
    """What of a total was cached or thought, under the names that both APIs use; all may be missing or null."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


def counted(prompt: int | None, completion: int | None, read: Details | None, written: Details | None) -> Usage:
    """`read` are the details of the prompt, `written` those of the completion."""
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        cached_tokens=(read.cached_tokens or 0) if read else 0,
        cache_write_tokens=(read.cache_write_tokens or 0) if read else 0,
        reasoning_tokens=(written.reasoning_tokens or 0) if written else 0,
    )
