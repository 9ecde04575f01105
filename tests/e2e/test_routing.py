"""Which provider a request goes to: aliases, prefixes, groups, fallbacks, the request's own `provider` object."""

from __future__ import annotations

from collections import Counter
from typing import Any

import openai
import pytest

from tests.e2e._router import HELLO, SAID, WAYS, in_order, provider, refused_url, routing
from tests.mocks.openai_upstream import OpenAIUpstream

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("way", WAYS)
async def test_an_alias_is_sent_under_the_providers_own_name(way: str) -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream, model_aliases={"smart": "gpt-4o"}), way=way) as router,
        router.sdk() as sdk,
    ):
        raw = await sdk.chat.completions.with_raw_response.create(model="smart", messages=HELLO)
        assert raw.headers["x-infermux-model"] == "gpt-4o"
        assert upstream.chats[0].json["model"] == "gpt-4o"


async def test_a_provider_can_be_named_before_the_model() -> None:
    async with (
        OpenAIUpstream() as one,
        OpenAIUpstream() as two,
        routing(provider("one", one), provider("two", two), routing=in_order()) as router,
    ):
        answer = await router.chat("two/gpt-4o")
        assert answer.headers["x-infermux-provider"] == "two"
        assert two.chats[0].json["model"] == "gpt-4o"


async def test_a_model_name_with_a_slash_stays_a_model_name() -> None:
    async with (
        OpenAIUpstream(any_model=True) as upstream,
        routing(provider("one", upstream, models=["meta-llama/Llama-3"])) as router,
    ):
        assert (await router.chat("meta-llama/Llama-3")).status_code == 200
        assert upstream.chats[0].json["model"] == "meta-llama/Llama-3"


@pytest.mark.parametrize("model", ["auto", ""])
async def test_auto_and_no_name_mean_the_default_model(model: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        assert (await router.chat(model)).headers["x-infermux-model"] == "gpt-4o"
        assert upstream.chats[0].json["model"] == "gpt-4o"


async def test_a_request_without_a_model_gets_the_default_one() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        answer = await router.web.post("/v1/chat/completions", json={"messages": HELLO})
        assert answer.status_code == 200, answer.text
        assert upstream.chats[0].json["model"] == "gpt-4o"


async def test_a_fallback_model_is_tried_after_the_models_own_providers() -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(
            provider("dead", refused_url(), models=["big"]),
            provider("good", upstream, models=["gpt-4o"]),
            routing={"fallbacks": {"big": ["gpt-4o"]}},
        ) as router,
    ):
        answer = await router.chat("big")
        assert answer.headers["x-infermux-provider"] == "good"
        assert answer.headers["x-infermux-model"] == "gpt-4o"
        assert answer.headers["x-infermux-attempts"] == "3"  # the first provider twice: the fallback is another model


async def test_a_group_confines_its_models_to_its_providers_and_strategy() -> None:
    group = {"name": "fast", "models": ["gpt-4o-*"], "strategy": "priority", "providers": ["two"]}
    async with (
        OpenAIUpstream() as one,
        OpenAIUpstream() as two,
        routing(provider("one", one), provider("two", two), routing={"groups": [group]}) as router,
    ):
        answer = await router.chat("gpt-4o-mini")
        assert answer.headers["x-infermux-route-group"] == "fast"
        assert answer.headers["x-infermux-strategy"] == "priority"
        assert answer.headers["x-infermux-provider"] == "two"
        assert "x-infermux-route-group" not in (await router.chat("gpt-4o")).headers


async def test_round_robin_keeps_to_the_weights() -> None:
    async with (
        OpenAIUpstream() as one,
        OpenAIUpstream() as two,
        routing(provider("one", one, weight=3), provider("two", two)) as router,
    ):
        seen = Counter([(await router.chat()).headers["x-infermux-provider"] for _ in range(12)])
        assert seen == {"one": 9, "two": 3}


PREFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"order": ["three", "one"]}, "three"),
    ({"only": ["two"]}, "two"),
    ({"ignore": ["one", "two"]}, "three"),
    ({"sort": "price"}, "two"),
    ({"max_price": {"prompt": 1.5}}, "two"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("wanted", "name"), PREFERENCES)
async def test_the_requests_own_provider_object_chooses_and_is_not_sent_on(
    way: str, wanted: dict[str, Any], name: str
) -> None:
    pricing = {
        "one": {"gpt-4o": {"input_per_million": 9.0}},
        "two": {"gpt-4o": {"input_per_million": 1.0}},
        "three": {"gpt-4o": {"input_per_million": 5.0}},
    }
    async with (
        OpenAIUpstream() as upstream,
        routing(
            *(provider(each, upstream) for each in ("one", "two", "three")),
            way=way,
            routing=in_order(),
            pricing=pricing,
        ) as router,
        router.sdk() as sdk,
    ):
        raw = await sdk.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=HELLO, extra_body={"provider": wanted}
        )
        assert raw.headers["x-infermux-provider"] == name
        assert "provider" not in upstream.chats[0].json


