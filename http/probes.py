"""What is asked of a router every few seconds: whether it lives, whether to send requests to it, and its metrics."""

from __future__ import annotations

from functools import partial

from infermux import __version__
from infermux.actors.fleet import Fleet

from .exposition import Metrics
from .inference import Inference
from .merging import merged_metrics
from .polled import Make, Page, json_page
from .siblings import Siblings


def health_pages(fleet: Fleet, inference: Inference, prefix: str) -> dict[bytes, Make]:
    """`health`, `accepting` and `ready`."""

    async def health(_: str) -> Page:
        return json_page({"status": "ok", "version": __version__})

    async def accepting(_: str) -> Page:
        if inference.leaving or inference.draining:
            return json_page({"accepting": False, "reason": "draining"}, 503)
        return json_page({"accepting": True})

    async def ready(_: str) -> Page:
        if inference.leaving or inference.draining:
            return json_page({"ready": False, "reason": "draining"}, 503)
        if not fleet.is_ready():
            return json_page({"ready": False, "reason": "no routable provider"}, 503)
        return json_page({"ready": True})

    found: list[Make] = [health, accepting, ready]
    return {f"{prefix}/{make.__name__}".encode(): make for make in found}


def metrics_page(metrics: Metrics, siblings: Siblings | None, prefix: str) -> Make:
    """What Prometheus reads: of all `siblings`, where there are any."""

    async def page(accept: str) -> Page:
        return Page(*await metrics.page(accept))

    return page if siblings is None else partial(merged_metrics, siblings, prefix=prefix)
