"""All that an operator looks at, in one piece: for the dashboard, its events, and `infermux top`."""

from __future__ import annotations

import time
from typing import Any

import attrs
import trio
from quart_trio import QuartTrio

from infermux import __version__
from infermux.actors.description import describe
from infermux.actors.explain import brief
from infermux.watchdog import Watchdog

from .history import STEPS, History
from .inference import Inference
from .live_requests import live

MOST_REQUESTS = 100
DECISIONS = 50
LATEST_STEPS = 2  # of the history, in a snapshot: the step under way, and the one that has just ended


@attrs.frozen(kw_only=True)
class Overview:
    """Reads what is there, and waits for nobody: no actor is asked."""

    inference: Inference
    watchdog: Watchdog
    history: History
    started_at: float

    def whole(self) -> dict[str, Any]:
        """With the history and the last decisions, the newest first."""
        latest = [brief(each.record) for each in self.inference.decisions.latest(DECISIONS)]
        return {**self.snapshot(STEPS), "decisions": latest}

    def snapshot(self, steps: int = LATEST_STEPS) -> dict[str, Any]:
        """What changes from second to second. Of the history the last `steps`."""
        inference, now = self.inference, trio.current_time()
        fleet = inference.fleet
        return {
            "at": round(time.time(), 3),
            "version": __version__,
            "uptime_seconds": round(now - self.started_at, 3),
            "ready": fleet.is_ready() and not inference.leaving and not inference.draining,
            "draining": inference.leaving or inference.draining,
            "in_flight": inference.in_flight,
            "strategy": fleet.config.routing.strategy,
            "ledger": fleet.config.ledger.url is not None,
            "auth": inference.rules.config.auth.mode.value,
            "event_loop": self.watchdog.statistics(),
            "providers": [
                attrs.asdict(describe(member.gate, member.adapter, now, crashed=not member.ref.alive))
                for member in fleet.members.values()
            ],
            "requests": list(live(inference, MOST_REQUESTS)),
            "history": self.history.shown(steps),
        }


def add_overview(app: QuartTrio, overview: Overview, prefix: str) -> None:
    """`GET PREFIX/overview`."""

    @app.get(f"{prefix}/overview")
    async def whole() -> dict[str, Any]:
        return overview.whole()
