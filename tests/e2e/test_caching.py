"""The cache of answers over sockets, as both SDKs and an operator see it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests._turns import within
from tests.e2e._claude import CLAUDE, WEATHER, chat_calls, claude_provider, claude_sdk
from tests.e2e._router import EITHER_WAY, HELLO, SAID, Router, gather, in_order, provider, routing, until
from tests.mocks.anthropic_upstream import AnthropicUpstream, Tool
from tests.mocks.anthropic_upstream import Reply as ClaudeReply
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

GROUPS = {"groups": [{"name": "kept", "models": ["gpt-4o", "claude-*"], "cache": True}]}
KEPT: dict[str, Any] = {"cache": {"enabled": True}, "routing": GROUPS}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER["input_schema"]}}
CANARY = "canary-in-a-prompt-7731"


async def raw_stream(router: Router, **more: Any) -> tuple[httpx.Headers, bytes]:
    answer = await router.chat(stream=True, **more)
    assert answer.status_code == 200, answer.text
    return answer.headers, answer.content


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_hit_is_the_first_answer_byte_for_byte_whole_and_streamed(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way, **KEPT) as router:
        first, second = [await router.chat() for _ in range(2)]
        assert second.content == first.content
        assert [answer.headers["x-infermux-cache"] for answer in (first, second)] == ["miss", "hit"]
        assert second.headers["x-infermux-provider"] == "one"
        assert second.headers["x-infermux-attempts"] == "0"
        assert second.headers["x-request-id"] != first.headers["x-request-id"]
        assert second.headers["x-infermux-completion-tokens"] == "5"
        begun, again = [await raw_stream(router) for _ in range(2)]
        assert again[1] == begun[1]
        assert again[0]["content-type"] == begun[0]["content-type"]
        assert [headers["x-infermux-cache"] for headers, _ in (begun, again)] == ["miss", "hit"]
        assert len(upstream.chats) == 2
        assert "x-infermux-cache" not in (await router.chat("gpt-4o-mini")).headers


async def test_the_openai_sdk_folds_a_stream_given_again_to_the_same() -> None:
    calls = [("call_1", "get_weather", '{"place": "Pau"}'), ("call_2", "get_weather", '{"place": "Lyon"}')]
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), **KEPT) as router,
        router.sdk() as sdk,
    ):
        upstream.script += (chat_calls(*calls, stream=True), chat_calls(*calls, stream=False))
        folded = list[Any]()
        for _ in range(2):
            async with sdk.chat.completions.stream(model="gpt-4o", messages=HELLO, tools=[TOOL]) as stream:
                folded.append(await stream.get_final_completion())
        assert folded[0] == folded[1]
        whole = [await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[TOOL]) for _ in range(2)]
        assert whole[0] == whole[1]
        for answer in [folded[1], whole[1]]:
            found: Any = answer.choices[0].message.tool_calls
            assert [(call.id, call.function.arguments) for call in found] == [(id_, said) for id_, _, said in calls]
        assert len(upstream.chats) == 2


async def test_the_anthropic_sdk_has_its_message_again_whole_and_streamed() -> None:
    reply = ClaudeReply(thinking=("Where", "?"), tokens=("It", " is"), tools=(Tool(input={"place": "Pau"}),))
    think: Any = {"type": "enabled", "budget_tokens": 1024}
    ask: Any = {"model": CLAUDE, "max_tokens": 2048, "thinking": think, "tools": [WEATHER], "messages": HELLO}
    async with (
        AnthropicUpstream() as upstream,
        routing(claude_provider("one", upstream), **KEPT) as router,
        claude_sdk(router) as sdk,
    ):
        upstream.script += (reply, reply)
        raw: list[Any] = [await sdk.messages.with_raw_response.create(**ask) for _ in range(2)]
        assert [each.headers["x-infermux-cache"] for each in raw] == ["miss", "hit"]
        assert raw[1].headers["request-id"] == raw[1].headers["x-request-id"] != raw[0].headers["request-id"]
        messages = [await each.parse() for each in raw]
        assert messages[0] == messages[1]
        folded = list[Any]()
        for _ in range(2):
            async with sdk.messages.stream(**ask) as stream:
                folded.append(await stream.get_final_message())
        assert folded[0] == folded[1]
        assert [block.type for block in folded[1].content] == ["thinking", "text", "tool_use"]
        assert len(upstream.messages) == 2
        counts = [await sdk.messages.count_tokens(model=CLAUDE, messages=HELLO) for _ in range(2)]
        assert counts[0] == counts[1]


async def test_a_translated_answer_and_embeddings_are_kept_too() -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(
            provider("one", upstream, models=["gpt-4o", "text-embedding-3-small"], model_aliases={CLAUDE: "gpt-4o"}),
            cache={"enabled": True},
            routing={"groups": [{"name": "kept", "models": ["*"], "cache": True}]},
        ) as router,
        claude_sdk(router) as claude,
        router.sdk() as sdk,
    ):
        messages = [await claude.messages.create(model=CLAUDE, max_tokens=9, messages=HELLO) for _ in range(2)]
        assert messages[0] == messages[1]
        answers = [
            await sdk.embeddings.with_raw_response.create(model="text-embedding-3-small", input="Hello")
            for _ in range(2)
        ]
        assert [answer.headers["x-infermux-cache"] for answer in answers] == ["miss", "hit"]
        parsed = [answer.parse().data[0].embedding for answer in answers]
        assert parsed[0] == parsed[1]
        assert len(upstream.requests) == 2


@pytest.mark.parametrize(("way", "count"), [("serve", 100), ("asgi", 10)])
async def test_a_hundred_identical_requests_at_once_are_one_upstream(way: str, count: int) -> None:
    async with (
        OpenAIUpstream(default=Reply(interval=0.05)) as upstream,
        routing(provider("one", upstream), way=way, **KEPT) as router,
    ):
        answers = await gather(count, lambda: raw_stream(router))
        assert len(upstream.chats) == 1
        assert len({body for _, body in answers}) == 1
        words = [headers["x-infermux-cache"] for headers, _ in answers]
        assert sorted(words) == ["hit"] * (count - 1) + ["miss"]


async def test_followers_outlive_a_leader_that_leaves_and_leave_within_a_moment_themselves() -> None:
    async with (
        OpenAIUpstream(default=Reply(delay=0.5)) as upstream,
        routing(provider("one", upstream), **KEPT) as router,
        trio.open_nursery() as nursery,
    ):
        assert router.application is not None
        inference, answers = router.application.inference, list[httpx.Response]()

        async def ask() -> None:
            answers.append(await router.chat())

        leading, following = trio.CancelScope(), trio.CancelScope()

        async def ask_in(scope: trio.CancelScope) -> None:
            with scope:
                await ask()

        nursery.start_soon(ask_in, leading)
        await until(lambda: len(upstream.chats) == 1)
        nursery.start_soon(ask_in, following)
        nursery.start_soon(ask)
        await until(lambda: inference.in_flight == 3)
        rows = (await router.web.get("/_infermux/requests")).json()["requests"]
        assert [row["state"] for row in rows] == ["waiting", "following", "following"]
        following.cancel()
        async with within(0.1):
            await until(lambda: inference.in_flight == 2)
        leading.cancel()
        await until(lambda: len(answers) == 1)
        assert answers[0].headers["x-infermux-cache"] == "miss"
        assert answers[0].json()["choices"][0]["message"]["content"] == SAID
        assert len(upstream.chats) == 2


async def test_keys_have_no_part_in_each_others_answers_unless_they_share(tmp_path: Path) -> None:
    for shared in (False, True):
        async with (
            OpenAIUpstream() as upstream,
            routing(
                provider("one", upstream),
                auth={"mode": "keys"},
                ledger={"url": f"sqlite:///{tmp_path}/{shared}.db"},
                cache={"enabled": True, "shared": shared},
                routing=GROUPS,
            ) as router,
        ):
            made = [
                (await router.web.post("/_infermux/keys", json={"name": name, "requests_per_minute": 2})).json()
                for name in "ab"
            ]
            words = list[str]()
            for key in [*made, *made]:
                answer = await router.chat(headers={"authorization": f"Bearer {key['key']}"})
                words.append(answer.headers["x-infermux-cache"])
            assert words == (["miss", "hit", "hit", "hit"] if shared else ["miss", "miss", "hit", "hit"])
            third = await router.chat(headers={"authorization": f"Bearer {made[0]['key']}"})
            assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limited")


async def test_an_answer_of_two_authors_is_not_kept() -> None:
    async with (
        OpenAIUpstream(default=Reply(cut_after=3)) as bad,
        OpenAIUpstream(default=Reply(tokens=(" mock", "."))) as good,
        routing(
            provider("one", bad),
            provider("two", good),
            rescue="continue",
            cache={"enabled": True},
            routing={**GROUPS, **in_order()},
        ) as router,
    ):
        for _ in range(2):
            headers, body = await raw_stream(router)
            assert b"[DONE]" in body
            assert headers["x-infermux-cache"] == "miss"


async def test_an_operator_sees_it_and_empties_it(tmp_path: Path) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), ledger=ledger, **KEPT) as router:
        await router.chat()
        await router.chat(headers={"X-Request-Id": "again"})
        await router.chat(headers={"Cache-Control": "no-store"})
        seen = (await router.web.get("/_infermux/cache")).json()
        assert (seen["entries"], seen["hits"], seen["misses"], seen["bypasses"]) == (1, 1, 1, 1)
        assert 1000 < seen["bytes"] < 4000
        assert seen["hit_rate"] == 0.5
        page = (await router.web.get("/_infermux/metrics")).text
        assert 'infermux_cache_total{result="hit"} 1.0' in page
        assert "infermux_cache_entries 1.0" in page
        assert 'infermux_requests_total{code="",ending="ok",endpoint="chat",fault="",model="gpt-4o",provider=""' in page
        told = (await router.web.get("/_infermux/explain/again")).json()
        assert (told["cache"], told["message"], told["attempts"]) == ("hit", "answered from the cache", [])
        costs = (await router.web.get("/_infermux/costs?group_by=provider")).json()
        assert [(row["provider"], row["requests"]) for row in costs["costs"]] == [("one", 2), ("", 1)]
        assert (await router.web.delete("/_infermux/cache")).json() == {"entries": 1, "bytes": seen["bytes"]}
        assert (await router.web.get("/_infermux/cache")).json()["entries"] == 0
        assert (await router.chat()).headers["x-infermux-cache"] == "miss"


async def test_without_a_cache_there_is_nothing_to_empty() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        assert (await router.web.get("/_infermux/cache")).json() == {"enabled": False}
        assert (await router.web.delete("/_infermux/cache")).status_code == 404
        assert "infermux_cache_bytes" not in (await router.web.get("/_infermux/metrics")).text


async def test_what_is_kept_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = Reply(tokens=(CANARY, " was", " said"))
    asked: Any = [{"role": "user", "content": CANARY}]
    async with OpenAIUpstream(default=said) as upstream, routing(provider("one", upstream), **KEPT) as router:
        for stream in (False, True):
            for _ in range(2):
                answer = await router.web.post(
                    "/v1/chat/completions", json={"model": "gpt-4o", "messages": asked, "stream": stream}
                )
                assert CANARY in answer.text
        pages = [(await router.web.get(f"/_infermux/{page}")).text for page in ("cache", "explain", "metrics")]
        assert "cache=hit" in caplog.text
        assert CANARY not in caplog.text + json.dumps(pages)
