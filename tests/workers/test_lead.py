"""How long the one that leads waits for the others."""

from __future__ import annotations

from infermux.actors import ledger, purse_keeper
from infermux.daemon import control
from infermux.http import application, server
from infermux.serving import CUT_GRACE
from infermux.workers.crew import ENDS_WITHIN


def test_a_worker_has_the_time_that_its_end_may_take() -> None:
    # The in-band errors, the last of connections, the ledger's actor and its rows, budgets and providers, the database.
    takes = CUT_GRACE + server.LAST_WORDS + 2 * ledger.GRACE + purse_keeper.STORE_PATIENCE + application.CLOSE_GRACE
    assert takes < ENDS_WITHIN
    assert control.ENDS_WITHIN > ENDS_WITHIN  # and `stop` that of the one that waits for it
