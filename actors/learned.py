"""What a request is likely to use, learned from what earlier ones did."""

from __future__ import annotations

import math
from collections import OrderedDict

UNKNOWN_COMPLETION = 1024
DECAY = 0.1
MODELS_KEPT = 1000


class LearnedTokens:
    """The moving average of completion tokens per model of one provider.

    At most 1000 models are remembered, the least recently used one is forgotten first. The average starts at the first
    answer's tokens, then `DECAY*tokens + (1-DECAY)*old`.
    """

    __slots__ = ("_averages",)

    def __init__(self) -> None:
        self._averages: OrderedDict[str, float] = OrderedDict()

    def observe(self, model: str, completion_tokens: int) -> None:
        """An answer of `model` had `completion_tokens`."""
        averages = self._averages
        old = averages.get(model)
        if old is not None:
            averages[model] = DECAY * completion_tokens + (1.0 - DECAY) * old
            averages.move_to_end(model)
            return
        averages[model] = float(completion_tokens)
        if len(averages) > MODELS_KEPT:
            averages.popitem(last=False)

    def average(self, model: str) -> float | None:
        """Completion tokens of an average answer of `model`; None before the first."""
        average = self._averages.get(model)
        if average is not None:
            self._averages.move_to_end(model)
        return average

    def reservation(self, model: str, prompt_tokens: int, max_tokens: int | None, capacity: int | None) -> int:
        """Tokens to reserve: the prompt's plus `max_tokens`, or the learned average, or 1024; within 1..`capacity`.

        `capacity` is the token bucket's; None where there is none.
        """
        if max_tokens is not None:
            completion = max_tokens
        else:
            average = self.average(model)
            completion = UNKNOWN_COMPLETION if average is None else math.ceil(average)
        wanted = prompt_tokens + completion
        if wanted < 1:
            return 1
        return wanted if capacity is None or wanted < capacity else capacity

    def __len__(self) -> int:
        return len(self._averages)
