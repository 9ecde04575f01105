"""Who may come in: keys, the management token, Host and Origin, TLS, a listener of its own for the management."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import openai
import pytest
import trustme

from tests.e2e._router import HELLO, SAID, WAYS, gather, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

STATIC: dict[str, Any] = {"auth": {"mode": "static_key", "key": "sk-router-key"}}


@pytest.mark.parametrize("way", WAYS)
async def test_a_static_key_is_asked_for_on_inference_and_models(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way, **STATIC) as router:
        async with router.sdk(api_key="wrong") as sdk:
            with pytest.raises(openai.AuthenticationError) as caught:
                await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
            assert caught.value.code == "unauthorized"
            with pytest.raises(openai.AuthenticationError):
                await sdk.models.list()
        async with router.sdk(api_key="sk-router-key") as sdk:
            answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
            assert answer.choices[0].message.content == SAID
            assert [model.id async for model in sdk.models.list()] == ["gpt-4o", "gpt-4o-mini"]
        assert (await router.chat(headers={"x-api-key": "sk-router-key"})).status_code == 200
        without = await router.chat()
        assert without.status_code == 401
        assert without.headers["www-authenticate"] == "Bearer"
        assert len(upstream.chats) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_the_callers_key_is_not_sent_upstream(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way, **STATIC) as router:
        await router.chat(headers={"authorization": "Bearer sk-router-key", "cookie": "a=b"})
        sent = upstream.chats[0]
        assert "sk-router-key" not in str(sent.headers)
        assert sent.header("cookie") is None


@pytest.mark.parametrize("way", WAYS)
async def test_the_management_token_guards_everything_but_health_and_ready(way: str) -> None:
    environ = {"INFERMUX_MANAGEMENT_TOKEN": "tok-en"}
    async with (
        OpenAIUpstream() as upstream,
        routing(
            provider("one", upstream), way=way, environ=environ, headers={"authorization": "Bearer tok-en"}
        ) as router,
        httpx.AsyncClient(base_url=router.url, trust_env=False, verify=False) as stranger,
    ):
        assert (await router.status())["ready"] is True
        for path in ("/status", "/providers", "/providers/one", "/nothing", "/overview", "/requests", "/events"):
            assert (await stranger.get(f"/_infermux{path}")).status_code == 401, path
        assert (await stranger.post("/_infermux/providers/one/disable")).status_code == 401
        wrong = {"authorization": "Bearer tok-em"}
        assert (await stranger.get("/_infermux/status", headers=wrong)).status_code == 401
        assert (await stranger.get("/_infermux/status", headers={"x-api-key": "tok-en"})).status_code == 200
        for path in ("health", "ready"):
            assert (await stranger.get(f"/_infermux/{path}")).status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_foreign_hosts_and_origins_are_refused_in_open_mode(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way) as router:
        own = f"127.0.0.1:{router.port}"
        cases = [
            ({"host": "evil.example"}, 403),
            ({"host": f"evil.example:{router.port}"}, 403),
            ({"host": "127.0.0.1.evil.example"}, 403),
            ({"host": f"localhost:{router.port}"}, 200),
            ({"host": "[::1]:80"}, 200),
            ({"host": own, "origin": "http://evil.example"}, 403),
            ({"host": own, "origin": "null"}, 403),
            ({"host": own, "origin": f"http://{own}"}, 200),
        ]
        for headers, status in cases:
            assert (await router.chat(headers=headers)).status_code == status, headers
            assert (await router.web.get("/v1/models", headers=headers)).status_code == status, headers
            assert (await router.web.get("/_infermux/status", headers=headers)).status_code == status, headers
            assert (await router.web.get("/_infermux/health", headers=headers)).status_code == 200
        disable = await router.web.post("/_infermux/providers/one/disable", headers={"origin": "http://evil.example"})
        assert disable.status_code == 403
        assert (await router.status())["routable"] == 1


async def test_a_named_management_host_is_allowed() -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), management_hosts=["router.internal"]) as router,
    ):
        assert (await router.web.get("/_infermux/status", headers={"host": "router.internal:8080"})).status_code == 200


async def test_with_a_key_any_host_may_be_named_for_inference_but_not_for_management() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **STATIC) as router:
        headers = {"host": "llm.example.com", "authorization": "Bearer sk-router-key"}
        assert (await router.chat(headers=headers)).status_code == 200
        assert (await router.web.get("/_infermux/status", headers=headers)).status_code == 403


async def test_management_has_a_port_of_its_own_where_that_is_set() -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), management_listen="127.0.0.1:0") as router,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{router.management_port}", trust_env=False, verify=False
        ) as management,
    ):
        assert (await router.web.get("/_infermux/status")).status_code == 404
        assert (await router.web.get("/_infermux/health")).status_code == 404
        assert (await router.chat()).status_code == 200
        assert (await management.get("/_infermux/status")).json()["routable"] == 1
        assert (await management.get("/_infermux/health")).status_code == 200
        assert (await management.get("/v1/models")).status_code == 404
        body = {"model": "gpt-4o", "messages": HELLO}
        assert (await management.post("/v1/chat/completions", json=body)).status_code == 404


async def test_over_tls_both_lanes_answer_the_sdk() -> None:
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), tls=server, verify=client) as router:
        http_client = openai.DefaultAsyncHttpxClient(trust_env=False, verify=client)
        async with openai.AsyncOpenAI(
            base_url=f"{router.url}/v1", api_key="x", max_retries=0, http_client=http_client
        ) as sdk:
            answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
            assert answer.choices[0].message.content == SAID
            chunks = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in chunks]) == SAID
            assert [model.id async for model in sdk.models.list()] == ["gpt-4o", "gpt-4o-mini"]
        async with httpx.AsyncClient(base_url=router.url, verify=client, http2=True, trust_env=False) as second:
            answer2 = await second.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO})
            assert (answer2.http_version, answer2.status_code) == ("HTTP/2", 200)


async def test_an_upstream_behind_tls_is_spoken_to_only_when_its_certificate_is_trusted() -> None:
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    async with OpenAIUpstream(ssl_context=server) as upstream:
        with authority.cert_pem.tempfile() as ca_file:
            async with routing(
                provider("untrusted", upstream, models=["gpt-4o"]),
                provider("trusted", upstream, models=["gpt-4o-mini"], tls={"ca_file": ca_file}),
            ) as router:
                refused = await router.chat("gpt-4o")
                assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_error")
                assert "certificate" in refused.json()["error"]["message"]
                assert (await router.chat("gpt-4o-mini")).status_code == 200
                assert (await router.provider("trusted"))["transport"] == "httpx"


async def test_too_many_requests_at_once_are_refused_not_queued() -> None:
    async with (
        OpenAIUpstream(default=Reply(delay=0.3)) as upstream,
        routing(provider("one", upstream), limits={"max_concurrent_requests": 5}) as router,
    ):
        answers = await gather(12, router.chat)
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [503] * 7
        assert {a.json()["error"]["code"] for a in answers if a.status_code == 503} == {"overloaded"}
