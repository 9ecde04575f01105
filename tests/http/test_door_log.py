"""What is logged and counted of commands and of whom the door turned away."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.errors import RequestTimeout
from infermux.http.door_log import MOST, DoorLine, DoorLog
from tests.e2e._router import Router, provider, routing
from tests.http._caller import calling

CANARY = "t0ken-do-not-show"
TOKEN = {"INFERMUX_MANAGEMENT_TOKEN": CANARY}
BEARER = {"authorization": f"Bearer {CANARY}"}
HTTP = "http://127.0.0.1:1"


@pytest.fixture(name="lines")
def _lines(caplog: pytest.LogCaptureFixture) -> Generator[list[DoorLine]]:
    """Of the door, as they come."""
    kept: list[DoorLine] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.msg, DoorLine):
                kept.append(record.msg)

    caplog.set_level(logging.INFO, logger="infermux.door")
    logging.getLogger("infermux.door").addHandler(keeper := Keeper())
    try:
        yield kept
    finally:
        logging.getLogger("infermux.door").removeHandler(keeper)


def said(lines: list[DoorLine]) -> list[dict[str, Any]]:
    """What they say but for where from, which is checked."""
    found = [{"event": line.event, **line.fields()} for line in lines]
    lines.clear()
    assert all(CANARY not in str(each) for each in found)
    for each in found:
        host, _, port = each.pop("from").partition(":")
        assert (host, port.isdigit()) == ("127.0.0.1", True)
    return found


@pytest.mark.slow
async def test_every_command_leaves_a_line_that_tells_what_it_did(lines: list[DoorLine], tmp_path: Any) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/keys.db"}
    async with routing(provider("one", HTTP), environ=TOKEN, headers=BEARER, ledger=ledger) as router:
        web = router.web
        made = (await web.post("/_infermux/keys", json={"name": "team-a"})).json()
        await web.post(f"/_infermux/keys/{made['id']}/rotate")
        await web.delete("/_infermux/keys/team-a")
        await web.post("/_infermux/providers/one/disable")
        await web.post("/_infermux/providers/nobody/enable")
        await web.post("/_infermux/reload?dry_run=true")
        await web.delete("/_infermux/requests/r1")
        await web.post("/_infermux/session")
        await web.get("/_infermux/status")
    common = {"event": "command", "auth": "token"}
    key = {"key": made["id"], "name": "team-a"}
    keys, reload = "/_infermux/keys", "/_infermux/reload"
    providers, gone = "/_infermux/providers", {"status": 404, "code": "not_found"}
    assert said(lines) == [
        {**common, "method": "POST", "path": keys, "status": 201, **key},
        {**common, "method": "POST", "path": f"{keys}/{made['id']}/rotate", "status": 200, **key},
        {**common, "method": "DELETE", "path": f"{keys}/team-a", "status": 200, **key},
        {**common, "method": "POST", "path": f"{providers}/one/disable", "status": 200},
        {**common, "method": "POST", "path": f"{providers}/nobody/enable", **gone},
        {**common, "method": "POST", "path": reload, "status": 400, "code": "invalid_request"},
        {**common, "method": "DELETE", "path": "/_infermux/requests/r1", **gone},
        {**common, "method": "POST", "path": "/_infermux/session", "status": 204},
    ]


@pytest.mark.slow
async def test_a_line_has_no_secret_of_a_key_that_stood_in_the_path(lines: list[DoorLine], tmp_path: Any) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/keys.db"}
    async with routing(provider("one", HTTP), ledger=ledger) as router:
        made = (await router.web.post("/_infermux/keys", json={"name": "team-a"})).json()
        lines.clear()
        await router.web.delete(f"/_infermux/keys/{made['key']}")
    [line] = said(lines)
    assert made["key"].rpartition("_")[2] not in str(line)
    assert line["path"] == f"/_infermux/keys/ifx_{made['id']}_[secret]"
    assert line["auth"] == "open"


@pytest.mark.slow
async def test_whom_the_door_turns_away_is_logged_and_counted(lines: list[DoorLine]) -> None:
    static = {"mode": "static_key", "key": "k-1"}
    async with routing(provider("one", HTTP), environ=TOKEN, auth=static) as router:
        web = router.web
        await web.get("/v1/models", headers={"authorization": "Bearer tried"})
        await web.post("/_infermux/reload", headers={"authorization": "Bearer tried"})
        await web.get("/_infermux/", headers={"authorization": "Bearer tried"})
        await web.put("/v1/chat/completions", headers={"authorization": "Bearer k-1"})
        await web.get("/", headers={"authorization": "Bearer k-1"})
        await web.get("/v1/models", headers={"authorization": "Bearer k-1"})
        page = (await web.get("/_infermux/metrics", headers=BEARER)).text
    denied = {"event": "refused", "status": 401, "code": "unauthorized"}
    assert said(lines) == [
        {**denied, "method": "GET", "path": "/v1/models"},
        {**denied, "method": "POST", "path": "/_infermux/reload"},
        {**denied, "method": "GET", "path": "/_infermux/"},
        {
            "event": "refused",
            "status": 405,
            "code": "method_not_allowed",
            "method": "PUT",
            "path": "/v1/chat/completions",
        },
        {"event": "refused", "status": 404, "code": "not_found", "method": "GET", "path": "/"},
    ]
    assert 'infermux_refused_total{code="unauthorized",status="401"} 3.0' in page


@pytest.mark.slow
async def test_the_opening_of_a_web_socket_is_refused_and_logged(lines: list[DoorLine]) -> None:
    opening = (
        b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with routing(provider("one", HTTP)) as router:
        await told(router, opening)
    refused = {"event": "refused", "status": 404, "code": "not_found", "method": "GET"}
    assert said(lines) == [{**refused, "path": "/v1/responses"}]


HEADS = {
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n": (400, "invalid_request"),
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"a" * 100_000): (431, "head_too_large"),
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: a\r\nContent-Length: 1\r\n\r\n": (
        417,
        "invalid_request",
    ),
    b"\x16\x03\x01\x02\x00\r\n\r\n": (400, "invalid_request"),
    b"POST /": (408, "request_timeout"),
}


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS, ids=["encoding", "large", "expect", "garbage", "slow"])
async def test_heads_that_nobody_can_read_are_logged_and_counted(lines: list[DoorLine], head: bytes) -> None:
    status, code = HEADS[head]
    async with routing(provider("one", HTTP), limits={"header_timeout": "200ms"}) as router:
        await told(router, head)
        assert router.application is not None
        assert router.application.door_log.refused == {(status, code): 1}
    assert said(lines) == [{"event": "refused", "status": status, "code": code}]


async def told(router: Router, head: bytes) -> None:
    async with calling(router.port) as caller:
        await caller.say(head)
        await caller.reply()


async def test_a_flood_of_refusals_has_a_few_lines_a_second_and_tells_of_the_others(
    autojump_clock: MockClock, lines: list[DoorLine]
) -> None:
    door_log = DoorLog()
    for _ in range(1000):
        door_log.turned_away(RequestTimeout("slow"), ("::1", 7))
    assert len(lines) == MOST
    await trio.sleep(1)
    door_log.turned_away(RequestTimeout("slow"), ("::1", 7))
    assert lines[-1].fields()["unlogged"] == 1000 - MOST
    assert lines[-1].fields()["from"] == "[::1]:7"
    assert door_log.refused == {(408, "request_timeout"): 1001}


def test_what_a_caller_wrote_makes_no_second_line() -> None:
    assert str(DoorLine("refused", {"path": "/a\nb\x1b[1m", "unlogged": None})) == 'path="/a\\nb\\u001b[1m"'
