"""What a request leaves: nothing that only the collector can free, which comes rarely and would find bodies in it."""

from __future__ import annotations

import gc
import json
import types
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from typing import Any

import pytest
import trio

from infermux.simulation.virtual import run_virtually
from tests.e2e._router import HELLO, provider
from tests.e2e.faults._memory import HEAD, InMemory, in_memory
from tests.http._caller import Caller
from tests.mocks.memory_net import MemoryNet
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

Ask = Callable[[InMemory], Awaitable[None]]


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": HELLO, **fields}).encode()


def refusing(status: int) -> Reply:
    return Reply(status=status, body=b'{"error": {"message": "no"}}')


CASES = {
    "answered": (Reply(), chat(), 200),
    "streamed": (Reply(), chat(stream=True), 200),
    "a stream that breaks": (Reply(cut_after=2), chat(stream=True), 200),
    "no JSON": (Reply(), b'{"x": "', 400),
    "no messages": (Reply(), chat(messages=[]), 400),
    "no such model": (Reply(), chat(model="none"), 404),
    "refused by the provider": (refusing(400), chat(), 400),
    "limited by the provider": (refusing(429), chat(), 429),
    "failed at the provider": (refusing(500), chat(), 502),
    "failed at the provider, a stream": (refusing(500), chat(stream=True), 502),
}

SLOWLY = Reply(tokens=tuple(f" word{number}" for number in range(20)), interval=0.05)
LEFT = {  # what was asked for, and what had come by then
    "a stream": (chat(stream=True), b" word3"),
    "a stream before its first content": (chat(stream=True), b""),
    "a whole answer": (chat(), b""),
}
HEDGED = {"hedge": {"enabled": True, "after": "100ms", "max_extra_ratio": 1.0}}


@pytest.fixture(autouse=True, scope="module")
def by_hand() -> Generator[None]:
    """The collector comes when it is called, and leaves alone what was there before."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.parametrize("case", CASES)
def test_a_request_leaves_no_cycle(case: str) -> None:
    reply, body, status = CASES[case]

    async def asks(router: InMemory) -> None:
        assert await _ask(router, body) == status

    run_virtually(partial(_asked_and_looked, reply, asks), seed=1)


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.parametrize("more", [{}, {"rescue": "continue"}, HEDGED], ids=["", "rescued", "hedged"])
def test_a_caller_that_leaves_leaves_no_cycle(case: str, more: dict[str, Any]) -> None:
    body, mark = LEFT[case]

    async def leaves(router: InMemory) -> None:
        async with await router.net.open_stream(router.port) as stream:
            caller = Caller(stream)
            await caller.say(HEAD % (len(body), b"") + body)
            if mark:
                await caller.until(mark)
            else:
                await trio.sleep(0.02)

    run_virtually(partial(_asked_and_looked, SLOWLY, leaves, more), seed=1)


async def _asked_and_looked(reply: Reply, ask: Ask, more: Mapping[str, Any] = {}) -> None:
    net = MemoryNet()
    retry = {"max_attempts": 2, "wait_for_retry_after": "0s"}
    async with OpenAIUpstream(default=reply, net=net) as upstream:
        names = ("one", "two") if more else ("one",)
        declared = [provider(name, upstream, health_check={"disabled": True}) for name in names]
        async with in_memory(net, {"providers": declared, "retry": retry, **more}) as router:
            router.fleet.journal.listen(lambda record: None)
            await ask(router)
            await router.settle()
            gc.collect()  # what the first one leaves is of the connections that were made
            await ask(router)
            await router.settle()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            gc.set_debug(0)
            found, gc.garbage[:] = list(gc.garbage), []
            left = [each for each in found if isinstance(each, BaseException | types.FrameType)]
            assert not left, f"{len(found)} objects are left, among them {left}"


def test_a_decision_that_is_kept_keeps_no_body() -> None:
    """What a provider could not be given is told by an error, whose frames have the body."""
    run_virtually(_passed_over_and_looked, seed=1)


async def _passed_over_and_looked() -> None:
    net = MemoryNet()
    async with OpenAIUpstream(net=net) as upstream:
        checked = {"health_check": {"disabled": True}}
        other = {"name": "other", "type": "anthropic", "api_key": "key", "models": ["gpt-4o"], **checked}
        configured = {"providers": [other, provider("one", upstream, **checked)], "routing": {"strategy": "priority"}}
        async with in_memory(net, configured) as router:
            router.fleet.journal.listen(lambda record: None)
            assert await _ask(router, chat(logit_bias={"1": 1}), b"X-Infermux-Strict: true\r\n") == 200
            (decision,) = router.inference.decisions.latest(1)
            assert list(decision.passed_over) == [("other", "gpt-4o")]
            assert [each.__traceback__ for each in decision.passed_over.values()] == [None]


async def _ask(router: InMemory, body: bytes, headers: bytes = b"") -> int:
    async with await router.net.open_stream(router.port) as stream:
        caller = Caller(stream)
        await caller.say(HEAD % (len(body), headers) + body)
        return (await caller.reply()).status
