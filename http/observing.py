"""Who listens to the requests of a server: its log, its metrics, traces."""

from __future__ import annotations

import trio

from infermux.actors.ledger import Books
from infermux.watchdog import Watchdog

from .cache_page import cache_values
from .events import Hub
from .exposition import Metrics
from .history import History
from .inference import Inference
from .live_books import budget_values, ledger_values
from .metrics import Counts
from .overview import Overview
from .request_log import log_request
from .state_values import state_values
from .traces import traces_of


def observe(inference: Inference, watchdog: Watchdog, books: Books | None = None) -> Metrics:
    """Log, count and trace every request that ends, and watch the event loop, for as long as the actors run."""
    fleet = inference.fleet
    metrics = Metrics(inference, watchdog, Counts(fleet))
    fleet.journal.listen(metrics.counts.note)
    fleet.journal.listen_to_probes(metrics.counts.note_probe)
    fleet.journal.listen(log_request)
    traces = traces_of(fleet)
    if traces is not None:
        inference.sampler, fleet.spans = traces.sampler, True
        fleet.journal.listen(traces.note)
        fleet.nursery.start_soon(traces.run)
    metrics.more.append(lambda: budget_values(fleet.treasury))
    metrics.more.append(lambda: cache_values(inference))
    metrics.more.append(lambda: state_values(fleet))
    if books is not None:
        metrics.more.append(lambda: ledger_values(books.ledger))
    fleet.nursery.start_soon(metrics.delay.run)
    return metrics


def overlook(inference: Inference, watchdog: Watchdog) -> Hub:
    """What an operator sees of the requests and providers from now on."""
    fleet = inference.fleet
    history = History(fleet)
    overview = Overview(inference=inference, watchdog=watchdog, history=history, started_at=trio.current_time())
    hub = Hub(overview, fleet.nursery)
    fleet.journal.listen(history.note)
    fleet.journal.listen(hub.note)
    fleet.treasury.listen(hub.note_budget)
    return hub
