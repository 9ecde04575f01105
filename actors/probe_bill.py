"""What health probes cost: the router asks in its own name, and what it uses is in the bill like everybody's.

A probe is a row of the ledger, tokens and dollars among the metrics, and spent of the budgets that are about everything
or about the router. It is no request: the log, the dashboard and the metrics of requests do not have it, and no budget
refuses it.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

import attrs

from infermux.config.settings import ProviderSettings
from infermux.errors import Fault, UpstreamFailure
from infermux.keys import OWN_NAME
from infermux.providers.interface import Usage
from infermux.providers.prices import cost

from .identity import Identity
from .purse import nano
from .record import Ending, Record, Tried

if TYPE_CHECKING:
    from .fleet import Fleet

PROBE: Final = "probe"  # in the place of an endpoint
ROUTER_ITSELF: Final = Identity(caller=OWN_NAME)
SENT: Final = Usage(prompt_tokens=8, estimated=True)
"""What a provider has read that did not answer: one word, and what chat templates put around it."""
ANSWERED: Final = Usage(prompt_tokens=8, completion_tokens=1, estimated=True)


@attrs.frozen(kw_only=True)
class Probed:
    """One probe that asked `model` for a token. `seconds` it took; `usage` None: the provider told none."""

    settings: ProviderSettings
    model: str
    seconds: float
    usage: Usage | None
    failure: UpstreamFailure | None

    @property
    def used(self) -> Usage | None:
        """What it has used, as far as can be known: nothing where the provider refused it."""
        if self.failure is None:
            return self.usage or ANSWERED
        return SENT if self.failure.kind.is_timeout else None


def bill(fleet: Fleet, probed: Probed) -> None:
    """Have it written down, counted and spent. Synchronous."""
    price, used = fleet.catalogue.prices.price(probed.settings, probed.model), probed.used
    dollars = None if price is None else 0.0 if used is None else cost(price, used)
    if used is not None:
        fleet.treasury.spend(ROUTER_ITSELF, nano(dollars or 0.0), unpriced=price is None)
    fleet.journal.tell_probe(_record(probed, used, dollars))


def _record(probed: Probed, used: Usage | None, dollars: float | None) -> Record:
    failure, name, model = probed.failure, probed.settings.name, probed.model
    tried = Tried(
        provider=name,
        model=model,
        started=0.0,
        ended=probed.seconds,
        outcome="ok" if failure is None else failure.kind.value,
        status=200 if failure is None else failure.status,
        usage=used,
        cost=dollars,
    )
    return Record(
        id=f"{PROBE}-{secrets.token_hex(8)}",
        at=time.time() - probed.seconds,
        who=ROUTER_ITSELF,
        endpoint=PROBE,
        requested=model,
        provider=name,
        model=model,
        attempts=(tried,),
        ending=Ending.OK if failure is None else Ending.REFUSED,
        status=200 if failure is None else failure.status or 502,
        code="" if failure is None else failure.kind.value,
        message="" if failure is None else failure.message,
        fault=None if failure is None else Fault.PROVIDER,
        usage=used,
        cost=dollars,
        latency=probed.seconds,
    )
