"""How fast a provider answers: moving averages over its successes, of all and per model."""

from __future__ import annotations

from typing import Final

import attrs

from .ewma import observe
from .messages import Ewma

KEPT_MODELS = 256  # of an open-ended provider: averages per model are bounded


@attrs.define(eq=False)
class Averages:
    """Seconds to the whole response and to the first token; the models of each are what a `Standing` publishes."""

    response: Ewma = Ewma()
    first_token: Ewma = Ewma()
    model_response: dict[str, Ewma] = attrs.field(factory=dict[str, Ewma])
    model_first_token: dict[str, Ewma] = attrs.field(factory=dict[str, Ewma])

    def observe(
        self, model: str, latency: float, first_token: float | None, decay: float, *, renewed: bool = False
    ) -> None:
        """A request succeeded; see `ewma.observe` for `decay`. `renewed`: what was measured before is out of date."""
        decay = 1.0 if renewed else decay
        self.response = observe(self.response, latency, decay)
        _observe_model(self.model_response, model, latency, decay)
        if first_token is not None:
            self.first_token = observe(self.first_token, first_token, decay)
            _observe_model(self.model_first_token, model, first_token, decay)

    def usual(self, model: str) -> float:
        """Seconds a whole response of `model` usually takes; 0 where nobody knows."""
        return self.model_response.get(model, self.response).value


def _observe_model(averages: dict[str, Ewma], model: str, sample: float, decay: float) -> None:
    known = averages.get(model)
    if known is None:
        if len(averages) >= KEPT_MODELS:
            averages.pop(next(iter(averages)))
        known = _NOTHING
    averages[model] = observe(known, sample, decay)


_NOTHING: Final = Ewma()
