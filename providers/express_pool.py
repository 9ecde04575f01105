"""The idle connections of one provider: last in, first out, and no task that looks after them.

The one used last is the least likely to have been closed by the other side, and the others get to grow old. Old ones
are closed whenever the pool is used, and by `expire`.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from .wire import Wire


class Pooled(Protocol):
    """A connection. `reusable`: whether the next request may go out on it; `idle_since` is the pool's."""

    idle_since: float

    @property
    def wire(self) -> Wire: ...
    @property
    def reusable(self) -> bool: ...
    def close(self) -> None: ...


C = TypeVar("C", bound=Pooled)


class IdlePool(Generic[C]):
    """`take` and `give` with the time passed in. Not a limit on connections: the provider's leases are."""

    def __init__(self, *, idle_seconds: float, max_idle: int) -> None:
        self._idle: deque[C] = deque()
        self._idle_seconds = idle_seconds
        self._max_idle = max_idle
        self._closed = False

    def __repr__(self) -> str:
        return f"IdlePool(idle={len(self._idle)}, closed={self._closed})"

    def __len__(self) -> int:
        return len(self._idle)

    @property
    def closed(self) -> bool:
        return self._closed

    def take(self, now: float) -> C | None:
        """An idle connection that looks alive, None without one."""
        idle = self._idle
        if idle and now - idle[0].idle_since > self._idle_seconds:
            self.expire(now)
        while idle:
            connection = idle.pop()
            # Bytes nobody asked for, or the end: either way it cannot carry a request.
            if not connection.wire.readable():
                return connection
            connection.close()
        return None

    def give(self, connection: C, now: float) -> None:
        """Keep `connection` for the next request if its last one ended well, else close it."""
        if self._closed or not connection.reusable:
            connection.close()
            return
        connection.idle_since = now
        idle = self._idle
        idle.append(connection)
        if len(idle) > self._max_idle:
            idle.popleft().close()
        if now - idle[0].idle_since > self._idle_seconds:
            self.expire(now)

    def expire(self, now: float) -> None:
        """Close those that were idle for too long."""
        while self._idle and now - self._idle[0].idle_since > self._idle_seconds:
            self._idle.popleft().close()

    def close(self) -> None:
        """Close all, and from now on all that are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
