"""What a router answers is what its description says: each document, the events, and the errors, by their schemas.

`make api-fuzz` asks far more; this is what every run of the suite sees of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import trio
from jsonschema import Draft202012Validator

from tests.e2e._router import EITHER_WAY, HELLO, Router, in_order, provider, routing
from tests.mocks.openai_upstream import KEY, OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

TOKEN = "management-token"
ENVIRON = {"INFERMUX_MANAGEMENT_TOKEN": TOKEN}
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
SIMULATED: dict[str, Any] = {
    "name": "sim",
    "type": "simulated",
    "models": ["sim"],
    "model_aliases": {"smart": "sim"},
    "simulate": {"first_token": "1ms", "tokens_per_second": 100_000},
}
DOCUMENTS = (
    *("health", "ready", "status", "overview", "config", "providers", "providers/one", "requests", "explain"),
    *("explain/whole", "explain/hit", "explain/stream", "explain/running", "explain/bad", "prices", "budgets"),
    *("costs", "costs?group_by=caller,tag:env,day", "keys", "keys/k", "cache", "openapi.json"),
)


class Description:
    """The document of a running router, and whether an answer is as it says."""

    def __init__(self, document: Any) -> None:
        self.document = document

    def resolved(self, value: Any) -> Any:
        if "$ref" not in value:
            return value
        *_, kind, name = value["$ref"].split("/")
        return self.document["components"][kind][name]

    def operation(self, method: str, path: str) -> Any:
        """That of the template which fits `path`, the plainest first."""
        parts = path.split("/")
        fitting = [
            template
            for template in self.document["paths"]
            if len(template.split("/")) == len(parts)
            and all(want.startswith("{") or want == part for want, part in zip(template.split("/"), parts, strict=True))
        ]
        return self.document["paths"][min(fitting, key=lambda template: template.count("{"))][method]

    def check(self, answer: httpx.Response) -> None:
        request = answer.request
        where = f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:2000]}"
        responses = self.operation(request.method.lower(), request.url.path)["responses"]
        told = self.resolved(responses[str(answer.status_code)])
        for name, header in told.get("headers", {}).items():
            assert name in answer.headers or not header.get("required"), f"{name} is missing: {where}"
        if "content" not in told:
            assert not answer.content, where
            return
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in told["content"], where
        if kind == "application/json":
            self.matches(answer.json(), told["content"][kind]["schema"], where)

    def matches(self, value: Any, schema: Mapping[str, Any], where: str) -> None:
        validator: Any = Draft202012Validator({**schema, "components": self.document["components"]})
        wrong = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]
        assert not wrong, (where, wrong)


async def described(router: Router) -> Description:
    answer = await router.web.get("/_infermux/openapi.json", headers=AUTHORIZED)
    assert answer.headers["content-type"] == "application/json"
    return Description(answer.json())


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_every_document_is_as_described(way: str) -> None:
    async with OpenAIUpstream(keys=(KEY, "another")) as upstream:
        upstream.script.append(Reply(status=500))
        limits = {"rate_limits": {"requests_per_minute": 100, "tokens_per_minute": 100_000, "max_concurrent": "auto"}}
        several = {**provider("two", upstream), "api_keys": ["a-key", "another"]}
        del several["api_key"]
        async with (
            routing(
                *(provider("one", upstream, **limits), several, SIMULATED),
                way=way,
                environ=ENVIRON,
                headers=AUTHORIZED,
                ledger={"url": "sqlite://"},
                routing=in_order(groups=[{"name": "those", "models": ["gpt-4o"], "cache": True}]),
                cache={"enabled": True},
                retry={"same_provider": 0},
                budgets=[{"caller": "*", "limit_usd": 5, "period": "month"}, {"limit_usd": 0.1, "period": "day"}],
            ) as router,
            trio.open_nursery() as nursery,
        ):
            found = await described(router)
            found.check(await router.web.post("/_infermux/keys", json={"name": "k", "budget": "5/day"}))
            tags = {"x-infermux-caller": "me", "x-infermux-tags": "env=test"}
            found.check(await router.chat(headers={"x-request-id": "whole", **tags}))
            found.check(await router.chat(headers={"x-request-id": "hit", **tags}))
            await router.chat(headers={"x-request-id": "stream"}, stream=True)
            found.check(await router.chat("nobody", headers={"x-request-id": "bad"}))
            upstream.default = Reply(stall_after=2)
            nursery.start_soon(_stalls, router)
            with trio.fail_after(30):
                while (await router.web.get("/_infermux/requests")).json()["running"] == 0:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            for path in DOCUMENTS:
                answer = await router.web.get(f"/_infermux/{path}")
                assert answer.status_code == 200, (path, answer.text)
                found.check(answer)
            for path in ("/v1/models", "/v1/models/smart"):
                found.check(await router.web.get(path))
                found.check(await router.web.get(path, headers={"anthropic-version": "2023-06-01"}))
            for verb in ("drain", "probe", "reset", "enable"):
                found.check(await router.web.post(f"/_infermux/providers/two/{verb}"))
            found.check(await router.web.post("/_infermux/keys/k/rotate", json={"keep_old": "1h"}))
            found.check(await router.web.delete("/_infermux/keys/k"))
            found.check(await router.web.delete("/_infermux/requests/running"))
            found.check(await router.web.delete("/_infermux/cache"))
            for method in ("POST", "DELETE"):
                found.check(await router.web.request(method, "/_infermux/session"))
            found.check(await router.web.get("/_infermux/", headers={"Authorization": ""}))
            nursery.cancel_scope.cancel()


async def _stalls(router: Router) -> None:
    await router.chat("gpt-4o-mini", headers={"x-request-id": "running"}, stream=True)


async def test_errors_are_as_described() -> None:
    async with routing(SIMULATED, environ=ENVIRON, auth={"mode": "static_key", "key": "caller-key"}) as router:
        found = await described(router)
        key = {"Authorization": "Bearer caller-key"}
        body = {"model": "sim", "messages": HELLO}
        for path, headers, status in (
            ("/v1/chat/completions", {}, 401),
            ("/v1/messages", {}, 401),
            ("/v1/chat/completions", {**key, "x-infermux-timeout": "0s"}, 400),
            ("/v1/chat/completions", {**key, "content-type": "text/plain"}, 415),
            ("/v1/completions", key, 404),
            ("/v1/images/generations", key, 404),
            ("/_infermux/reload", {}, 401),
            ("/_infermux/reload", {**AUTHORIZED, "origin": "https://example.org"}, 403),
            ("/_infermux/reload", AUTHORIZED, 400),
            ("/_infermux/keys", AUTHORIZED, 503),
            ("/_infermux/providers/nobody/enable", AUTHORIZED, 404),
        ):
            answer = await router.web.post(path, json=body, headers=headers)
            assert answer.status_code == status, (path, answer.text)
            found.check(answer)
        answer = await router.web.post("/v1/messages", json={**body, "model": "nobody"}, headers=key)
        assert answer.status_code == 404
        found.check(answer)
        assert (await router.web.get("/_infermux/openapi.json")).status_code == 401


async def test_events_are_as_described() -> None:
    spent: dict[str, Any] = {
        "pricing": {SIMULATED["name"]: {"sim": {"input_per_million": 1e6, "output_per_million": 1e6}}},
        "budgets": [{"caller": "*", "limit_usd": 0.5, "period": "month", "hard": False}],
    }
    async with routing(SIMULATED, environ=ENVIRON, headers=AUTHORIZED, **spent) as router:
        found = await described(router)
        schema = found.operation("get", "/_infermux/events")["responses"]["200"]["content"]["text/event-stream"][
            "schema"
        ]
        by_name = {
            each["properties"]["event"]["const"]: each["properties"]["data"]["contentSchema"]
            for each in schema["anyOf"]
        }
        seen: set[str] = set()
        async with router.web.stream("GET", "/_infermux/events") as response:
            await router.chat("sim")
            await router.web.post("/_infermux/providers/sim/disable")
            name = ""
            with trio.fail_after(30):
                async for line in response.aiter_lines():
                    word, _, told = line.partition(": ")
                    if word == "event":
                        name = told
                    elif word == "data":
                        found.matches(json.loads(told), by_name[name], name)
                        seen.add(name)
                    if seen == set(by_name):
                        break
        assert seen == {"overview", "snapshot", "change", "request", "budget"}
