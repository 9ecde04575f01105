"""An exchange that is another one's, but for what a class of its own does in between."""

from __future__ import annotations

from infermux.providers.transport import Stoppable

from .exchange import Exchange, Head, HeaderLines, Headers


class PassedOn(Exchange):
    """Every member of `exchange`, passed on as it is. Derived classes change what they are for, and nothing else."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def head(self) -> Head:
        return self._exchange.head

    @property
    def left(self) -> bool:
        return self._exchange.left

    @property
    def stalled(self) -> bool:
        return self._exchange.stalled

    @property
    def shutting_down(self) -> bool:
        return self._exchange.shutting_down

    async def body(self) -> bytes:
        return await self._exchange.body()

    async def receive_body(self) -> bytes | None:
        return await self._exchange.receive_body()

    def watch(self, scope: Stoppable | None) -> None:
        self._exchange.watch(scope)

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        await self._exchange.respond(status, headers, body)

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        self._exchange.start(status, headers)

    def send_now(self, data: bytes) -> bool:
        return self._exchange.send_now(data)

    async def flush(self) -> None:
        await self._exchange.flush()

    async def finish(self, trailers: Headers = ()) -> None:
        await self._exchange.finish(trailers)

    def abort(self) -> None:
        self._exchange.abort()
