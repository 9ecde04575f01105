"""What really happened at a provider's end: each attempt, what it used, and what must never be seen there."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from infermux.actors.bucket import TokenBucket
from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.providers.interface import Adapter, Answer, Call, Endpoint, Stream, Usage, takes_prefill
from infermux.providers.peek import prompt_tokens
from infermux.providers.transport import CONNECTING
from infermux.secret import Secret


@attrs.define(eq=False)
class Try:
    """One attempt as its provider saw it. `tokens` is what it costs: None while it runs."""

    at: float
    call: Call
    tokens: int | None = None


@attrs.define(eq=False)
class Truth:
    """All tries at one provider name, over every wire it had."""

    name: str
    tries: list[Try] = attrs.field(factory=list[Try])
    sent: list[float] = attrs.field(factory=list[float])  # requests and probes, what a request limit counts
    probe_tokens: int = 0
    open: int = 0
    wrong: list[str] = attrs.field(factory=list[str])

    @property
    def tokens(self) -> int:
        return self.probe_tokens + sum(each.tokens or 0 for each in self.tries)


class Watched:
    """An adapter that writes down what goes through it. `look` says what is wrong at the moment of a send."""

    def __init__(
        self, inner: Adapter, truth: Truth, settings: ProviderSettings, look: Callable[[str], list[str]]
    ) -> None:
        self._inner = inner
        self._truth = truth
        self._settings = settings
        self._look = look

    @property
    def endpoints(self) -> frozenset[Endpoint]:
        return self._inner.endpoints

    @property
    def transport(self) -> str:
        return self._inner.transport

    def takes_prefill(self, model: str) -> bool:
        return takes_prefill(self._inner, model)

    async def send(self, call: Call) -> Answer | Stream:
        truth = self._truth
        now = trio.current_time()
        this = Try(now, call)
        truth.tries.append(this)
        truth.sent.append(now)
        truth.open += 1
        self._check()
        try:
            answer = await self._inner.send(call)
        except BaseException as error:
            truth.open -= 1
            # A provider that refuses or breaks before it answers charges nothing, nor does one that was not reached;
            # one we leave has read the prompt.
            asker = CONNECTING.get()
            unread = isinstance(error, UpstreamFailure) or (asker is not None and asker.connecting)
            this.tokens = 0 if unread else prompt_tokens(call.body)
            raise
        if isinstance(answer, Answer):
            truth.open -= 1
            assert answer.usage is not None, "a simulated provider tells what was used"
            this.tokens = answer.usage.total
            return answer
        return WatchedStream(answer, this, truth)

    def _check(self) -> None:
        truth, limit = self._truth, self._settings.rate_limits.max_concurrent
        if isinstance(limit, int) and truth.open > limit:
            truth.wrong.append(f"{truth.name} has {truth.open} requests at once, and may have {limit}")
        truth.wrong.extend(self._look(truth.name))

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        self._truth.sent.append(trio.current_time())
        usage = await self._inner.probe(method, model, key)
        self._truth.probe_tokens += usage.total if usage is not None else 0
        return usage

    async def list_models(self) -> Sequence[str]:
        return await self._inner.list_models()

    async def aclose(self) -> None:
        await self._inner.aclose()


class WatchedStream:
    """A stream that says at its end what it has cost."""

    def __init__(self, inner: Stream, this: Try, truth: Truth) -> None:
        self._inner = inner
        self._this = this
        self._truth = truth

    @property
    def content_type(self) -> bytes:
        return self._inner.content_type

    @property
    def has_content(self) -> bool:
        return self._inner.has_content

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def dropped(self) -> tuple[str, ...]:
        return self._inner.dropped

    @property
    def estimated_tokens(self) -> int:
        return self._inner.estimated_tokens

    @property
    def malformed_events(self) -> int:
        return self._inner.malformed_events

    def last_words(self) -> bytes | None:
        return self._inner.last_words()

    async def receive(self) -> bytes | None:
        return await self._inner.receive()

    def close(self) -> None:
        self._inner.close()
        if self._this.tokens is None:
            self._truth.open -= 1
            usage = self._inner.usage
            passed_on = prompt_tokens(self._this.call.body) + self._inner.estimated_tokens
            self._this.tokens = passed_on if usage is None else usage.total


@contextmanager
def audited() -> Generator[dict[TokenBucket, int]]:
    """Every token that is taken from a bucket, and given back, while the block runs: what each one has spent."""
    spent: dict[TokenBucket, int] = {}
    take, settle = TokenBucket.take, TokenBucket.settle

    def taking(bucket: TokenBucket, n: int, now: float) -> bool:
        taken = take(bucket, n, now)
        spent[bucket] = spent.get(bucket, 0) + n * taken
        return taken

    def settling(bucket: TokenBucket, reserved: int, used: int, now: float) -> None:
        settle(bucket, reserved, used, now)
        spent[bucket] = spent.get(bucket, 0) + used - reserved

    patched: Any = TokenBucket
    patched.take, patched.settle = taking, settling
    try:
        yield spent
    finally:
        patched.take, patched.settle = take, settle


def overrun(sent: Sequence[float], limit_per_minute: int) -> float:
    """By how many requests these exceed a bucket of that limit at worst; 0 when they never do."""
    level, at, worst = float(limit_per_minute), 0.0, 0.0
    for moment in sent:
        level = min(level + (moment - at) * limit_per_minute / 60, limit_per_minute) - 1
        at = moment
        worst = max(worst, -level)
    return worst if worst > 1e-6 else 0.0
