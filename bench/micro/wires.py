"""Wires whose other side is always ready: the express lane and the express transport without the kernel between."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from infermux.providers.wire import RECEIVE_SIZE

from .driving import pause


class _Ready:
    """What both have in common: nothing is there before it is asked for, and there is always room."""

    unsent = 0

    def receive_now(self, max_bytes: int = RECEIVE_SIZE) -> bytes | None:
        del max_bytes
        return None

    def take_now(self) -> bytes | None:
        return None

    def descriptor(self) -> int | None:
        return None

    def readable(self) -> bool:
        return False

    async def wait_writable(self) -> None:
        pass

    def send_eof(self) -> None:
        pass

    def close(self) -> None:
        pass


class CallerWire(_Ready):
    """A caller that sends what it is given by `ask`, as soon as the server reads. `writes` is what it was answered."""

    def __init__(self) -> None:
        self._asked = b""
        self.writes: list[bytes | memoryview] = []

    def ask(self, data: bytes) -> None:
        self._asked = data
        self.writes.clear()

    async def wait_readable(self) -> None:
        while not self._asked:
            await pause()

    async def receive(self, max_bytes: int = RECEIVE_SIZE) -> bytes:
        await self.wait_readable()
        data, self._asked = self._asked[:max_bytes], self._asked[max_bytes:]
        return data

    async def send(self, data: bytes) -> None:
        self.send_now(data)

    def send_now(self, data: bytes | memoryview) -> int:
        self.writes.append(data)
        return len(data)


class ProviderWire(_Ready):
    """A provider that answers whatever is sent with `reads`, one for each time it is read from."""

    def __init__(self, reads: Sequence[bytes]) -> None:
        self._reads = reads
        self._next: deque[bytes] = deque()

    async def wait_readable(self) -> None:
        while not self._next:
            await pause()

    async def receive(self, max_bytes: int = RECEIVE_SIZE) -> bytes:
        await self.wait_readable()
        data = self._next.popleft()
        if len(data) > max_bytes:
            self._next.appendleft(data[max_bytes:])
        return data[:max_bytes]

    async def send(self, data: bytes) -> None:
        self.send_now(data)

    def send_now(self, data: bytes | memoryview) -> int:
        if not self._next:
            self._next.extend(self._reads)
        return len(data)