async def test_without_fallbacks_only_the_named_provider_is_asked() -> None:
    async with (
        OpenAIUpstream() as good,
        routing(provider("dead", refused_url()), provider("good", good)) as router,
        router.sdk() as sdk,
    ):
        with pytest.raises(openai.InternalServerError):
            await sdk.chat.completions.create(
                model="gpt-4o",
                messages=HELLO,
                extra_body={"provider": {"order": ["dead"], "allow_fallbacks": False}},
            )
        assert good.chats == []


async def test_a_provider_object_that_names_nobody_is_refused() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        for wanted, param in (
            ({"only": ["nobody"]}, "provider.only"),
            ({"sort": "beauty"}, "provider.sort"),
            ({"order": "one"}, "provider.order"),
            ("one", "provider"),
        ):
            answer = await router.chat(provider=wanted)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        nobody = await router.chat(provider={"ignore": ["one"]})
        assert (nobody.status_code, nobody.json()["error"]["code"]) == (404, "model_not_found")


async def test_disabled_and_draining_providers_are_not_asked_until_enabled() -> None:
    async with (
        OpenAIUpstream() as one,
        OpenAIUpstream() as two,
        routing(provider("one", one), provider("two", two), routing=in_order()) as router,
    ):
        for verb in ("disable", "drain"):
            described = (await router.web.post(f"/_infermux/providers/one/{verb}")).json()
            assert described["routable"] is False
            assert (await router.chat()).headers["x-infermux-provider"] == "two"
            await router.web.post("/_infermux/providers/one/enable")
            assert (await router.chat()).headers["x-infermux-provider"] == "one"


async def test_azure_is_asked_by_deployment_and_version() -> None:
    async with (
        OpenAIUpstream("azure") as azure,
        routing(provider("azure", azure, type="azure_openai", azure_api_version="2024-08-01-preview")) as router,
        router.sdk() as sdk,
    ):
        answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert answer.choices[0].message.content == SAID
        assert azure.chats[0].path == "/openai/deployments/gpt-4o/chat/completions"
        chunks = [
            chunk async for chunk in await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        ]
        assert chunks[0].choices == []  # the prompt filter's results go on as they came
        said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert said == SAID


async def test_ollama_lists_its_models_and_answers_with_and_without_latest() -> None:
    settings = provider("local", "", type="ollama", health_check={"interval": "60s"})
    del settings["models"], settings["api_key"]
    async with OpenAIUpstream("ollama", models=["llama3:latest", "qwen3:8b"], any_model=True) as ollama:
        settings["base_url"] = ollama.base_url
        async with routing(settings) as router, router.sdk() as sdk:
            await router.wait_for("local", health="healthy")
            assert sorted([model.id async for model in sdk.models.list()]) == ["llama3:latest", "qwen3:8b"]
            answer = await sdk.chat.completions.create(model="llama3", messages=HELLO)
            assert answer.choices[0].message.content == SAID
            chunks = await sdk.chat.completions.create(model="qwen3:8b", messages=HELLO, stream=True)
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in chunks]) == SAID


async def test_a_simulated_provider_needs_nothing() -> None:
    simulated = {
        "name": "sim",
        "type": "simulated",
        "models": ["demo"],
        "simulate": {"first_token": "1ms", "tokens_per_second": 10000},
    }
    async with routing(simulated) as router, router.sdk() as sdk:
        answer = await sdk.chat.completions.create(model="demo", messages=HELLO)
        assert answer.choices[0].message.content
        chunks = [chunk async for chunk in await sdk.chat.completions.create(model="demo", messages=HELLO, stream=True)]
        assert chunks[-1].choices[0].finish_reason == "stop"


async def test_extra_body_and_headers_of_a_provider_are_sent_and_the_callers_body_wins() -> None:
    settings = {"extra_body": {"temperature": 0.1, "user": "router"}, "headers": {"X-Team": "blue"}}
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream, **settings)) as router:
        await router.chat(temperature=0.9)
        sent = upstream.chats[0]
        assert (sent.json["temperature"], sent.json["user"]) == (0.9, "router")
        assert sent.header("x-team") == "blue"


async def test_the_callers_body_reaches_the_provider_as_it_was_written() -> None:
    messages = b'[{"role":"user","content":"caf\\u00e9 \xe2\x82\xac"}]'
    body = b'{ "model":"gpt-4o" ,\n "messages":%b,"seed":12345678901234567890 }' % messages
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        answer = await router.web.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 200
        assert upstream.chats[0].body == body
