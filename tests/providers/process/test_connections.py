"""Connections of the type `process` to a process that says what it likes: kept, replaced, refused, with its lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from infermux.config.settings import ProviderSettings, Timeouts
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.process.adapter import Process
from infermux.providers.process.messages import Hello, encode
from tests._turns import within
from tests.providers.process._scripted import (
    END,
    REUSING,
    STARTED,
    Scripted,
    Talk,
    call,
    chunk,
    completion,
    drained,
    opened,
    saying,
    scripted,
    whole,
)
from tests.providers.process._served import NAME, Stage

pytestmark = pytest.mark.slow

WHOLE = saying(STARTED + completion() + END)


async def test_a_connection_is_used_again_where_that_was_agreed_on(nursery: trio.Nursery, tmp_path: Path) -> None:
    error = b'{"type":"error","code":"internal","message":"oops"}\n'

    async def script(talk: Talk, asked: Any) -> None:
        if asked.get("stream"):
            await talk.say(STARTED + chunk("hi") + END)
        elif asked["body"].get("fail"):
            await talk.say(error)
        else:
            await talk.say(STARTED + completion() + END)

    process = Scripted(script, hello=REUSING)
    adapter, _ = await scripted(nursery, tmp_path, process)
    await whole(adapter)
    before = process.connections
    await drained(await opened(adapter))
    with pytest.raises(UpstreamFailure):
        await adapter.send(call(fail=True))
    await whole(adapter)
    assert process.connections == before == 2  # that of hello, which says nothing of the later ones


async def test_without_it_every_request_has_its_own(nursery: trio.Nursery, tmp_path: Path) -> None:
    process = Scripted(WHOLE)
    adapter, _ = await scripted(nursery, tmp_path, process)
    for _ in range(3):
        await whole(adapter)
    assert process.connections == 4


async def test_a_kept_connection_that_died_is_replaced(nursery: trio.Nursery, tmp_path: Path) -> None:
    async def once(talk: Talk, _: Any) -> None:
        await talk.say(STARTED + completion() + END)
        if await talk.line() is not None:
            await talk.stream.aclose()  # with the request on its way

    process = Scripted(once, hello=REUSING)
    adapter, _ = await scripted(nursery, tmp_path, process)
    await whole(adapter)
    await whole(adapter)
    assert process.connections == 3


async def test_more_than_the_answer_makes_a_connection_useless(nursery: trio.Nursery, tmp_path: Path) -> None:
    process = Scripted(saying(STARTED + completion() + END + END), hello=REUSING)
    adapter, _ = await scripted(nursery, tmp_path, process)
    await whole(adapter)
    await whole(adapter)
    assert process.connections == 3


@pytest.mark.parametrize("phase", [b"", STARTED, STARTED + chunk("hi")])
async def test_leaving_closes_the_connection_at_once(nursery: trio.Nursery, tmp_path: Path, phase: bytes) -> None:
    arrived = trio.Event()

    async def script(talk: Talk, _: Any) -> None:
        await talk.say(phase)
        arrived.set()
        await talk.line()

    process = Scripted(script, hello=REUSING)
    adapter, _ = await scripted(nursery, tmp_path, process)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:

            async def ask() -> None:
                await drained(await opened(adapter))

            inner.start_soon(ask)
            await arrived.wait()
            await trio.sleep(0.01)
            scope.cancel()
    async with within(0.1):
        await process.left.wait()


async def test_nobody_listening_and_no_process_are_connect_errors(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "gone.sock")
    adapter = Process(ProviderSettings(name=NAME, type="process", command=("x",)), stage)
    with pytest.raises(UpstreamFailure, match="cannot connect to the process of provider mine: No such file") as caught:
        await adapter.send(call())
    assert caught.value.kind is FailureKind.CONNECT
    stage.move(None)
    with pytest.raises(UpstreamFailure, match="it exited with code 1") as caught:
        await adapter.send(call())
    assert caught.value.kind is FailureKind.CONNECT
    stage.settled = True
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    assert caught.value.kind is FailureKind.CREDENTIALS  # nothing but a mended configuration helps


async def test_a_process_that_does_not_start_in_time_is_a_connect_timeout() -> None:
    class Starting(Stage):
        async def ready(self) -> Path:
            await trio.sleep_forever()

    declared = ProviderSettings(name=NAME, type="process", command=("x",), timeouts=Timeouts(connect=0.02))
    adapter = Process(declared, Starting(None))
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    assert caught.value.kind is FailureKind.CONNECT_TIMEOUT


async def test_another_life_of_the_process_is_asked_anew_what_it_speaks(nursery: trio.Nursery, tmp_path: Path) -> None:
    process = Scripted(WHOLE)
    adapter, stage = await scripted(nursery, tmp_path, process)
    await whole(adapter)
    await whole(adapter)
    assert [asked["type"] for asked in process.asked] == ["hello", "invoke", "invoke"]
    stage.move(stage.path, again=True)
    await whole(adapter)
    assert [asked["type"] for asked in process.asked][3:] == ["hello", "invoke"]


async def test_many_that_come_at_once_say_hello_once(nursery: trio.Nursery, tmp_path: Path) -> None:
    process = Scripted(WHOLE)
    adapter, _ = await scripted(nursery, tmp_path, process)
    async with trio.open_nursery() as askers:
        for _ in range(5):
            askers.start_soon(whole, adapter)
    assert [asked["type"] for asked in process.asked].count("hello") == 1


@pytest.mark.parametrize(
    ("hello", "what"),
    [
        (encode(Hello(version=2)), "speaks version 2 of the provider protocol; this is 1"),
        (b'{"type":"error","code":"unsupported_version","message":"this process speaks 7"}\n', "this process speaks 7"),
    ],
)
async def test_a_version_that_is_not_ours_is_said(
    nursery: trio.Nursery, tmp_path: Path, hello: bytes, what: str
) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(WHOLE, hello=hello))
    with pytest.raises(UpstreamFailure, match=what):
        await adapter.send(call())


async def test_a_life_ends_with_the_adapter_and_news_of_it_are_told(nursery: trio.Nursery, tmp_path: Path) -> None:
    adapter, stage = await scripted(nursery, tmp_path, Scripted(WHOLE))
    path, told = stage.path, list[bool]()
    stage.path = None
    nursery.start_soon(adapter.run, told.append)
    await trio.testing.wait_all_tasks_blocked()
    stage.move(path, again=True)
    await trio.testing.wait_all_tasks_blocked()
    stage.move(path)
    await trio.testing.wait_all_tasks_blocked()
    stage.move(None)
    await trio.testing.wait_all_tasks_blocked()
    assert told == [True, False]
    await adapter.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert stage.ended
    stage.move(path)
    with pytest.raises(UpstreamFailure, match="was closed"):
        await adapter.send(call())
