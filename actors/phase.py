"""How far a request is."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    FOLLOWING = "following"
    QUEUED = "queued"
    LEASING = "leasing"
    CONNECTING = "connecting"
    WAITING = "waiting"
    PAUSING = "pausing"
    STREAMING = "streaming"
    DONE = "done"
