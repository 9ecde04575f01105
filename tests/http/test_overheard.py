"""Prompts and answers in the log: only where that is asked for, bounded, and without a credential."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from trio.testing import MockClock

from infermux.config.settings import AuthMode, AuthSettings, LogSettings
from infermux.http.overheard import LONGEST, Bodies
from infermux.secret import Secret
from tests.actors._scripted import Step, provider, streams
from tests.http.test_recording import ASKED, Memory, door

ON = LogSettings(bodies=True)
API_KEY, CALLER_KEY, IN_HEADER = "sk-canary/of+a-provider", "sk-canary-of-a-caller", "canary-of-a-header"


async def overheard(exchange: Memory, caplog: pytest.LogCaptureFixture, **config: Any) -> list[Any]:
    """The lines of bodies that a request leaves."""
    caplog.set_level(logging.DEBUG, "infermux")
    config.setdefault("log", ON)
    declared = provider("a", "m", api_key=Secret(API_KEY), headers=config.pop("headers", {}))
    async with door(declared, **config) as d:
        await d.inference(exchange)
    return [record.msg.fields() for record in caplog.records if isinstance(record.msg, Bodies)]


async def test_without_being_asked_nothing_is_logged_of_them(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    assert not await overheard(Memory(), caplog, log=LogSettings())
    assert "Hello" not in caplog.text


async def test_both_sides_of_an_answer(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"choices": [{"message": {"content": "Hi"}}]}'
    [said] = await overheard(Memory(x_request_id="r1"), caplog, script={"a": [Step(body=body)]})
    asked = json.dumps(ASKED)
    assert said == {
        "id": "r1",
        "request": asked,
        "request_bytes": len(asked),
        "answer": body.decode(),
        "answer_bytes": len(body),
    }


async def test_a_stream_is_put_together(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    exchange = Memory({**ASKED, "stream": True})
    [said] = await overheard(exchange, caplog, script={"a": [streams(b"one ", b"two")]})
    assert said["answer"] == "one two"


async def test_what_is_refused_is_there_too(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    [said] = await overheard(Memory(b"{broken"), caplog)
    assert said["request"] == "{broken"
    assert "invalid_request" in said["answer"]


async def test_what_is_long_is_cut(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    [said] = await overheard(Memory(), caplog, script={"a": [Step(body=b"x" * 100_000)]})
    assert (said["answer"], said["answer_bytes"]) == ("x" * LONGEST, 100_000)


async def test_no_credential_is_in_it(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    prompt = f"my keys are {API_KEY} and {CALLER_KEY}"
    headers = {"Authorization": f"Bearer {IN_HEADER}"}
    exchange = Memory(
        {"model": "m", "messages": [{"role": "user", "content": prompt}]}, authorization=f"Bearer {CALLER_KEY}"
    )
    body = json.dumps({"said": [API_KEY, IN_HEADER]}).replace("/", "\\/").encode()
    auth = AuthSettings(mode=AuthMode.STATIC_KEY, key=Secret(CALLER_KEY))
    [said] = await overheard(exchange, caplog, script={"a": [Step(body=body)]}, auth=auth, headers=headers)
    shown = f"{said} {caplog.text}"
    assert "canary" not in shown
    assert said["request"].count("[secret]") == 2
    assert "[secret]" in said["answer"]


async def test_nor_is_a_part_of_one_where_it_is_cut(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    body = b"x" * (LONGEST - 12) + API_KEY.encode()
    [said] = await overheard(Memory(), caplog, script={"a": [Step(body=body)]})
    assert "canary" not in said["answer"]
    assert said["answer"].endswith("x[secret]")


async def test_a_line_is_one_line_whatever_is_said(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    await overheard(Memory(), caplog, script={"a": [Step(body=b"a\nb\x1b[31m\xff\xc2\x9b")]})
    [line] = [record.getMessage() for record in caplog.records if isinstance(record.msg, Bodies)]
    assert line.isascii()
    assert line.isprintable()
