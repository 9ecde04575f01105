"""What an operator sees of the cache of answers, and emptying it: `GET` and `DELETE /_infermux/cache`."""

from __future__ import annotations

from typing import Any

from quart_trio import QuartTrio

from infermux.errors import NotFound

from .caching import Caching, emptied
from .inference import Inference
from .live_values import Value
from .metric_text import COUNTER


def add_cache(app: QuartTrio, inference: Inference, prefix: str) -> None:
    """`PREFIX/cache`."""

    @app.get(f"{prefix}/cache")
    async def cache() -> dict[str, Any]:
        return {"enabled": False} if inference.caching is None else inference.caching.as_json()

    @app.delete(f"{prefix}/cache")
    async def empty() -> dict[str, Any]:
        caching = _caching(inference)
        inference.caching = emptied(inference.fleet, caching)
        return {"entries": len(caching.cache), "bytes": caching.cache.size}


def _caching(inference: Inference) -> Caching:
    if inference.caching is None:
        raise NotFound("nothing is cached: cache.enabled is false")
    return inference.caching


def cache_values(inference: Inference) -> list[Value]:
    """For the metrics page; nothing where nothing is cached."""
    caching = inference.caching
    if caching is None:
        return []
    cache = caching.cache
    rows = [
        Value("infermux_cache_bytes", cache.size + cache.making, help="Memory that kept answers take."),
        Value("infermux_cache_limit_bytes", cache.max_bytes, help="Memory that kept answers may take."),
        Value("infermux_cache_entries", len(cache), help="Answers that are kept."),
        Value(
            "infermux_cache_followed",
            cache.tally.followed,
            kind=COUNTER,
            help="Hits that waited for the answer to another request under way.",
        ),
    ]
    gone = {"room": cache.tally.evicted, "expired": cache.tally.expired, "too_large": cache.tally.too_large}
    said = "Answers that are not kept any more, or never were."
    rows += [
        Value("infermux_cache_evictions", count, {"reason": reason}, COUNTER, said) for reason, count in gone.items()
    ]
    return rows
