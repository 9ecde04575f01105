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

    __slots__ = ("_averages", "_latest")

    def __init__(self) -> None:
        self._averages: OrderedDict[str, list[float]] = OrderedDict()  # each in a cell: to find it is all it takes
        self._latest = ""  # the model that is last in them

    def observe(self, model: str, completion_tokens: int) -> None:
        """An answer of `model` had `completion_tokens`."""
        averages = self._averages
        cell = averages.get(model)
        if cell is not None:
            cell[0] = DECAY * completion_tokens + (1.0 - DECAY) * cell[0]
            if model != self._latest:
                self._use(model)
            return
        averages[model] = [float(completion_tokens)]
        self._latest = model
        if len(averages) > MODELS_KEPT:
            averages.popitem(last=False)

    def _use(self, model: str) -> None:
        self._averages.move_to_end(model)
        self._latest = model

    def average(self, model: str) -> float | None:
        """Completion tokens of an average answer of `model`; None before the first."""
        cell = self._averages.get(model)
        if cell is None:
            return None
        if model != self._latest:
            self._use(model)
        return cell[0]

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
