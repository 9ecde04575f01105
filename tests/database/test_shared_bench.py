"""What a shared database is measured with measures something."""

from __future__ import annotations

import pytest

from bench.shared_database import Sizes, measure
from tests.database._postgresql import Cluster


@pytest.mark.slow
@pytest.mark.needs("initdb", "pg_ctl", "psql")
def test_each_thing_that_a_router_asks_has_its_cost(server: Cluster, url: str) -> None:
    measured = measure(url, server.pids, Sizes(rows=300, cycles=2, keys=3, looks=2, purses=2))
    assert len(measured.costs) == 5
    assert all(cost.router > 0 and cost.server >= 0 for cost in measured.costs)
    assert 100 < measured.bytes_a_row < 1000
    assert "| a row of the ledger |" in str(measured)
