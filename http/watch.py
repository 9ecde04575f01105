"""Seeing callers leave without a task per request.

A caller that closes its connection while its request is served sends a FIN, which nobody reads: the connection's task
is busy with the upstream. One `LeaveWatch` per server sees it for all connections: an epoll set of our own in which
every accepted socket is registered once, edge-triggered, for hang-ups only. Its descriptor is readable when one of them
hung up, so a single task waiting on it costs nothing while nobody leaves, and nothing per request.

EPOLLRDHUP is reported also while unread (pipelined) bytes lie before the FIN. A caller that only shuts down its sending
side counts as gone, as with nginx and Go: for HTTP there is no telling the two apart.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Protocol

import trio

OnLeft = Callable[[], None]
POLL_INTERVAL = 0.05
"""Seconds between two looks of `PollingWatch`: half of the 100 ms within which a leaving must be acted upon."""


class LeaveWatch(Protocol):
    """Calls back, in its own task, once when the other side of a watched socket has hung up."""

    def add(self, sock: socket.socket, on_left: OnLeft) -> None: ...
    def remove(self, sock: socket.socket) -> None:
        """Stop watching; call it before the socket is closed. Unknown sockets are fine."""
        ...

    async def run(self) -> None:
        """Watch until cancelled."""
        ...

    def close(self) -> None: ...


class EpollWatch:
    """The watch where the system has epoll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, OnLeft] = {}

    def __repr__(self) -> str:
        return f"EpollWatch({len(self._callbacks)} sockets)"

    def add(self, sock: socket.socket, on_left: OnLeft) -> None:
        fd = sock.fileno()
        self._callbacks[fd] = on_left
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLET)

    def remove(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        if self._callbacks.pop(fd, None) is None:
            return
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # closed behind our back: the kernel has dropped it already

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0, 256):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback()

    def close(self) -> None:
        self._callbacks.clear()
        self._epoll.close()


class PollingWatch:
    """The watch where the system has no epoll: one task that peeks at every socket 20 times a second.

    A close behind unread bytes is not seen; the next failed write tells.
    """

    def __init__(self, interval: float = POLL_INTERVAL) -> None:
        self._interval = interval
        self._sockets: dict[socket.socket, OnLeft] = {}

    def __repr__(self) -> str:
        return f"PollingWatch({len(self._sockets)} sockets)"

    def add(self, sock: socket.socket, on_left: OnLeft) -> None:
        self._sockets[sock] = on_left

    def remove(self, sock: socket.socket) -> None:
        self._sockets.pop(sock, None)

    async def run(self) -> None:
        while True:
            await trio.sleep(self._interval)
            for sock in [sock for sock in self._sockets if _hung_up(sock)]:
                self._sockets.pop(sock)()

    def close(self) -> None:
        self._sockets.clear()


def _hung_up(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


def leave_watch() -> LeaveWatch:
    """The best watch of this system."""
    return EpollWatch() if hasattr(select, "epoll") else PollingWatch()
