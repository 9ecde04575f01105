"""The adapter of a declared provider that this version or installation cannot serve: it refuses, and says why."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from infermux.config.settings import ProbeMethod
from infermux.errors import FailureKind, UpstreamFailure
from infermux.secret import Secret

from .interface import Answer, Call, Endpoint, Stream, Usage


@attrs.frozen
class Unavailable:
    """Raises `UpstreamFailure(CREDENTIALS)` with `why` for everything: a configuration error, never a retry."""

    endpoints: frozenset[Endpoint]
    why: str
    transport: str = "none"

    async def send(self, call: Call) -> Answer | Stream:
        raise self._refused()

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        raise self._refused()

    async def list_models(self) -> Sequence[str]:
        return ()

    async def aclose(self) -> None:
        """Nothing is open."""

    def _refused(self) -> UpstreamFailure:
        return UpstreamFailure(FailureKind.CREDENTIALS, self.why)
