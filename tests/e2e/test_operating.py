"""What an operator asks of a running router: what runs, why it went there, what happens; and ending a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trio

from tests._turns import within
from tests.e2e._router import EITHER_WAY, HELLO, in_order, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

ID = {"x-request-id": "mine"}


@pytest.mark.parametrize("way", EITHER_WAY)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_killed_request_is_told_so_and_ends_upstream_within_a_tenth_of_a_second(way: str, stream: bool) -> None:
    reply = Reply(stall_after=2) if stream else Reply(hang=True)
    async with OpenAIUpstream(default=reply) as upstream, routing(provider("one", upstream), way=way) as router:
        told: list[Any] = []

        async def ask() -> None:
            async with router.sdk() as sdk:
                try:
                    answer = await sdk.chat.completions.create(
                        model="gpt-4o", messages=HELLO, stream=stream, extra_headers=ID
                    )
                    assert isinstance(answer, openai.AsyncStream)
                    async with answer:  # whatever it ends with, its connection is closed here and not by chance
                        async for _ in answer:
                            pass
                except openai.APIError as error:
                    told.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            wanted = "streaming" if stream else "waiting"
            with trio.fail_after(30):
                while not (rows := await running(router.web)) or rows[0]["state"] != wanted:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            row = rows[0]
            assert (row["id"], row["requested"], row["provider"], row["attempts"]) == ("mine", "gpt-4o", "one", 1)
            explained = (await router.web.get("/_infermux/explain/mine")).json()
            assert (explained["state"], explained["attempts"][0]["outcome"]) == ("running", "running")
            killed = await router.web.delete("/_infermux/requests/mine")
            assert killed.json() == {"id": "mine", "killed": 1}
            async with within(0.1):
                await upstream.wait_idle()
        [error] = told
        assert error.code == "request_killed"
        assert (await router.web.delete("/_infermux/requests/mine")).status_code == 404
        ended = (await router.web.get("/_infermux/explain/mine")).json()
        assert (ended["state"], ended["code"], ended["fault"]) == ("ended", "request_killed", "policy")
        assert ended["ending"] == ("broken" if stream else "refused")


async def running(web: httpx.AsyncClient) -> list[Any]:
    rows: list[Any] = (await web.get("/_infermux/requests")).json()["requests"]
    return rows


async def test_sdks_do_not_send_a_killed_request_again() -> None:
    async with OpenAIUpstream(default=Reply(hang=True)) as upstream, routing(provider("one", upstream)) as router:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                async with router.sdk() as sdk:
                    with pytest.raises(openai.InternalServerError, match="an operator"):
                        await sdk.with_options(max_retries=2).chat.completions.create(
                            model="gpt-4o", messages=HELLO, extra_headers=ID
                        )

            nursery.start_soon(ask)
            with trio.fail_after(30):
                while (await router.web.delete("/_infermux/requests/mine")).status_code != 200:  # noqa: ASYNC110
                    await trio.sleep(0.02)
        assert len(upstream.chats) <= 1


async def test_an_unchecked_provider_cannot_be_probed_and_the_answer_says_so() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        answer = await router.web.post("/_infermux/providers/one/probe")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
        assert "is never probed" in answer.json()["error"]["message"]
        assert not upstream.requests


async def test_a_body_that_is_too_large_for_management_is_told_how_much_is_read(tmp_path: Path) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/keys.db"}
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), ledger=ledger) as router:
        answer = await router.web.post("/_infermux/keys", content=b"[" * 200_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
        assert "65536 bytes" in answer.json()["error"]["message"]


async def test_why_a_request_went_where_it_did() -> None:
    async with OpenAIUpstream(default=Reply(status=500)) as broken, OpenAIUpstream() as upstream:
        providers = [provider("one", broken), provider("two", upstream), provider("three", upstream)]
        async with routing(*providers, routing=in_order(), retry={"same_provider": 0}) as router:
            assert (await router.chat(headers=ID)).status_code == 200
            found = (await router.web.get("/_infermux/explain/mine")).json()
            verdicts = [(row["provider"], row["verdict"], row["reason"]) for row in found["candidates"]]
            assert verdicts == [
                ("one", "asked", "server_error"),
                ("two", "asked", "ok"),
                ("three", "not_asked", "not_needed"),
            ]
            first, second = found["attempts"]
            assert 0 <= first["started"] < first["ended"] <= second["started"] < second["ended"] <= found["latency"]
            listed = (await router.web.get("/_infermux/explain?limit=1")).json()["decisions"]
            assert [row["id"] for row in listed] == ["mine"]
            assert (await router.web.get("/_infermux/explain/other")).status_code == 404
            for limit in ("0", "x", "1001", "٣"):
                assert (await router.web.get(f"/_infermux/explain?limit={limit}")).status_code == 400


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_events_tell_of_requests_and_providers_and_end_when_the_router_does(way: str) -> None:
    seen: dict[str, list[Any]] = {}
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), way=way) as router,
        router.web.stream("GET", "/_infermux/events") as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        lines = response.aiter_lines()
        await until(lines, seen, "overview")
        await router.chat(headers=ID)
        await router.web.post("/_infermux/providers/one/disable")
        await until(lines, seen, "change")
        await until(lines, seen, "snapshot")
        assert seen["request"][0]["id"] == "mine"
        assert (seen["change"][0]["provider"], seen["change"][0]["to"]) == ("one", "disabled")
        assert seen["snapshot"][-1]["providers"][0]["reason"] == "disabled"
        if router.application is not None:
            router.application.inference.draining = True
            with trio.fail_after(30):
                async for _ in lines:
                    pass


async def until(lines: Any, seen: dict[str, list[Any]], name: str) -> None:
    """Read until an event of that name has come."""
    event = ""
    with trio.fail_after(30):
        async for line in lines:
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                seen.setdefault(event, []).append(json.loads(line[6:]))
                if event == name:
                    return
