"""What the metrics tell of the state that nodes share."""

from __future__ import annotations

from collections.abc import Iterator

from infermux.actors.fleet import Fleet

from .live_values import Value
from .metric_text import COUNTER


def state_values(fleet: Fleet) -> Iterator[Value]:
    """Nothing where there is none."""
    supply = fleet.supply
    if supply is None:
        return
    numbers = supply.numbers
    yield Value(
        "infermux_state_degraded",
        supply.is_degraded,
        help="1 while Redis is gone and limits are held by this node's fair share.",
    )
    yield Value("infermux_state_nodes", supply.share.of, help="Nodes that share the limits, as far as is known.")
    yield Value("infermux_state_slowest_seconds", numbers.slowest, help="The slowest of the last round trips to Redis.")
    for name, value, said in (
        ("rounds", numbers.rounds, "Round trips to Redis."),
        ("failures", numbers.failures, "Round trips to Redis without an answer."),
        ("outages", numbers.outages, "Times that Redis was lost."),
        ("written_back", numbers.written_back, "Limits that Redis had lost, written back by this node."),
    ):
        yield Value(f"infermux_state_{name}", value, kind=COUNTER, help=said)
