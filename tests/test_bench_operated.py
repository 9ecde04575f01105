"""The bench of what operating costs: figures count only where every request did, and both configurations are served."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from bench import ledger_rows, operated
from bench.fronts import Site
from bench.operated import OFF, ON, SCENARIOS_OPERATED, Outcome, markdown
from infermux.config import Config, load
from infermux.config.settings import AuthMode
from tests.bench._made import measured, result


def outcome(*rounds: tuple[float, float], failed: int = 0, rows: int = 1000) -> Outcome:
    """Rounds of CPU microseconds per request: off, on."""
    return Outcome(
        scenario=SCENARIOS_OPERATED["operated-whole-16"],
        off=tuple(measured("off", cpu_us=off, load=result(good=100)) for off, _ in rounds),
        on=tuple(measured("on", cpu_us=on, load=result(good=100, failed=failed)) for _, on in rounds),
        rows=rows,
    )


def test_the_ratio_is_of_the_same_round() -> None:
    ratio = outcome((100, 120), (200, 280), (100, 130)).ratio
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((1.3, 1.2, 1.4))


def test_more_than_it_may_cost_is_said() -> None:
    assert "more than" not in markdown(outcome((100, 140)))
    assert "more than the 1.4 it may" in markdown(outcome((100, 141)))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (outcome((100, 120), failed=1), "1 requests failed"),
        (outcome((100, 120), rows=99), "99 rows in the ledger for 100 requests"),
        (attrs.evolve(outcome(), missing="on ended"), "on ended"),
    ],
)
def test_one_request_that_failed_or_is_not_in_the_ledger_fails_it(found: Outcome, why: str) -> None:
    assert found.ratio is None
    assert why in markdown(found)


def test_both_are_what_they_say(tmp_path: Path) -> None:
    found: dict[str, Config] = {}
    for front in (OFF, ON):
        folder = tmp_path / front.name
        folder.mkdir()
        assert front.command is not None
        front.command(Site(port=8080, upstream="http://127.0.0.1:1/v1", folder=folder))
        found[front.name] = load(str(folder / "infermux.yml"))
    off, on = found["off"], found["on"]
    assert (off.auth.mode, off.ledger.url, off.budgets, off.log.level) == (AuthMode.OPEN, None, (), "warn")
    assert (on.auth.mode, len(on.budgets), on.log.level, on.log.format) == (AuthMode.KEYS, 2, "info", "json")
    assert on.ledger.url is not None
    assert operated.KEY.reveal().startswith("ifx_")


@pytest.mark.slow
def test_a_round_of_the_ledger_writes_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_rows, "ROWS", 300)
    found = ledger_rows.of("SQLite", f"sqlite:///{tmp_path / 'rows.db'}", 1)
    assert found.failure is None
    assert found.per_second is not None
    assert "SQLite" in ledger_rows.markdown([found])
