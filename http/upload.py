"""A form on its way to a provider: read until its model is known, kept so far, and then passed on as it comes."""

from __future__ import annotations

import tempfile
from math import inf
from typing import IO, Final

import trio

from infermux.errors import InvalidRequest

from .exchange import Exchange
from .form import FormScanner, boundary_of

IN_MEMORY: Final = 1024 * 1024
"""Bytes that are kept in memory; what is over goes to disk."""
_PIECE: Final = 64 * 1024
_disk: Final = trio.CapacityLimiter(4)


class Spool:
    """Bytes that can be read again: in memory up to `IN_MEMORY`, else in a file without a name."""

    def __init__(self) -> None:
        self.size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"Spool(size={self.size}, on_disk={self.on_disk})"

    @property
    def on_disk(self) -> bool:
        return self._file is not None

    async def write(self, data: bytes) -> None:
        """Add `data` at the end."""
        if self._file is None and self.size + len(data) <= IN_MEMORY:
            self._memory += data
        else:
            await trio.to_thread.run_sync(self._to_disk, data, limiter=_disk)
        self.size += len(data)

    def _to_disk(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="infermux-")  # noqa: SIM115 - closed by `close`
            self._file.write(self._memory)
            self._memory.clear()
        self._file.seek(self.size)
        self._file.write(data)

    async def read(self, at: int, most: int) -> bytes:
        """At most `most` bytes from `at` on."""
        if self._file is None:
            return bytes(self._memory[at : at + most])
        return await trio.to_thread.run_sync(self._from_disk, self._file, at, most, limiter=_disk)

    @staticmethod
    def _from_disk(file: IO[bytes], at: int, most: int) -> bytes:
        file.seek(at)
        return file.read(most)

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._memory.clear()
        if self._file is not None:
            self._file.close()


class FormUpload:
    """See `interface.Upload`. Made by `read_form`."""

    def __init__(self, exchange: Exchange, scanner: FormScanner, spool: Spool, *, ended: bool) -> None:
        self.scope: trio.CancelScope | None = None
        self.last = inf
        self.spent = False
        self.waited = 0.0
        self.spool = spool
        self.scanner = scanner
        self.ended = ended
        self._exchange = exchange

    @property
    def size(self) -> int | None:
        """Bytes of the whole body, None where nobody knows."""
        if self.ended:
            return self.spool.size
        declared = self._exchange.head.get(b"content-length")
        return None if declared is None else int(declared)

    def open(self, model: str) -> FormSource:
        return FormSource(self, model.encode())

    def close(self) -> None:
        self.spool.close()

    async def receive(self) -> bytes | None:
        """More of the body, from the caller. The provider's time stands still meanwhile."""
        if self.ended:
            return None
        scope, started = self.scope, trio.current_time()
        left = inf if scope is None else scope.deadline - started
        if scope is not None:
            scope.deadline = self.last
        try:
            data = await self._exchange.receive_body()
        finally:
            now = trio.current_time()
            self.waited += now - started
            if scope is not None:
                scope.deadline = min(now + left, self.last)
        self.ended = data is None
        self.spent = self.spent or data is not None
        return data


class FormSource:
    """See `transport.Source`: one attempt's body, with its own model."""

    def __init__(self, upload: FormUpload, model: bytes) -> None:
        self._upload = upload
        self._model = model
        self._at = 0
        scanner, size = upload.scanner, upload.size
        self.length = None if size is None else size - (scanner.end - scanner.start) + len(model)

    async def receive(self) -> bytes | None:
        upload, scanner = self._upload, self._upload.scanner
        while self._at < upload.spool.size:
            if self._at == scanner.start and scanner.start < scanner.end:
                self._at = scanner.end
                if self._model:
                    return self._model
                continue
            bound = scanner.start if self._at < scanner.start else upload.spool.size
            data = await upload.spool.read(self._at, min(_PIECE, bound - self._at))
            self._at += len(data)
            return data
        return await upload.receive()

    def rewind(self) -> bool:
        if self._upload.spent:
            return False
        self._at = 0
        return True


async def read_form(exchange: Exchange, content_type: bytes) -> FormUpload:
    """Read a form until its model is known.

    Raises InvalidRequest for one without a model, and what `Exchange.receive_body` raises.
    """
    scanner, spool = FormScanner(boundary_of(content_type)), Spool()
    try:
        piece: bytes | None = b""
        while not scanner.done and (piece := await exchange.receive_body()) is not None:
            scanner.feed(piece)
            await spool.write(piece)
        if not scanner.model:
            raise InvalidRequest("model is required: the request is routed by it", param="model")
    except BaseException:
        spool.close()
        raise
    return FormUpload(exchange, scanner, spool, ended=piece is None)
