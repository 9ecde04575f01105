"""What is asked in a way that a path does not have is refused by name, in one shape, whatever the path."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from infermux.http.queries import TAKES
from tests.e2e._router import EITHER_WAY, routing

pytestmark = pytest.mark.slow

ONE: dict[str, Any] = {
    "name": "one",
    "type": "simulated",
    "models": ["m"],
    "simulate": {"first_token": "1ms", "tokens_per_second": 100_000},
}
PATHS = {
    "/v1/models": "GET, HEAD",
    "/v1/models/a/b": "GET, HEAD",
    "/v1/chat/completions": "POST",
    "/v1/messages": "POST",
    "/v1/images/generations": "POST",
    "/v1/rerank": "POST",
    "/_infermux/status": "GET, HEAD",
    "/_infermux/events": "GET, HEAD",
    "/_infermux/reload": "POST",
    "/_infermux/keys": "GET, HEAD, POST",
    "/_infermux/keys/k": "DELETE, GET, HEAD",
    "/_infermux/keys/a/b": "DELETE, GET, HEAD",
    "/_infermux/keys/k/rotate": "POST",
    "/_infermux/requests/r": "DELETE",
    "/_infermux/cache": "DELETE, GET, HEAD",
    "/_infermux/session": "DELETE, POST",
    "/_infermux/providers/one/drain": "POST",
    "/_infermux/openapi.json": "GET, HEAD",
    "/_infermux/": "GET, HEAD",
}


def told(answer: httpx.Response) -> Any:
    body = answer.json()
    return body["error"] if "error" in body and "type" not in body else body


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_method_that_a_path_has_not_is_405_with_those_it_has(way: str) -> None:
    async with routing(ONE, way=way) as router:
        for path, allowed in PATHS.items():
            for method in {"GET", "POST", "PUT", "OPTIONS"} - set(allowed.split(", ")):
                answer = await router.web.request(method, path)
                assert (answer.status_code, answer.headers["allow"]) == (405, allowed), (method, path, answer.text)
                assert answer.headers["x-infermux-error"] == "method_not_allowed"
                assert "error" in answer.json()


async def test_a_method_or_path_that_is_not_there_is_told_before_what_is_wrong_with_headers() -> None:
    wrong = {"x-infermux-tags": "none", "x-infermux-priority": "first"}
    async with routing(ONE) as router:
        assert (await router.web.get("/v1/models", headers=wrong)).status_code == 400
        assert (await router.web.get("/v1/chat/completions", headers=wrong)).status_code == 405
        assert (await router.web.get("/v1/nope", headers=wrong)).status_code == 404
    auth = {"mode": "static_key", "key": "k"}
    async with routing(ONE, auth=auth) as router:
        assert (await router.web.get("/v1/chat/completions")).status_code == 401
        assert (await router.web.get("/v1/nope")).status_code == 401


async def test_what_is_not_there_is_404_in_the_shape_of_its_api() -> None:
    async with routing(ONE) as router:
        for method in ("GET", "POST", "OPTIONS", "PUT"):
            for path in ("/", "/v1", "/v1/nope", "/_infermux/nope", "/_infermuxnope", "/v1/responses/r", "/v1/audio/"):
                answer = await router.web.request(method, path)
                assert answer.status_code == 404, (method, path, answer.text)
                assert told(answer)["code"] == "not_found"
        answer = await router.web.post("/v1/messages/nope")
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_head_is_get_without_a_body_also_of_a_stream_without_an_end(way: str) -> None:
    async with routing(ONE, way=way) as router:
        for path in ("/v1/models", "/_infermux/status", "/_infermux/events", "/_infermux/openapi.json"):
            with trio.fail_after(30):
                answer = await router.web.head(path)
            assert (answer.status_code, answer.content) == (200, b""), path
        assert (await router.web.head("/_infermux/events")).headers["content-type"] == "text/event-stream"


async def test_a_parameter_that_a_page_has_not_is_named() -> None:
    async with routing(ONE, ledger={"url": "sqlite://"}) as router:
        for path in (
            "status",
            "providers",
            "providers/one",
            "requests",
            "explain",
            "costs",
            "events",
            "metrics",
            "keys",
        ):
            answer = await router.web.get(f"/_infermux/{path}?sinse=7d")
            assert (answer.status_code, told(answer)["param"]) == (400, "sinse"), path
        answer = await router.web.post("/_infermux/providers/one/disable?dry_run=true")
        assert (answer.status_code, told(answer)["param"]) == (400, "dry_run")
        assert (await router.provider("one"))["routable"]
        answer = await router.web.get("/_infermux/explain?limit=1&limit=2")
        assert (answer.status_code, told(answer)["param"]) == (400, "limit")
        # What probes and browsers put behind an address is nobody's mistake, and SDKs may page through the models.
        for path in ("/_infermux/health?x=1", "/_infermux/ready?x=1", "/_infermux/?x=1", "/v1/models?limit=20"):
            assert (await router.web.get(path)).status_code == 200, path


async def test_a_bad_value_is_a_400_that_names_its_parameter() -> None:
    bad = {
        "since": ("abc", "1e99", "7x", "2026-13-01"),
        "until": ("-1d", "10000-01-01"),
        "group_by": ("xyz", "caller,,model", "caller,caller", "tag:"),
        "format": ("xml",),
    }
    async with routing(ONE, ledger={"url": "sqlite://"}) as router:
        for param, values in bad.items():
            for value in values:
                answer = await router.web.get("/_infermux/costs", params={param: value})
                assert (answer.status_code, told(answer)["param"]) == (400, param), (value, answer.text)
        for limit in ("0", "-1", "", "1001", "x"):
            answer = await router.web.get("/_infermux/explain", params={"limit": limit})
            assert (answer.status_code, told(answer)["param"]) == (400, "limit"), (limit, answer.text)
        answer = await router.web.post("/_infermux/reload?dry_run=perhaps")
        assert (answer.status_code, told(answer)["param"]) == (400, "dry_run")


def test_every_page_that_takes_parameters_is_one_that_is_served() -> None:
    assert set(TAKES) == {"/_infermux/costs", "/_infermux/explain", "/_infermux/reload"}
