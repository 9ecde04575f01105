"""Which requests the cache answers, and what is never kept: on virtual time, without sockets."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.config.settings import AuthMode, AuthSettings, Budget, CacheSettings, Group, Price, Routing
from infermux.errors import FailureKind, RequestKilled, UpstreamFailure
from infermux.http.caching import caching_of, emptied
from infermux.http.kept_answers import PIECE
from infermux.secret import Secret
from tests.actors._scripted import Step, provider, streams
from tests.http._cached import BODY, FAILS, ROUTING, SLOW, STREAM, WHOLE, door
from tests.http._memory import MemoryExchange

# The same again.


@pytest.mark.parametrize("step", [WHOLE, SLOW], ids=["whole", "stream"])
async def test_the_same_again_is_the_same_answer_and_asks_nobody(step: Step, autojump_clock: MockClock) -> None:
    del autojump_clock
    body = BODY if step.chunks is None else STREAM
    async with door(step) as d:
        first = await d.ask(body)
        began = trio.current_time()
        second = await d.ask(body, x_request_id="mine")
        assert trio.current_time() == began
        assert (first.cache, second.cache) == ("miss", "hit")
        assert second.data == first.data
        assert (second.status, second.whole, second.ended) == (200, first.whole, True)
        assert second.headers["content-type"] == first.headers["content-type"]
        assert second.headers["x-infermux-provider"] == "a"
        assert second.headers["x-infermux-route-group"] == "kept"
        assert second.headers["x-infermux-attempts"] == "0"
        assert second.headers["x-request-id"] == "mine"
        assert d.sent == 1
        hit = d.records[1]
        assert (hit.cache, hit.cost, hit.usage, hit.attempts, hit.provider) == ("hit", 0.0, None, (), "")
        assert (hit.group, hit.requested, hit.status, hit.stream) == ("kept", "m", 200, step.chunks is not None)


async def test_a_hit_tells_its_age_and_that_it_costs_nothing(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door() as d:
        await d.ask()
        await trio.sleep(61.5)
        hit = await d.ask()
        assert hit.headers["age"] == "61"
        assert hit.headers["x-infermux-cost"] == "0.00000000"
        assert hit.headers["x-infermux-prompt-tokens"] == "10"


async def test_an_answer_is_given_again_for_as_long_as_configured(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(cache=CacheSettings(enabled=True, ttl=60.0)) as d:
        await d.ask()
        await trio.sleep(59.9)
        assert (await d.ask()).cache == "hit"
        await trio.sleep(0.1)
        assert (await d.ask()).cache == "miss"
        assert d.sent == 2


async def test_a_first_caller_that_is_slow_to_take_it_does_not_make_an_answer_last_longer(
    autojump_clock: MockClock,
) -> None:
    del autojump_clock
    async with door(cache=CacheSettings(enabled=True, ttl=5.0)) as d, trio.open_nursery() as nursery:
        slow = MemoryExchange(BODY)
        slow.stuck = 20.0
        nursery.start_soon(d.take, slow)
        await trio.sleep(4)
        assert (await d.ask()).cache == "hit"
        await trio.sleep(2)
        assert not slow.ended
        assert (await d.ask()).cache == "miss"


async def test_a_stream_in_many_pieces_is_given_again_whole(autojump_clock: MockClock) -> None:
    del autojump_clock
    events = [b"data: %d %b\n\n" % (number, b"x" * 700) for number in range(200)]
    async with door(streams(*events)) as d:
        first = await d.ask(STREAM)
        again = await d.ask(STREAM)
        assert again.data == first.data == b"".join(events)
        assert all(chunk.endswith(b"\n\n") for chunk in again.chunks)
        assert max(map(len, again.chunks)) < PIECE + 800


async def test_a_stream_given_to_a_slow_reader_is_not_our_own_time(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(SLOW) as d:
        await d.ask(STREAM)
        slow = MemoryExchange(STREAM)
        slow.stuck = 7.0
        await d.take(slow)
        assert slow.cache == "hit"
        assert d.records[1].latency > 6.9
        assert d.records[1].overhead < 0.01


async def test_the_cache_shows_nothing_of_prompts_and_answers() -> None:
    async with door(Step(body=b'{"secret":"canary-answer"}')) as d:
        await d.ask({**BODY, "user": "canary-prompt"})
        shown = repr(d.caching)
        assert "canary" not in shown
        assert len(shown) < 1000


# What is the same.


@pytest.mark.parametrize(
    "other",
    [
        {**BODY, "temperature": 1},
        STREAM,
        {**BODY, "provider": {"order": ["a"]}},
        {"messages": BODY["messages"], "model": "m"},  # the body counts as it is written
    ],
)
async def test_another_body_is_another_request(other: Any) -> None:
    async with door() as d:
        await d.ask()
        assert (await d.ask(other)).cache == "miss"


@pytest.mark.parametrize("name", ["openai_beta", "anthropic_beta", "anthropic_version", "x_infermux_strict"])
async def test_a_header_that_changes_answers_makes_it_another_request(name: str) -> None:
    async with door() as d:
        await d.ask()
        assert (await d.ask(**{name: "true"})).cache == "miss"
        assert (await d.ask(**{name: "true"})).cache == "hit"
        assert (await d.ask(x_infermux_tags="a=b", x_infermux_timeout="5s", te="trailers")).cache == "hit"


async def test_the_same_body_at_another_endpoint_is_another_request() -> None:
    body = {**BODY, "max_tokens": 5}
    async with door() as d:
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"):
            assert (await d.ask(body, path)).cache == "miss"
            assert (await d.ask(body, path)).cache == "hit"
        anthropic = await d.ask(body, "/v1/messages", x_request_id="mine")
        assert anthropic.headers["request-id"] == "mine"
        assert "request-id" not in (await d.ask(body)).headers


async def test_callers_have_no_part_in_each_others_answers_unless_they_share() -> None:
    for shared in (False, True):
        async with door(cache=CacheSettings(enabled=True, shared=shared)) as d:
            await d.ask()
            words = [(await d.ask(x_infermux_caller=name)).cache for name in ("a", "b", "a", "b")]
            assert words == (["hit"] * 4 if shared else ["miss", "miss", "hit", "hit"])


async def test_credentials_that_are_passed_through_have_no_part_in_each_others_answers() -> None:
    secrets = [Secret("sk-caller-of-the-first-kind"), Secret("sk-caller-of-the-second-kind")]
    async with door(auth=AuthSettings(mode=AuthMode.PASSTHROUGH)) as d:
        for word in ("miss", "hit"):
            for secret in secrets:
                assert (await d.ask(authorization=f"Bearer {secret.reveal()}")).cache == word
        assert not any(secret.reveal() in repr(d.caching) for secret in secrets)


# What it is not for.


async def test_a_model_of_no_group_and_a_group_that_did_not_ask_are_not_cached() -> None:
    async with door() as d:
        answers = [await d.ask({**BODY, "model": "other"}) for _ in range(2)]
        assert [answer.cache for answer in answers] == [None, None]
        assert d.records[0].cache == ""
    async with door(routing=Routing(groups=(Group(name="g", models=("*",)),))) as d:
        assert [(await d.ask()).cache for _ in range(2)] == [None, None]


async def test_nothing_is_cached_unless_it_is_turned_on() -> None:
    async with door(cache=CacheSettings()) as d:
        assert d.inference.caching is None
        assert [(await d.ask()).cache for _ in range(2)] == [None, None]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"store": True},
        {"store": False, "previous_response_id": "resp_1"},
        {"store": False, "conversation": "conv_1"},
        {"store": False, "background": True},
    ],
)
async def test_responses_that_leave_or_need_something_at_the_provider_bypass_it(more: Any) -> None:
    async with door() as d:
        for _ in range(2):
            assert (await d.ask({"model": "m", "input": "Hello", **more}, "/v1/responses")).cache == "bypass"
        for word in ("miss", "hit"):
            plain = {"model": "m", "input": "Hello", "store": False, "background": False, "conversation": None}
            assert (await d.ask(plain, "/v1/responses")).cache == word


async def test_a_caller_may_keep_out_of_it_or_ask_anew() -> None:
    bodies = [Step(body=b'{"number":%d}' % number) for number in range(4)]
    async with door(*bodies) as d:
        aside = await d.ask(cache_control="max-age=1, No-Store")
        assert (aside.cache, aside.data) == ("bypass", bodies[0].body)
        assert (await d.ask()).data == bodies[1].body
        anew = await d.ask(cache_control="no-cache")
        assert (anew.cache, anew.data) == ("bypass", bodies[2].body)
        again = await d.ask(cache_control="max-stale")
        assert (again.cache, again.data) == ("hit", bodies[2].body)


# What is never kept.


@pytest.mark.parametrize(
    "step",
    [
        FAILS,
        Step(failure=UpstreamFailure(FailureKind.SERVER_ERROR, "no", status=500)),
        streams(b"data: a\n\n", breaks=UpstreamFailure(FailureKind.BROKEN, "cut")),
        Step(bug=ValueError("a bug")),
    ],
    ids=["400", "500", "broken stream", "bug"],
)
async def test_an_error_is_never_kept(step: Step, autojump_clock: MockClock) -> None:
    del autojump_clock
    body = BODY if step.chunks is None else STREAM
    async with door(step) as d:
        failed = await d.ask(body)
        assert failed.status >= 400 or b"error" in failed.data
        assert len(d.caching.cache) == 0
        d.wire.script = [streams(b"data: whole\n\n")] if body is STREAM else []
        assert (await d.ask(body)).cache != "hit"


async def test_a_stream_whose_caller_left_is_never_kept(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(SLOW) as d, trio.open_nursery() as nursery:
        leaving = MemoryExchange(STREAM)
        nursery.start_soon(d.take, leaving)
        await trio.sleep(1.5)
        leaving.leave()
        await trio.sleep(0.1)
        assert leaving.chunks
        assert len(d.caching.cache) == 0


async def test_what_is_too_large_is_passed_on_and_not_kept(autojump_clock: MockClock) -> None:
    del autojump_clock
    small = CacheSettings(enabled=True, max_bytes=64 * 1024)
    event = b"data: %b\n\n" % (b"x" * 4000)
    async with door(streams(event, event, event), Step(body=b"x" * 9000), cache=small) as d:
        assert (await d.ask(STREAM)).data == event * 3
        assert len((await d.ask()).data) == 9000
        assert (len(d.caching.cache), d.caching.cache.tally.too_large) == (0, 2)


async def test_a_request_that_was_killed_gets_no_hit(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door() as d, trio.open_nursery() as nursery:
        await d.ask()
        receiving = MemoryExchange(BODY)
        receiving.slow = 1.0
        nursery.start_soon(d.take, receiving)
        await trio.sleep(0.5)
        assert next(iter(d.inference.running)).kill(RequestKilled("over"))
        await trio.sleep(1)
        assert receiving.status == RequestKilled.status


async def test_a_hit_on_its_way_out_cannot_be_killed_any_more(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(SLOW) as d, trio.open_nursery() as nursery:
        await d.ask(STREAM)
        slow = MemoryExchange(STREAM)
        slow.stuck = 5.0
        nursery.start_soon(d.take, slow)
        await trio.sleep(1)
        assert not next(iter(d.inference.running)).kill(RequestKilled("over"))
        await trio.sleep(5)
        assert slow.ended


# Another configuration, and emptying it.


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({"shutdown_grace": 5.0}, True),
        ({"providers": (provider("a", "m", "n"),)}, False),
        ({"routing": attrs.evolve(ROUTING, fallbacks={"m": ("other",)})}, False),
        ({"cache": CacheSettings(enabled=True, ttl=1.0)}, False),
    ],
)
async def test_a_reload_keeps_the_answers_unless_they_may_be_others_now(change: dict[str, Any], stays: bool) -> None:
    async with door() as d:
        await d.ask()
        await d.fleet.reload(attrs.evolve(d.fleet.config, **change))
        d.inference.caching = caching_of(d.fleet, d.inference.caching)
        assert (await d.ask()).cache == ("hit" if stays else "miss")
        await d.fleet.reload(attrs.evolve(d.fleet.config, cache=CacheSettings()))
        assert caching_of(d.fleet, d.inference.caching) is None


async def test_what_is_under_way_when_it_is_emptied_is_not_kept_but_reaches_those_who_wait(
    autojump_clock: MockClock,
) -> None:
    del autojump_clock
    async with door(WHOLE, attrs.evolve(WHOLE, body=b'{"id":"new"}')) as d, trio.open_nursery() as nursery:
        before = [MemoryExchange(BODY) for _ in range(3)]
        nursery.start_soon(d.together, before)
        await trio.sleep(0.5)
        d.inference.caching = emptied(d.fleet, d.inference.caching)
        after = await d.ask()
        assert {exchange.data for exchange in before} == {WHOLE.body}
        assert (after.cache, after.data) == ("miss", b'{"id":"new"}')
        assert d.caching.cache.tally.misses == 2


async def test_a_hit_costs_a_budget_nothing_also_one_that_is_used_up() -> None:
    prices = {"a": {"m": Price(per_request=1.0)}}
    async with door(budgets=(Budget(limit_usd=1.5),), pricing=prices) as d:
        assert (await d.ask()).status == 200
        assert [(await d.ask()).cache for _ in range(3)] == ["hit"] * 3
        assert d.fleet.treasury.statement()[0]["spent_usd"] == 1.0
        assert (await d.ask(STREAM)).status == 429
        assert (await d.ask()).cache == "hit"
