"""A case of the wall placed into a configuration, and what is held of what came of it, in whichever world."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import attrs

from tests.e2e.faults._table import SAID, SLACK, Case, Saw, Upstream, as_claude, scaled
from tests.mocks.anthropic_upstream import KEY as CLAUDE_KEY
from tests.mocks.anthropic_upstream import AnthropicUpstream
from tests.mocks.memory_net import MemoryNet
from tests.mocks.openai_upstream import KEY, OpenAIUpstream

Mock = OpenAIUpstream | AnthropicUpstream
NOT_JSON = "not_json"  # where a client would crash
PRICE = {"input_per_million": 1000.0, "output_per_million": 2000.0}


@attrs.frozen(kw_only=True)
class Result:
    """What a caller saw of one request. `headers` are lower case; `events` of its stream, as they came."""

    code: str | None
    status: int
    said: str
    seconds: float
    headers: dict[str, str]
    finished: bool = True
    events: tuple[str, ...] = ()


class World(Protocol):
    """A router that can be asked."""

    async def ask(self, model: str, *, stream: bool) -> Result: ...


@attrs.frozen(kw_only=True)
class Run:
    """One case in one world."""

    case: Case
    stream: bool
    rescue: bool
    result: Result
    attempts: tuple[int, ...]

    @property
    def expected(self) -> Saw:
        expected = self.case.expected(stream=self.stream, rescue=self.rescue)
        assert expected is not None, "only what is expected is run"
        return expected


@attrs.define(eq=False)
class Placed:
    """A case, streamed or not, with the upstreams of its own that it was given."""

    case: Case
    stream: bool
    upstreams: list[Mock]

    @property
    def model(self) -> str:
        return f"{self.case.slug}-{'stream' if self.stream else 'whole'}"

    @property
    def attempts(self) -> tuple[int, ...]:
        return tuple(
            len(upstream.messages if isinstance(upstream, AnthropicUpstream) else upstream.chats)
            for upstream in self.upstreams
        )

    def run(self, result: Result, *, rescue: bool) -> Run:
        return Run(case=self.case, stream=self.stream, rescue=rescue, result=result, attempts=self.attempts)

    def providers(self, scale: float) -> list[dict[str, Any]]:
        return [
            declared(f"{self.model}-{number}", upstream, settings, self.model, scale)
            for number, (upstream, settings) in enumerate(zip(self.upstreams, self.case.providers, strict=True))
        ]


def declared(name: str, upstream: Mock, settings: Upstream, model: str, scale: float) -> dict[str, Any]:
    """A provider of the configuration."""
    said = {name: f"{seconds * scale * 1000:.0f}ms" for name, seconds in settings.settings.items()}
    idle = said.pop("idle", None)
    return {
        "name": name,
        "type": "anthropic" if settings.claude else "openai",
        "api_key": CLAUDE_KEY if settings.claude else KEY,
        "base_url": upstream.base_url,
        "models": [longer(model) if settings.longer else model],
        "health_check": {"disabled": True},
        "timeouts": {} if idle is None else {"idle": idle},
        **said,
    }


def longer(model: str) -> str:
    """The name of the model for prompts that are too long for `model`."""
    return f"{model}-long"


def configuration(placed: Sequence[Placed], scale: float, *, rescue: bool) -> dict[str, Any]:
    """The file for all these cases at once: none has a provider or a model of another."""
    providers = [provider for each in placed for provider in each.providers(scale)]
    fallbacks = {each.model: [longer(each.model)] for each in placed if any(one.longer for one in each.case.providers)}
    return {
        "providers": providers,
        "routing": {"strategy": "priority", "context_fallbacks": fallbacks},
        "retry": {
            "budget_min_per_second": 1000,
            "wait_for_retry_after": f"{3000 * scale:.0f}ms",
            "backoff": {"base": f"{100 * scale:.0f}ms", "max": f"{2000 * scale:.0f}ms"},
        },
        "pricing": {provider["name"]: dict.fromkeys(provider["models"], PRICE) for provider in providers},
        **({"rescue": "continue"} if rescue else {}),
    }


async def place(
    stack: AsyncExitStack, case: Case, stream: bool, *, scale: float, net: MemoryNet | None = None
) -> Placed:
    """Start the upstreams of a case."""
    upstreams: list[Mock] = []
    for each in case.providers:
        rest = scaled(each.rest, scale)
        if each.claude:
            claude = AnthropicUpstream(any_model=True, default=as_claude(rest), net=net)
            upstreams.append(await stack.enter_async_context(claude))
            continue
        upstream = OpenAIUpstream(any_model=True, default=rest, net=net)
        upstream.script.extend(scaled(reply, scale) for reply in each.script)
        upstreams.append(await stack.enter_async_context(upstream))
    return Placed(case, stream, upstreams)


def asked(cases: Sequence[Case]) -> list[tuple[Case, bool]]:
    """The cases, each for every way to ask in which there is something to see."""
    each = [(case, stream) for case in cases for stream in (False, True)]
    return [(case, stream) for case, stream in each if case.expected(stream=stream, rescue=False) is not None]


def told(said: str) -> str:
    """How much of the answer a text is, in words."""
    tokens = said.split()
    in_order = tokens == SAID.split()[: len(tokens)]
    return f"{len(tokens)} tokens" if in_order else repr(said)


def wrong(run: Run, *, scale: float = 1.0, late: float = 0.0) -> list[str]:
    """What a run came to otherwise than its case says."""
    result, expected = run.result, run.expected
    found: list[str] = []

    def hold(what: str, is_: object, wanted: object) -> None:
        if is_ != wanted:
            found.append(f"{what} is {is_!r}, not {wanted!r}")

    hold("the code", result.code, expected.code)
    hold("the status", result.status, expected.status)
    hold("what was said", told(result.said), told(expected.said))
    hold("the attempts", run.attempts, expected.attempts)
    if result.code is None:
        hold("the finish reason's being there", result.finished, True)
    if expected.retry_after is not None:
        least = expected.retry_after * scale
        asked = float(result.headers.get("retry-after", "0"))
        if not least - 1 <= asked <= least + 1:
            found.append(f"Retry-After is {asked}, not {least}")
    least = expected.seconds * scale
    if not least - 0.01 <= result.seconds <= least + SLACK * scale + late:
        found.append(f"it took {result.seconds:.3f} s, not {least:.3f}")
    return found
