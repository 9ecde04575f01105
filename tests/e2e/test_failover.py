"""Several providers of which some fail: who answers, how often each upstream is asked, and that no limit is passed."""

from __future__ import annotations

import itertools
import json
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import openai
import pytest
import trio

from tests._turns import within
from tests.e2e._router import EITHER_WAY, HELLO, SAID, gather, in_order, provider, refused_url, routing
from tests.http._caller import Reply as BareReply
from tests.http._caller import calling
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

SILENCE = {"timeout": "1s"}
NEVER_OPENS = {"consecutive_failures": 1000, "min_requests": 1000}


async def bare_chat(port: int, **more: Any) -> BareReply:
    """A chat completion on a connection of its own: httpx would not open two hundred."""
    async with calling(port) as caller:
        body = json.dumps({"model": "gpt-4o", "messages": HELLO, **more}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        await caller.say(head + body)
        return await caller.reply()


def answered_by(answers: list[httpx.Response]) -> Counter[str]:
    return Counter(answer.headers["x-infermux-provider"] for answer in answers)


@asynccontextmanager
async def killable() -> AsyncGenerator[tuple[OpenAIUpstream, trio.CancelScope]]:
    """An upstream, and the scope whose cancelling kills it with all its connections."""
    upstream = OpenAIUpstream()
    started = trio.Event()
    scope = trio.CancelScope()

    async def live() -> None:
        with scope:
            async with upstream:
                started.set()
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        await started.wait()
        yield upstream, scope
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_with_one_killed_one_hanging_and_one_at_its_limit_every_call_gets_the_right_answer(way: str) -> None:
    breaker = {"circuit_breaker": NEVER_OPENS}
    async with (
        killable() as (first, kill),
        OpenAIUpstream() as second,
        OpenAIUpstream() as third,
        routing(
            provider("first", first, **breaker),
            provider("second", second, **SILENCE, **breaker),
            provider("third", third, **breaker),
            way=way,
            routing=in_order(),
        ) as router,
        router.sdk() as sdk,
    ):
        turns = itertools.count()

        async def ask() -> str:
            if next(turns) % 2:
                answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
                return answer.choices[0].message.content or ""
            chunks = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        async def counts() -> tuple[int, int, int]:
            assert await gather(5, ask) == [SAID] * 5
            return len(first.chats), len(second.chats), len(third.chats)

        assert await counts() == (5, 0, 0)
        kill.cancel()
        assert await counts() == (5, 5, 0)
        second.default = Reply(hang=True)
        async with within(1.9):  # the hanging one is waited for once
            assert await counts() == (5, 10, 5)
        third.script.append(Reply(status=429, headers=(("Retry-After-Ms", "3000"),)))
        with pytest.raises(openai.APIStatusError) as caught:
            await ask()
        told_at = trio.current_time()
        assert caught.value.status_code in (503, 504)
        assert "second" in caught.value.message
        limited = len(third.chats)
        with pytest.raises(openai.APIStatusError):
            await ask()
        assert len(third.chats) == limited  # it is left alone for the time it asked for
        await trio.sleep_until(told_at + 3)
        assert await ask() == SAID
        assert len(third.chats) == limited + 1


async def test_when_every_provider_answers_429_the_caller_gets_it_with_the_shortest_wait() -> None:
    async with (
        OpenAIUpstream(default=Reply(status=429, headers=(("Retry-After", "7"),))) as one,
        OpenAIUpstream(default=Reply(status=429, headers=(("Retry-After", "4"),))) as two,
        routing(provider("one", one), provider("two", two)) as router,
    ):
        for _ in range(2):  # by the providers' answers, then by what is known of them
            answer = await router.chat()
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
            assert answer.headers["retry-after"] == "4"
        assert (len(one.chats), len(two.chats)) == (1, 1)


async def test_after_the_recovery_window_exactly_one_request_is_the_half_open_probe() -> None:
    breaker = {"consecutive_failures": 3, "recovery_window": "500ms"}
    async with (
        OpenAIUpstream(default=Reply(status=500)) as failing,
        OpenAIUpstream() as good,
        routing(
            provider("failing", failing, circuit_breaker=breaker), provider("good", good), routing=in_order()
        ) as router,
    ):
        for _ in range(6):
            assert answered_by([await router.chat()]) == {"good": 1}
        assert len(failing.chats) == 3
        assert (await router.provider("failing"))["circuit"]["state"] == "open"
        failing.default = Reply(status=500, delay=0.15)  # the probe fails, slowly
        await trio.sleep(0.5)
        assert answered_by(await gather(40, router.chat)) == {"good": 40}
        probe, *later = failing.chats[3:]
        assert probe.finished_at is not None
        assert all(request.at >= probe.finished_at + 0.5 for request in later)
        failing.default = Reply(delay=0.15)
        await trio.sleep(0.65)
        before = len(failing.chats)
        answers = await gather(40, router.chat)
        probe, *later = failing.chats[before:]
        assert probe.finished_at is not None
        assert all(request.at >= probe.finished_at for request in later)
        assert answered_by(answers)["failing"] == 1 + len(later)
        failing.default = Reply()
        for _ in range(5):  # one success has closed it; many at once it gets only after a slow start
            assert answered_by([await router.chat()]) == {"failing": 1}


async def test_no_request_passes_the_limit_under_two_hundred_concurrent_callers() -> None:
    async with (
        OpenAIUpstream(default=Reply(delay=0.02)) as upstream,
        routing(provider("one", upstream, rate_limits={"requests_per_minute": 60})) as router,
    ):
        started = trio.current_time()
        answers = await gather(200, partial(bare_chat, router.port))
        took = trio.current_time() - started
        assert len(upstream.chats) <= 60 + 60 * took / 60
        assert len(upstream.chats) >= 60
        assert Counter(answer.status for answer in answers)[200] == len(upstream.chats)
        refused = [answer for answer in answers if answer.status != 200]
        assert {answer.headers["x-infermux-error"] for answer in refused} == {"rate_limited"}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert b"one: requests_per_minute" in refused[0].body


async def test_no_token_passes_the_limit_under_two_hundred_concurrent_callers() -> None:
    async with (
        OpenAIUpstream(default=Reply(delay=0.02, usage=(20, 30))) as upstream,
        routing(provider("one", upstream, rate_limits={"tokens_per_minute": 3000})) as router,
    ):
        started = trio.current_time()
        waves = [await gather(200, partial(bare_chat, router.port, max_tokens=80)) for _ in range(2)]
        took = trio.current_time() - started
        assert 50 * len(upstream.chats) <= 3000 + 3000 * took / 60
        answered = [sum(answer.status == 200 for answer in answers) for answers in waves]
        assert answered[0] >= 25  # each reserves its prompt and 80 more,
        assert answered[1] >= 5  # and what it did not use comes back
        assert {answer.status for answers in waves for answer in answers} == {200, 429}


async def test_what_is_over_one_providers_limit_goes_to_the_other() -> None:
    async with (
        OpenAIUpstream() as small,
        OpenAIUpstream() as large,
        routing(
            provider("small", small, rate_limits={"requests_per_minute": 6}),
            provider("large", large),
            routing=in_order(),
        ) as router,
    ):
        answers = await gather(30, router.chat)
        assert {answer.status_code for answer in answers} == {200}
        assert len(small.chats) == 6
        assert len(large.chats) == 24


async def test_no_more_than_max_concurrent_are_under_way_at_once() -> None:
    async with (
        OpenAIUpstream(default=Reply(delay=0.05)) as small,
        OpenAIUpstream() as large,
        routing(
            provider("small", small, rate_limits={"max_concurrent": 4}), provider("large", large), routing=in_order()
        ) as router,
    ):
        await gather(50, router.chat)
        assert small.peak == 4
        assert len(small.chats) + len(large.chats) == 50


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=500),
        Reply(status=503),
        Reply(status=529),
        Reply(reset=True),
        Reply(cut_after=0),
        Reply(hang=True),
        Reply(body=b"<html>it works!</html>", content_type="text/html"),
    ],
    ids=["500", "503", "529", "reset", "cut", "hang", "html"],
)
async def test_a_failure_before_the_first_content_is_replaced_unseen(fault: Reply) -> None:
    async with (
        OpenAIUpstream(default=fault) as bad,
        OpenAIUpstream() as good,
        routing(provider("bad", bad, timeout="100ms"), provider("good", good), routing=in_order()) as router,
    ):
        for stream in (False, True):
            answer = await router.chat(stream=stream)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-infermux-provider"] == "good"
            assert answer.headers["x-infermux-attempts"] == "2"
            assert SAID.split()[0] in answer.text
            assert "error" not in answer.text
        assert len(bad.chats) == 2


