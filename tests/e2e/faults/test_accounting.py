"""What is charged after a failure: to each provider what it was made to do, to the caller what answered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import attrs
import pytest

from infermux.providers.peek import prompt_tokens
from infermux.simulation.virtual import run_virtually
from tests.campaign._truth import audited
from tests.e2e.faults._memory import in_memory, request_body
from tests.e2e.faults._runs import PRICE, Placed, Result, configuration, place
from tests.e2e.faults._sockets import over_sockets
from tests.e2e.faults._table import CUT_AT, SAID, SCALE, USAGE, Case, Upstream, but, limited, whole
from tests.mocks.memory_net import MemoryNet
from tests.mocks.openai_answers import Reply

WHOLE = sum(USAGE)


def case(name: str, first: Reply, **settings: float) -> Case:
    provider = Upstream(rest=first, settings=settings)
    return Case(name=name, providers=(provider, Upstream()), whole=whole(1, 1), stream=whole(1, 1))


@attrs.frozen
class Charged:
    """`tokens`: what each provider's bucket has spent. `prompt`: what the router takes the prompt for by itself."""

    result: Result
    tokens: Mapping[int, int]
    prompt: int


async def charge(
    case: Case, *, stream: bool, rescue: bool = False, unreachable: bool = False, headers: bytes = b""
) -> Charged:
    """Ask once, and look when everything is over. `unreachable`: connecting to the first provider takes for ever."""
    async with AsyncExitStack() as stack:
        net = MemoryNet()
        placed = await place(stack, case, stream, scale=1.0, net=net)
        file = configuration([placed], 1.0, rescue=rescue)
        for provider in file["providers"]:
            provider["rate_limits"] = {"tokens_per_minute": 100_000}
        with audited() as spent:
            async with in_memory(net, file) as world:
                net.unanswered.update([placed.upstreams[0].port] if unreachable else [])
                result = await world.ask(placed.model, stream=stream, headers=headers)
                await world.settle()
                buckets = [member.gate.tokens for member in world.fleet.members.values()]
        tokens = {number: spent.get(bucket, 0) for number, bucket in enumerate(buckets) if bucket is not None}
        return Charged(result, tokens, prompt_tokens(request_body(placed.model, stream=stream)))


def charged(case: Case, *, stream: bool = False, **more: Any) -> Charged:
    return run_virtually(partial(charge, case, stream=stream, **more), seed=1)


@pytest.mark.parametrize(
    ("name", "first", "reads_prompt"),
    [
        ("500", Reply(status=500), False),
        ("429", limited(30), False),
        ("reset", Reply(reset=True), False),
        ("silence", Reply(hang=True), True),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_after_a_fallback_each_provider_has_spent_what_it_did(
    name: str, first: Reply, reads_prompt: bool, stream: bool
) -> None:
    found = charged(case(name, first, timeout=10.0), stream=stream)
    assert found.tokens == {0: found.prompt if reads_prompt else 0, 1: WHOLE}
    assert found.result.headers["x-infermux-provider"].endswith("-1")


def test_the_caller_is_told_what_the_answer_cost_not_what_the_failure_did() -> None:
    holds_cost(charged(case("500", Reply(status=500))).result)


@pytest.mark.slow
async def test_and_so_it_is_over_sockets() -> None:
    async with AsyncExitStack() as stack:
        placed: Placed = await place(stack, case("500", Reply(status=500)), False, scale=SCALE)
        world = await stack.enter_async_context(over_sockets(configuration([placed], SCALE, rescue=False)))
        holds_cost(await world.ask(placed.model, stream=False))


def holds_cost(result: Result) -> None:
    prompt, completion = USAGE
    assert (result.headers["x-infermux-prompt-tokens"], result.headers["x-infermux-completion-tokens"]) == ("20", "60")
    cost = (prompt * PRICE["input_per_million"] + completion * PRICE["output_per_million"]) / 1e6
    assert float(result.headers["x-infermux-cost"]) == pytest.approx(cost)
    assert result.headers["x-infermux-attempts"] == "2"


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_was_not_reached_has_spent_nothing_whoever_gave_up(stream: bool) -> None:
    given_up = charged(case("far away", but()), stream=stream, unreachable=True, headers=b"X-Infermux-Timeout: 1s\r\n")
    assert given_up.result.code == "deadline_exceeded"
    assert given_up.result.seconds == pytest.approx(1.0)
    assert given_up.tokens == {0: 0, 1: 0}
    assert charged(case("far away", but()), stream=stream, unreachable=True).tokens == {0: 0, 1: WHOLE}


def test_a_stream_that_breaks_has_spent_what_it_said() -> None:
    found = charged(case("cut", but(cut_after=CUT_AT)), stream=True)
    assert found.tokens == {0: found.prompt + CUT_AT, 1: 0}


def test_a_rescued_stream_is_paid_for_at_both_providers() -> None:
    found = charged(case("rescued", but(cut_after=CUT_AT)), stream=True, rescue=True)
    assert found.result.said == SAID
    assert found.tokens == {0: found.prompt + CUT_AT, 1: WHOLE}, "the second one was given the first 40 tokens to read"
