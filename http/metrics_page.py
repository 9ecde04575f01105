"""The page that Prometheus reads."""

from __future__ import annotations

from quart import Response, request
from quart_trio import QuartTrio

from .exposition import Metrics

ROOT = "/metrics"


def add_metrics(app: QuartTrio, metrics: Metrics, *paths: str) -> None:
    """Serve the metrics at each of `paths`."""

    async def page() -> Response:
        body, content_type = await metrics.page(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    for path in paths:
        app.add_url_rule(path, f"metrics {path}", page, methods=["GET"])
