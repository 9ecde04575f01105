"""Who takes part: infermux's own fronts and its peers, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from . import operated
from .fronts import ASGI, DIRECT, INFERMUX, Front
from .peers import litellm, nginx, portkey, sglang, tensorzero

INFERMUX_ON = attrs.evolve(operated.ON, name="infermux-on")
"""infermux with everything on: keys, budgets, prices, the ledger, the log of requests, metrics that are scraped."""

_FRONTS = (
    DIRECT,
    nginx.FRONT,
    INFERMUX,
    INFERMUX_ON,
    ASGI,
    sglang.FRONT,
    tensorzero.FRONT,
    portkey.FRONT,
    litellm.FRONT,
)

FRONTS: Mapping[str, Front] = {front.name: front for front in _FRONTS}
OWN = tuple(front.name for front in (DIRECT, INFERMUX, INFERMUX_ON, ASGI))
PEERS = tuple(name for name in FRONTS if name not in OWN)


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    return {name: FRONTS[name].version() for name in PEERS if FRONTS[name].missing() is None}
