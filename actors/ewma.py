"""The exponentially weighted moving average of latencies."""

from __future__ import annotations

from .messages import Ewma


def observe(ewma: Ewma, sample: float, decay: float) -> Ewma:
    """The average after one more `sample` (seconds).

    The first one is taken as it is, each later one gives `decay*sample + (1-decay)*old`. Starting from the first sample
    instead of 0 keeps a new provider from looking fast. `decay` is in 0..1, the weight of the newest sample.
    """
    if not ewma.samples:
        return Ewma(sample, 1)
    return Ewma(decay * sample + (1.0 - decay) * ewma.value, ewma.samples + 1)
