"""Metrics over a real socket: where they are served, to whom, and that they count what happened."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e._router import EITHER_WAY, in_order, provider, refused_url, routing
from tests.mocks.openai_upstream import OpenAIUpstream

pytestmark = pytest.mark.slow


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_what_happened_is_counted(way: str) -> None:
    async with OpenAIUpstream() as upstream:
        dead = provider("dead", refused_url())
        async with routing(dead, provider("well", upstream), way=way, routing=in_order()) as router:
            assert (await router.chat(headers={"x-request-id": "r1"})).status_code == 200
            assert (await router.chat("unheard-of")).status_code == 404
            assert (await router.web.post("/v1/chat/completions", content=b"{")).status_code == 400
            page = await router.web.get("/_infermux/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    found = samples(page.text)
    requests = {labels: value for (name, labels), value in found.items() if name == "infermux_requests_total"}
    assert sorted((dict(labels)["status"], dict(labels)["model"], value) for labels, value in requests.items()) == [
        ("200", "gpt-4o", 1),
        ("400", "", 1),
        ("404", "other", 1),
    ]
    attempt = frozenset({("provider", "dead"), ("outcome", "connect_error"), ("fault", "provider")})
    assert found["infermux_attempts_total", attempt] == 1
    assert found["infermux_provider_routable", frozenset({("provider", "well")})] == 1


async def test_they_ask_for_the_token_on_the_port_of_management_too() -> None:
    token = {"INFERMUX_MANAGEMENT_TOKEN": "secret-token"}
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("well", upstream), environ=token, management_listen="127.0.0.1:0") as router,
    ):
        base_url = f"http://127.0.0.1:{router.management_port}"
        async with httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False) as management:
            for path in ("/metrics", "/_infermux/metrics"):
                assert (await management.get(path)).status_code == 401
                given = await management.get(path, headers={"Authorization": "Bearer secret-token"})
                assert given.status_code == 200
                assert "infermux_in_flight 0.0" in given.text
        assert (await router.web.get("/metrics")).status_code == 404
        assert (await router.web.get("/_infermux/metrics")).status_code == 404


async def test_a_traceparent_reaches_the_provider() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with OpenAIUpstream() as upstream, routing(provider("well", upstream)) as router:
        await router.chat(headers={"traceparent": parent, "tracestate": "a=1"})
        [request] = upstream.requests
    sent = dict(request.headers)
    assert (sent["traceparent"], sent["tracestate"]) == (parent, "a=1")
