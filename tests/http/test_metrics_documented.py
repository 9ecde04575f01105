"""The page about metrics and the dashboard name what is really exposed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from infermux.actors.ledger import DatabaseShelf, Ledger
from infermux.config.settings import Budget, RateLimits
from infermux.errors import NotFound
from infermux.http import combining
from infermux.http.cache_page import cache_values
from infermux.http.caching import emptied
from infermux.http.door_log import DoorLog
from infermux.http.exposition import Metrics
from infermux.http.inference import Inference
from infermux.http.live_books import budget_values, ledger_values
from infermux.http.metrics import Counts
from infermux.http.rules import Rules
from infermux.http.state_values import state_values
from infermux.watchdog import Watchdog
from tests.actors._scripted import provider, streams, world
from tests.http.test_metrics import ANSWERED, TRIED
from tests.shared._mirror import FakeShared

DOCS = Path(__file__).parents[2] / "docs"
OURS = re.compile(r"\b(?:infermux|process|python)_[a-z_]+\b")

Exposed = dict[str, set[str]]


async def exposed() -> Exposed:
    """Every name of a sample, with its labels, of a router in which all of it has happened."""
    limits = RateLimits(requests_per_minute=600, tokens_per_minute=60_000, max_concurrent=9)
    budgets = (Budget(caller="team-a", limit_usd=5), Budget(caller="*", limit_usd=1))
    async with world(provider("a", "m", rate_limits=limits), budgets=budgets) as w, world(shared=FakeShared()) as node:
        w["a"].script = [streams()]
        await w.chat(stream=True)
        await w.chat()
        await w.settled()
        inference = Inference(w.fleet, Rules.of(w.fleet.config), caching=emptied(w.fleet))
        metrics = Metrics(inference, Watchdog(), Counts(w.fleet))
        ledger = Ledger(DatabaseShelf(None))  # type: ignore[arg-type]
        metrics.more += [lambda: ledger_values(ledger), lambda: budget_values(w.fleet.treasury)]
        metrics.more.append(lambda: cache_values(inference))
        metrics.more.append(lambda: state_values(node.fleet))
        door_log = DoorLog()
        door_log.turned_away(NotFound("no"), None)
        metrics.more.append(door_log.values)
        metrics.counts.note(everything(ANSWERED))
        body, _ = await metrics.page()
        body, _ = combining.metrics([body.decode()], combining.counted(2, 1), "")
    found: Exposed = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def everything(record: Any) -> Any:

    return msgspec.structs.replace(record, cache="hit", waited=0.5, attempts=(TRIED,))


def base(name: str) -> str:
    """The name in the documentation of a histogram's sample."""
    return re.sub(r"_(bucket|count|sum)$", "", name)


def queries(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        yield from (target["expr"] for target in panel.get("targets", ()))
        yield from queries(panel.get("panels", []))


async def test_every_metric_is_on_the_page_with_its_labels_and_no_other() -> None:
    told: Exposed = {}
    for line in DOCS.joinpath("metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6 and cells[1].startswith("`infermux_"):
            told[cells[1].strip("`")] = set(re.findall(r"`([a-z_]+)`", cells[3]))
    real: Exposed = {}
    for name, labels in (await exposed()).items():
        if name.startswith("infermux_") and not name.endswith("_created"):
            real.setdefault(base(name), set()).update(labels - {"le"})
    assert told == real


async def test_every_query_of_the_dashboard_asks_for_what_there_is() -> None:
    names = await exposed()
    dashboard = json.loads(DOCS.joinpath("grafana", "infermux.json").read_text())
    asked = list(queries(dashboard["panels"]))
    asked += [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]
    assert len(asked) > 25
    assert "infermux_cache_total" in " ".join(asked)
    assert "infermux_refused_total" in " ".join(asked)
    for query in asked:
        metrics = OURS.findall(query)
        assert metrics, query
        assert set(metrics) <= set(names), query
        allowed = {"le"}.union(*(names[metric] for metric in metrics))
        wanted = re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", query)
        for group in re.findall(r"\bby \(([^)]*)\)", query):
            wanted += [label.strip() for label in group.split(",")]
        assert set(wanted) <= allowed, query


async def test_the_legends_of_the_dashboard_are_labels_of_their_query() -> None:
    dashboard = json.loads(DOCS.joinpath("grafana", "infermux.json").read_text())
    names = await exposed()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            allowed = set[str]().union(*(names[metric] for metric in OURS.findall(target["expr"])))
            assert used <= allowed, target


def test_panels_do_not_lie_over_each_other() -> None:
    dashboard = json.loads(DOCS.joinpath("grafana", "infermux.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
