"""When what is kept is written down: at set times, the same for all who write, so that one wakes up with the other."""

from __future__ import annotations

import math
from typing import Final

BEAT: Final = 0.5  # seconds


def next_beat(after: float) -> float:
    """The next one, by the clock of trio, which begins anywhere: processes do not write all at once."""
    return (math.floor(after / BEAT) + 1) * BEAT