async def test_attempts_are_bounded_over_providers() -> None:
    async with OpenAIUpstream(default=Reply(status=500)) as bad:
        providers = [provider(f"p{number}", bad) for number in range(6)]
        async with routing(*providers, retry={"max_attempts": 3}) as router:
            answer = await router.chat()
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
            assert answer.headers["x-infermux-attempts"] == "3"
            assert len(bad.chats) == 3


async def test_a_model_that_is_missing_at_one_provider_is_set_aside_there() -> None:
    async with (
        OpenAIUpstream(models=["gpt-4o-mini"]) as lacking,
        OpenAIUpstream() as having,
        routing(provider("lacking", lacking), provider("having", having), routing=in_order()) as router,
    ):
        assert answered_by(await gather(1, router.chat)) == {"having": 1}
        assert answered_by(await gather(5, router.chat)) == {"having": 5}
        assert len(lacking.chats) == 1
        assert answered_by([await router.chat("gpt-4o-mini")]) == {"lacking": 1}


async def test_all_down_says_why_for_each_provider() -> None:
    breaker = {"consecutive_failures": 1}
    async with (
        OpenAIUpstream(default=Reply(status=500)) as bad,
        routing(
            provider("dead", refused_url(), circuit_breaker=breaker), provider("bad", bad, circuit_breaker=breaker)
        ) as router,
    ):
        first = await router.chat()
        assert (first.status_code, first.json()["error"]["code"]) == (502, "upstream_error")
        second = await router.chat()
        assert (second.status_code, second.json()["error"]["code"]) == (503, "no_healthy_providers")
        assert "dead: circuit_open" in second.json()["error"]["message"]
        assert "bad: circuit_open" in second.json()["error"]["message"]


