"""`auth.mode: passthrough`: the caller's credential, to providers without one of their own and nowhere else."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import Any

import anthropic
import openai
import pytest
import trio

from tests.e2e._claude import CLAUDE, claude_provider, claude_sdk
from tests.e2e._router import EITHER_WAY, HELLO, SAID, Router, in_order, provider, routing
from tests.mocks.anthropic_upstream import AnthropicUpstream
from tests.mocks.openai_upstream import KEY, OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

MINE, OTHERS = "sk-canary-of-a-caller", "sk-canary-of-another"
EMBEDDING = "text-embedding-3-small"
PASSTHROUGH: dict[str, Any] = {"auth": {"mode": "passthrough"}}
PROBED: dict[str, Any] = {"health_check": {"interval": "1s"}}


def borrowing(name: str, upstream: OpenAIUpstream | str, **more: Any) -> dict[str, Any]:
    return {**provider(name, upstream), "api_key": None, **more}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_token_of_anthropics_oauth_goes_out_as_the_bearer_it_is() -> None:
    token = "sk-ant-oat01-of-the-caller"
    async with (
        AnthropicUpstream(keys=[token]) as claude,
        routing({**claude_provider("three", claude), "api_key": None}, **PASSTHROUGH) as router,
        claude_sdk(router, api_key=token) as sdk,
    ):
        with contextlib.suppress(anthropic.AuthenticationError):  # the mock knows keys only
            await sdk.messages.create(model=CLAUDE, max_tokens=9, messages=HELLO)
    [sent] = claude.requests
    assert (sent.header("authorization"), sent.header("x-api-key")) == (f"Bearer {token}", None)


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_the_credential_is_sent_in_the_form_of_the_providers_type(way: str) -> None:
    azure = {
        "type": "azure_openai",
        "azure_api_version": "2024-08-01-preview",
        "models": ["az"],
        "azure_deployment": "gpt-4o",
    }
    async with (
        OpenAIUpstream(keys=[MINE]) as open_ai,
        OpenAIUpstream("azure", keys=[MINE]) as at_azure,
        AnthropicUpstream(keys=[MINE]) as claude,
        routing(
            borrowing("one", open_ai, models=["gpt-4o", EMBEDDING]),
            borrowing("two", at_azure, **azure),
            {**claude_provider("three", claude), "api_key": None, "model_aliases": {}},
            way=way,
            **PASSTHROUGH,
        ) as router,
        router.sdk(api_key=MINE) as sdk,
        claude_sdk(router, api_key=MINE) as other,
    ):
        for model in ("gpt-4o", "az", CLAUDE):
            await sdk.chat.completions.create(model=model, messages=HELLO)
            async for chunk in await sdk.chat.completions.create(model=model, messages=HELLO, stream=True):
                assert chunk.object == "chat.completion.chunk"
            await other.messages.create(model=model, max_tokens=9, messages=HELLO)
        await sdk.embeddings.create(model=EMBEDDING, input="x")
        assert {sent.header("authorization") for sent in open_ai.requests} == {f"Bearer {MINE}"}
        assert {sent.header("api-key") for sent in at_azure.requests} == {MINE}
        assert {sent.header("x-api-key") for sent in claude.requests} == {MINE}
        for sent in (*at_azure.requests, *claude.requests):
            assert sent.header("authorization") is None


async def test_a_provider_with_a_key_of_its_own_never_sees_the_callers() -> None:
    async with (
        OpenAIUpstream() as own,
        OpenAIUpstream(keys=[MINE]) as lent,
        routing(
            provider("own", own),
            borrowing("header", own, headers={"Authorization": f"Bearer {KEY}"}, models=["by-header"]),
            borrowing("lent", lent),
            routing=in_order(),
            **PASSTHROUGH,
        ) as router,
    ):
        own.script.append(Reply(status=500))
        answer = await router.chat(headers=bearer(MINE))
        assert answer.headers["x-infermux-provider"] == "lent"
        assert (await router.chat(headers=bearer(MINE))).headers["x-infermux-provider"] == "own"
        await router.chat("by-header", headers=bearer(MINE))
        assert MINE not in str([sent.headers for sent in own.requests])
        assert {sent.header("authorization") for sent in own.requests} == {f"Bearer {KEY}"}


async def test_callers_at_once_each_get_their_own_credential() -> None:
    keys = [f"sk-caller-{i}" for i in range(20)]
    async with OpenAIUpstream(keys=keys) as upstream, routing(borrowing("one", upstream), **PASSTHROUGH) as router:

        async def one(key: str) -> None:
            for _ in range(3):
                assert (await router.chat(headers=bearer(key), user=key)).status_code == 200

        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(one, key)
        assert len(upstream.chats) == 60
        assert upstream.connections <= 20, "connections are shared: a credential is a request's, not a connection's"
        for sent in upstream.chats:
            assert sent.header("authorization") == f"Bearer {sent.json['user']}"


async def test_a_refused_credential_is_its_callers_error_and_nobody_elses() -> None:
    async with (
        OpenAIUpstream(keys=[MINE]) as upstream,
        OpenAIUpstream(keys=[MINE]) as backup,
        routing(
            borrowing("one", upstream, **PROBED), borrowing("two", backup), routing=in_order(), **PASSTHROUGH
        ) as router,
    ):
        async with router.sdk(api_key=OTHERS) as sdk:
            for stream in (False, True):
                with pytest.raises(openai.AuthenticationError) as refused:
                    await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=stream)
                assert refused.value.code == "invalid_api_key"
                assert refused.value.response.headers["x-infermux-attempts"] == "1"
        assert (await router.chat()).status_code == 401
        assert not backup.requests
        shown = await router.provider("one")
        assert (shown["routable"], shown["health"]["state"]) == (True, "unchecked")
        async with router.sdk(api_key=MINE) as sdk:
            answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
            assert answer.choices[0].message.content == SAID
        assert not [sent for sent in upstream.requests if sent.method == "GET"], "a probe would be in nobody's name"


async def test_the_limits_of_one_callers_account_do_not_stop_the_others() -> None:
    async with (
        OpenAIUpstream(keys=[MINE, OTHERS]) as upstream,
        routing(borrowing("one", upstream), retry={"same_provider": 0}, **PASSTHROUGH) as router,
    ):
        upstream.script.append(Reply(status=429, headers=(("Retry-After", "30"),)))
        assert (await router.chat(headers=bearer(OTHERS))).status_code == 429
        assert (await router.chat(headers=bearer(MINE))).status_code == 200
        upstream.script.append(
            Reply(
                headers=(
                    ("x-ratelimit-limit-requests", "5"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "60s"),
                )
            )
        )
        assert (await router.chat(headers=bearer(OTHERS))).status_code == 200
        assert (await router.chat(headers=bearer(MINE))).status_code == 200
        assert (await router.provider("one"))["buckets"]["told"] == []


async def test_who_sends_no_credential_is_told_what_to_send() -> None:
    async with (
        AnthropicUpstream() as claude,
        routing({**claude_provider("claude", claude), "api_key": None}, **PASSTHROUGH) as router,
    ):
        answer = await router.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert "your own key" in answer.json()["error"]["message"]
        assert not claude.requests
        assert (await router.provider("claude"))["routable"] is True
        async with claude_sdk(router, api_key="wrong") as sdk:
            with pytest.raises(anthropic.AuthenticationError):
                await sdk.messages.create(model=CLAUDE, max_tokens=9, messages=HELLO)


async def test_bedrock_cannot_be_called_with_somebody_elses_credential() -> None:
    bedrock = {"name": "aws", "type": "bedrock", "region": "eu-west-1", "models": ["m"]}
    async with routing(bedrock, **PASSTHROUGH) as router:
        answer = await router.chat("m", headers=bearer(MINE))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert "signed" in answer.json()["error"]["message"]


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_lent_credential_is_seen_nowhere(way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"bad key {MINE}", "type": MINE, "code": MINE, "param": MINE}}).encode()
    async with (
        OpenAIUpstream(keys=[MINE]) as upstream,
        routing(
            borrowing("one", upstream),
            way=way,
            routing={"strategy": "sticky", "sticky": {"key": "caller"}},
            retry={"max_attempts": 1},
            **PASSTHROUGH,
        ) as router,
    ):
        seen = [
            await fault(router, upstream, reply, stream=stream) for reply in faults(echo) for stream in (False, True)
        ]
        pages = ("status", "providers", "providers/one", "config")
        seen += [(await router.web.get(f"/_infermux/{page}")).text for page in pages]
    assert "canary" not in "\n".join(seen)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpcore", "httpx"))]
    assert "canary" not in "\n".join(ours)


def faults(echo: bytes) -> list[Reply]:
    statuses = [Reply(status=status, body=echo) for status in (400, 401, 403, 404, 429, 500)]
    return [
        *statuses,
        Reply(body=echo),
        Reply(events=(b"data: " + echo + b"\n\n",)),
        Reply(error_after=2, error={"message": MINE, "type": MINE, "code": MINE}),
        Reply(cut_after=3),
    ]


async def fault(router: Router, upstream: OpenAIUpstream, reply: Reply, *, stream: bool) -> str:
    upstream.script.clear()
    upstream.script.append(reply)
    answer = await router.chat(headers=bearer(MINE), stream=stream)
    return f"{answer.headers}\n{answer.text}"
