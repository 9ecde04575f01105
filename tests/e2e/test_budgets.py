"""Budgets and prices as callers and operators meet them, over real sockets."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import attrs
import pytest

from infermux.config.settings import Budget
from tests.e2e._router import HELLO, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

PRICING: Any = {"good": {"gpt-4o": {"input_per_million": 1000.0, "output_per_million": 1000.0}}}  # 0.1 cents a token
TEAM = {"X-Infermux-Caller": "team-a"}


def hard(dollars: float, **more: Any) -> dict[str, Any]:
    return {"caller": "team-a", "limit_usd": dollars, "period": "month", **more}


async def spent(router: Any) -> float:
    [row] = (await router.web.get("/_infermux/budgets")).json()["budgets"]
    assert row["budget"] == "caller:team-a/month"
    assert row["reserved_usd"] == 0
    found: float = row["spent_usd"]
    return found


async def test_a_caller_without_money_is_told_in_its_dialect_and_nothing_is_sent() -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("good", upstream), pricing=PRICING, budgets=[hard(0.001)]) as router,
    ):
        refused = await router.chat(headers=TEAM, max_tokens=100)
        assert (refused.status_code, refused.headers["x-infermux-error"]) == (429, "budget_exceeded")
        assert refused.json()["error"]["code"] == "budget_exceeded"
        assert refused.json()["error"]["message"].startswith("the budget caller:team-a/month of $0.001 has no room")
        assert 0 < int(refused.headers["retry-after"]) <= 31 * 86_400
        body = {"model": "gpt-4o", "max_tokens": 100, "messages": HELLO}
        told = await router.web.post("/v1/messages", json=body, headers=TEAM)
        assert (told.status_code, told.json()["error"]["type"]) == (429, "rate_limit_error")
        assert upstream.chats == []
        assert (await router.chat(max_tokens=100)).status_code == 200  # others have theirs
        assert await spent(router) == 0


async def test_what_was_spent_is_what_the_answer_says_it_cost_streamed_or_not() -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("good", upstream), pricing=PRICING, budgets=[hard(5)]) as router,
    ):
        cost = float((await router.chat(headers=TEAM)).headers["x-infermux-cost"])
        assert cost > 0
        assert await spent(router) == pytest.approx(cost)
        await router.chat(headers=TEAM, stream=True)
        assert await spent(router) == pytest.approx(2 * cost)


async def test_a_soft_budget_is_a_header() -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("good", upstream), pricing=PRICING, budgets=[hard(0.001, hard=False)]) as router,
    ):
        answers = [await router.chat(headers=TEAM, stream=stream) for stream in (False, False, True)]
        said = [answer.headers.get("x-infermux-budget") for answer in answers]
        assert said == [None, "caller:team-a/month exceeded", "caller:team-a/month exceeded"]


async def test_what_was_spent_survives_a_restart(tmp_path: Path) -> None:
    config: Any = {
        "pricing": PRICING,
        "budgets": [hard(5)],
        "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
    }
    async with OpenAIUpstream() as upstream:
        async with routing(provider("good", upstream), **config) as router:
            await router.chat(headers=TEAM)
            before = await spent(router)
        async with routing(provider("good", upstream), **config) as router:
            assert await spent(router) == pytest.approx(before)
            assert before > 0


async def test_prices_are_shown_with_their_source_and_one_nobody_knows_is_no_zero() -> None:
    hosted = {**provider("hosted", "https://api.openai.com/v1"), "models": ["gpt-4o"]}
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("good", upstream), hosted, pricing=PRICING) as router,
    ):
        rows = (await router.web.get("/_infermux/prices")).json()["prices"]
        found = {(row["provider"], row["model"]): row for row in rows}
        assert found["good", "gpt-4o"]["price"]["input_per_million"] == 1000.0
        assert found["good", "gpt-4o-mini"]["price"] is None
        listed = found["hosted", "gpt-4o"]
        assert listed["price"]["cached_input_per_million"] > 0
        assert listed["source"].startswith("genai-prices ")
        assert listed["date"] is not None
        answer = await router.chat(model="gpt-4o-mini")
        assert answer.headers["x-infermux-provider"] == "good"
        assert "x-infermux-cost" not in answer.headers


async def test_an_absurd_usage_spends_nobodys_budget_and_a_spoilt_ledger_stops_no_start(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    config: Any = {
        "pricing": PRICING,
        "budgets": [{"caller": "*", "limit_usd": 1, "period": "day"}],
        "ledger": {"url": f"sqlite:///{path}"},
    }
    usage = {"prompt_tokens": 10**30, "completion_tokens": 5, "total_tokens": 10**30 + 5}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    absurd = {"id": "c", "object": "chat.completion", "model": "gpt-4o", "choices": choices, "usage": usage}
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(body=json.dumps(absurd).encode()))
        async with routing(provider("good", upstream), **config) as router:
            answer = await router.chat(headers=TEAM, max_tokens=5)
            assert (answer.status_code, int(answer.headers["x-infermux-prompt-tokens"]) < 100) == (200, True)
            assert float(answer.headers["x-infermux-cost"]) < 0.2
            assert (await router.chat(headers=TEAM, max_tokens=5)).status_code == 200
        with sqlite3.connect(path) as database:
            assert [row[0] for row in database.execute("SELECT estimated FROM requests ORDER BY seq")] == [1, 0]
            database.execute("UPDATE requests SET cost = 1e24")
        database.close()
        async with routing(provider("good", upstream), **config) as router:
            assert (await router.chat(headers=TEAM, max_tokens=5)).status_code == 200


async def test_a_budget_that_comes_by_reload_knows_what_has_just_been_spent(tmp_path: Path) -> None:
    config: Any = {"pricing": PRICING, "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"}}
    async with OpenAIUpstream() as upstream, routing(provider("good", upstream), **config) as router:
        assert router.application is not None
        cost = float((await router.chat(headers=TEAM)).headers["x-infermux-cost"])
        later = attrs.evolve(router.application.config, budgets=(Budget(limit_usd=cost, period="month"),))
        await router.application.fleet.reload(later)
        refused = await router.chat(headers=TEAM)
        assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