async def test_a_provider_is_used_again_after_it_came_back() -> None:
    breaker = {"consecutive_failures": 2, "recovery_window": "200ms"}
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    upstream = OpenAIUpstream(port=port)
    async with OpenAIUpstream() as other:
        first = provider("first", f"http://127.0.0.1:{port}/v1", circuit_breaker=breaker)
        async with routing(first, provider("other", other), routing=in_order()) as router:
            assert answered_by(await gather(5, router.chat)) == {"other": 5}
            async with upstream:
                await trio.sleep(0.25)
                assert answered_by([await router.chat()]) == {"first": 1}
                for _ in range(3):  # slow start: one after the other
                    assert answered_by([await router.chat()]) == {"first": 1}


async def test_requests_that_arrive_before_the_first_probe_wait_for_it() -> None:
    check = {"health_check": {"interval": "60s", "timeout": "2s"}}
    async with (
        OpenAIUpstream(default=Reply(delay=0.1)) as upstream,
        routing(provider("one", upstream, **check)) as router,
    ):
        answers = await gather(5, router.chat)
        assert {answer.status_code for answer in answers} == {200}
        assert len(upstream.chats) == 6
        await router.wait_for("one", health="healthy")


async def test_a_provider_whose_probe_fails_is_not_asked() -> None:
    check = {"health_check": {"interval": "60s", "timeout": "200ms"}}
    async with (
        OpenAIUpstream(default=Reply(hang=True)) as silent,
        OpenAIUpstream() as good,
        routing(provider("silent", silent, **check), provider("good", good, **check), routing=in_order()) as router,
    ):
        await router.wait_for("silent", health="unhealthy")
        assert answered_by(await gather(5, router.chat)) == {"good": 5}
        assert len(silent.chats) == 1
