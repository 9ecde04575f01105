"""What machines poll is the same page by every way in, and answered without quart only where all is well."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import trio

from infermux.http import handover
from tests.e2e._router import Router, routing

pytestmark = pytest.mark.slow

TOKEN = "secret-token"
ENVIRON = {"INFERMUX_MANAGEMENT_TOKEN": TOKEN}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NONE = {"Authorization": ""}
PAGES = ("health", "accepting", "ready", "metrics")
ONE: dict[str, Any] = {"name": "one", "type": "simulated", "models": ["m"], "health_check": {"disabled": True}}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets of requests that hypercorn and quart have answered."""
    seen: list[str] = []
    answer = handover.Hypercorn.answer

    async def noted(self: Any, connection: Any, head: Any) -> bool:
        seen.append(head.target.decode())
        return await answer(self, connection, head)

    monkeypatch.setattr(handover.Hypercorn, "answer", noted)
    return seen


def lasting(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """An answer without what is different from one moment to the next, and without who the server is."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "server")}
    if "openmetrics" in headers["content-type"] or headers["content-type"].startswith("text/plain"):
        assert int(headers.pop("content-length")) == len(answer.content) or not answer.content
    return (
        answer.status_code,
        headers,
        re.sub(r"(?m)^((process|python|infermux_event_loop)\S*) \S+$", r"\1", answer.text),
    )


async def test_every_way_in_gives_the_same_bytes(elsewhere: list[str]) -> None:
    found: dict[tuple[str, str, str], list[Any]] = {}
    for way in ("serve", "asgi"):
        async with routing(ONE, way=way, environ=ENVIRON, headers=BEARER) as router:
            for page in PAGES:
                for method in ("GET", "HEAD"):
                    for accept in ("*/*", OPENMETRICS):
                        answer = await router.web.request(method, f"/_infermux/{page}", headers={"Accept": accept})
                        assert answer.status_code == 200
                        found.setdefault((page, method, accept), []).append(lasting(answer))
    assert elsewhere == []
    for what, (direct, by_quart) in found.items():
        assert direct == by_quart, what


async def test_by_http_2_too(elsewhere: list[str]) -> None:
    async with routing(ONE) as router:
        one = [lasting(await router.web.get(f"/_infermux/{page}")) for page in PAGES]
        async with httpx.AsyncClient(base_url=router.url, http1=False, http2=True, trust_env=False) as web:
            assert [lasting(await web.get(f"/_infermux/{page}")) for page in PAGES] == one
    assert elsewhere == []


ODD: list[tuple[str, str, dict[str, str], int]] = [
    ("GET", "/_infermux/metrics", NONE, 401),
    ("GET", "/_infermux/metrics", {"Authorization": "Bearer wrong"}, 401),
    ("HEAD", "/_infermux/metrics", NONE, 401),
    ("GET", "/_infermux/metrics", {"Host": "rebound.example"}, 403),
    ("GET", "/_infermux/metrics", {"Origin": "http://elsewhere.example"}, 403),
    ("GET", "/_infermux/metrics?sinse=7d", {}, 400),
    ("POST", "/_infermux/metrics", {}, 405),
    ("POST", "/_infermux/ready", {}, 405),
    ("GET", "/_infermux/metrics/", {}, 404),
    ("GET", "/metrics", {}, 404),
    ("GET", "/%5Finfermux/metrics", {}, 200),
    ("GET", "/_infermux/health?x=1", NONE, 200),
    ("GET", "/_infermux/health", {**NONE, "Host": "rebound.example"}, 200),
]


async def test_what_is_odd_or_refused_is_answered_as_ever(elsewhere: list[str]) -> None:
    found: list[list[Any]] = []
    for way in ("serve", "asgi"):
        async with routing(ONE, way=way, environ=ENVIRON, headers=BEARER) as router:
            found.append(
                [lasting(await router.web.request(method, path, headers=headers)) for method, path, headers, _ in ODD]
            )
    assert [status for status, _, _ in found[0]] == [status for _, _, _, status in ODD]
    for what, direct, by_quart in zip(ODD, *found, strict=True):
        assert direct == by_quart, what
    assert elsewhere == [path for _, path, _, _ in ODD[:-1]]


async def test_a_body_or_an_upgrade_is_left_to_the_application(elsewhere: list[str]) -> None:
    async with routing(ONE) as router:
        assert (await router.web.request("GET", "/_infermux/health", content=b"x")).status_code == 200
        upgrade = {"Connection": "upgrade", "Upgrade": "websocket"}
        assert (await router.web.get("/_infermux/health", headers=upgrade)).status_code in (400, 404)
    assert len(elsewhere) == 2


async def test_bad_news_are_counted_as_ever(elsewhere: list[str]) -> None:
    async with routing(ONE) as router:
        assert (await router.web.get("/_infermux/ready")).json() == {"ready": True}
        assert (await router.web.post("/_infermux/providers/one/disable")).status_code == 200
        refused = await router.web.get("/_infermux/ready")
        assert (refused.status_code, refused.json()["reason"]) == (503, "no routable provider")
        page = (await router.web.get("/_infermux/metrics")).text
        assert 'infermux_refused_total{code="other",status="503"} 1.0' in page
    assert elsewhere == ["/_infermux/providers/one/disable", "/_infermux/ready"]


async def test_what_cannot_be_made_is_an_error_in_the_usual_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    async with routing(ONE, crashes=True) as router:
        assert router.application is not None

        async def broken(_self: object, _accept: str = "") -> tuple[bytes, str]:
            raise RuntimeError("secret detail")

        monkeypatch.setattr("infermux.http.exposition.Metrics.page", broken)
        answer = await router.web.get("/_infermux/metrics")
        assert (answer.status_code, answer.headers["x-infermux-error"]) == (500, "internal_error")
        assert "secret detail" not in answer.text
        assert (await router.web.get("/_infermux/health")).status_code == 200


async def test_without_a_token_they_are_not_shown_to_the_outside(elsewhere: list[str]) -> None:
    auth = {"mode": "static_key", "key": "k"}
    async with routing(ONE, listen="0.0.0.0:0", auth=auth) as router:
        answer = await router.web.get("/_infermux/metrics")
        assert answer.status_code == 401
        assert "INFERMUX_MANAGEMENT_TOKEN" in answer.text
        assert (await router.web.get("/_infermux/health")).status_code == 200
    assert elsewhere == ["/_infermux/metrics"]


async def test_a_connection_serves_pages_and_requests_in_turns() -> None:
    async with routing(ONE) as router:
        stream = await trio.open_tcp_stream("127.0.0.1", router.port)
        async with stream:
            get = b"GET /_infermux/health HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
            models = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await stream.send_all(get % b"" + models + get % b"Connection: close\r\n")
            said = b""
            with trio.fail_after(30):
                async for piece in stream:
                    said += piece
    assert said.count(b"HTTP/1.1 200 ") == 3
    assert said.count(b'"status":"ok"') == 2
    assert _has_ended(router)


def _has_ended(router: Router) -> bool:
    return router.running is not None and router.running.statistics().in_flight == 0
