"""Adapters that serve callers of further dialects: by translation to the one that the provider speaks.

What an adapter serves itself goes to it as it came, bytes and all. Everything else
that `translate` has a dialect for is translated to the adapter's own, and its answer back. Counting tokens for a
provider that does not is an estimate of ours, marked so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final

import trio

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.secret import Secret

from .counting import estimated_count
from .dialects.dialect import Target
from .dialects.kept_thinking import ThinkingStore
from .interface import Adapter, Answer, Call, Endpoint, Stream, Usage, stops, takes_prefill
from .translate import DIALECTS, send_translated

_VIA: Final = (Endpoint.MESSAGES, Endpoint.CHAT)
"""What is translated to, the first that a provider speaks."""

_TRANSLATED: Final = frozenset(DIALECTS) | {Endpoint.COUNT_TOKENS}


def translating(adapter: Adapter, settings: ProviderSettings, kept: ThinkingStore | None = None) -> Adapter:
    """`adapter`, serving every dialect there is; itself where it does already, or speaks none of them.

    `kept` is the store of thinking for callers that cannot carry it; providers of one API may share one.
    """
    via = next((endpoint for endpoint in _VIA if endpoint in adapter.endpoints), None)
    if via is None or {*DIALECTS, Endpoint.COUNT_TOKENS} <= adapter.endpoints:
        return adapter
    return Translating(adapter, via, settings, ThinkingStore() if kept is None else kept)


class Translating:
    """See `interface.Adapter`. Owns `adapter`; `via` is the endpoint of it that translations go to."""

    def __init__(self, adapter: Adapter, via: Endpoint, settings: ProviderSettings, kept: ThinkingStore) -> None:
        self.adapter = adapter
        self.stops = stops(adapter)
        self._via = via
        self._dialect = DIALECTS[via]
        self._kept = kept
        self._default_max_tokens = settings.default_max_tokens
        bound = settings.extra_body.get("max_tokens")
        self._max_tokens = bound if isinstance(bound, int) and not isinstance(bound, bool) else None

    def __repr__(self) -> str:
        return f"Translating({self.adapter!r})"

    @property
    def endpoints(self) -> frozenset[Endpoint]:
        """What the adapter has, and what is translated to it: nothing where it turned out not to have that."""
        own = self.adapter.endpoints
        return own | _TRANSLATED if self._via in own else own

    @property
    def transport(self) -> str:
        return self.adapter.transport

    def send(self, call: Call) -> Awaitable[Answer | Stream]:
        """See `Adapter.send`. What the adapter always has goes to it without a frame of ours in between."""
        return self.adapter.send(call) if call.endpoint is self._via else self._send(call)

    async def _send(self, call: Call) -> Answer | Stream:
        endpoint = call.endpoint
        if endpoint in self.adapter.endpoints:
            try:
                return await self.adapter.send(call)
            except UpstreamFailure:
                if endpoint in self.adapter.endpoints:
                    raise  # else it has just turned out that the provider does not have it
        if endpoint is Endpoint.COUNT_TOKENS:
            await trio.lowlevel.checkpoint()
            return estimated_count(call)
        target = Target(model=call.model, max_tokens=self._max_tokens, default_max_tokens=self._default_max_tokens)
        return await send_translated(
            self.adapter.send, call, endpoint=self._via, provider=self._dialect, target=target, kept=self._kept
        )

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        return await self.adapter.probe(method, model, key)

    def takes_prefill(self, model: str) -> bool:
        """Whether `model` goes on with the beginning of an answer: as the adapter says."""
        return takes_prefill(self.adapter, model)

    async def list_models(self) -> Sequence[str]:
        return await self.adapter.list_models()

    async def aclose(self) -> None:
        await self.adapter.aclose()
