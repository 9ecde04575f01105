"""Who listens to the requests of a server: its log, its metrics, traces."""

from __future__ import annotations

from infermux.watchdog import Watchdog

from .exposition import Metrics
from .inference import Inference
from .live_books import budget_values
from .metrics import Counts
from .request_log import log_request
from .traces import traces_of


def observe(inference: Inference, watchdog: Watchdog) -> Metrics:
    """Log, count and trace every request that ends, and watch the event loop, for as long as the actors run."""
    fleet = inference.fleet
    metrics = Metrics(inference, watchdog, Counts(fleet))
    fleet.journal.listen(metrics.counts.note)
    fleet.journal.listen(log_request)
    traces = traces_of(fleet)
    if traces is not None:
        inference.sampler = traces.sampler
        fleet.journal.listen(traces.note)
        fleet.nursery.start_soon(traces.run)
    metrics.more.append(lambda: budget_values(fleet.treasury))
    fleet.nursery.start_soon(metrics.delay.run)
    return metrics
