"""Starting, waiting, starting again, giving up: over processes that are scripts, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from infermux.processes import ProcessUnavailable, ProviderProcess, Spec, State
from tests.processes._scripted import Launcher, Play, ScriptedLife, bind, crashing, serving, silent


@pytest.fixture
def listening(tmp_path: Path) -> Path:
    """Where a scripted process will listen."""
    return tmp_path / "socket"


@asynccontextmanager
async def running(*scripts: Play | str, **more: Any) -> AsyncGenerator[tuple[ProviderProcess, Launcher]]:
    async with trio.open_nursery() as nursery:
        launcher = Launcher(nursery, list(scripts))
        process = ProviderProcess(Spec(name="one", command=("any",), **more), launch=launcher)
        async with trio.open_nursery() as inner:
            inner.start_soon(process.run)
            yield process, launcher
            inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


def is_removed(path: Path) -> bool:
    return not path.exists()


async def refused(process: ProviderProcess) -> ProcessUnavailable:
    with pytest.raises(ProcessUnavailable) as caught:
        await process.ready()
    return caught.value


async def until(process: ProviderProcess, holds: Callable[[], bool]) -> None:
    while not holds():
        await process.changed()


async def test_whoever_asks_for_it_waits_while_it_starts(listening: Path, autojump_clock: MockClock) -> None:
    async with running(serving(listening, after=29)) as (process, launcher):
        assert process.state is State.STARTING
        assert await process.ready() == listening
        assert trio.current_time() == pytest.approx(29)
        assert launcher.lives[0].protected == [listening]
        assert process.statistics() | {"ready_for": 0} == {
            "state": "ready",
            "reason": "it is ready",
            "pid": 1000,
            "socket": str(listening),
            "generation": 1,
            "exits": 0,
            "ready_for": 0,
        }
    assert launcher.lives[0].graces == [5.0]
    assert (process.state, process.path, process.statistics()["pid"]) == (State.STOPPED, None, None)
    assert "not run any more" in (await refused(process)).reason


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ((), ""),
        ((b"Welcome!\n", b"\xffready at \x1b[1mx.sock\n"), r"; its last line there was '\xffready at \x1b[1mx.sock'"),
        ((b"/run/x.sock",), ", only '/run/x.sock' without an end of line"),
    ],
)
async def test_silence_is_over_after_the_limit_and_says_what_came_instead(
    said: tuple[bytes, ...], hint: str, autojump_clock: MockClock
) -> None:
    async with running(silent(*said), stop_grace=3) as (process, launcher):
        error = await refused(process)
        assert trio.current_time() == pytest.approx(30)
        assert error.reason == f"it printed no path of a socket to stdout within 30 s{hint}"
        await until(process, lambda: process.generation == 2)
        assert launcher.lives[0].graces == [3.0]
        assert launcher.started_at == [0, 33.25]


async def test_lines_before_the_path_go_to_the_log(
    listening: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    async with running(serving(listening, before=b"Provider 1.0\n\nsee https://example.com\n")) as (process, _):
        assert await process.ready() == listening
    said = [record.getMessage() for record in caplog.records]
    assert said[:3] == [
        "provider one says: Provider 1.0",
        "provider one says: ",
        "provider one says: see https://example.com",
    ]


async def test_a_second_path_is_only_a_line(
    listening: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)

    async def play(life: ScriptedLife) -> None:
        bind(listening)
        await life.out.send_all(bytes(listening) + b"\n/another\n")

    async with running(play) as (process, _):
        assert await process.ready() == listening
        await trio.testing.wait_all_tasks_blocked()
    assert "provider one says: /another" in caplog.messages


async def test_the_waits_between_starts_double_and_five_exits_in_a_minute_are_a_crash_loop(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with running(crashing(1, b"no such region\n")) as (process, launcher):
        error = await refused(process)
        assert (error.settled, error.stderr) == (False, ("no such region",))
        assert process.state is State.BACKING_OFF
        await until(process, lambda: process.state is State.FAILED)
        assert launcher.started_at == [0, 1.25, 2.75, 4.75, 7.75]
        error = await refused(process)
        assert error.settled
        assert "exited with code 1 before it was ready; it has ended 5 times within 60 s" in error.message
        assert error.message.endswith("\n  no such region")
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "5 times within 60 s" in told.getMessage()
    assert "no such region" in told.getMessage()


async def test_what_crash_loops_is_tried_rarely_and_comes_back_when_it_can(
    listening: Path, autojump_clock: MockClock
) -> None:
    scripts: list[Play | str] = ["it cannot be started"] * 6
    async with running(*scripts, serving(listening)) as (process, launcher):
        await until(process, lambda: process.state is State.FAILED)
        assert launcher.started_at[-1] == 3.75
        await until(process, lambda: process.state is State.READY)
        assert launcher.started_at[-2:] == [303.75, 603.75]
        assert await process.ready() == listening


async def test_while_a_crash_loop_is_tried_again_nobody_waits_for_it(
    listening: Path, autojump_clock: MockClock
) -> None:
    scripts: list[Play | str] = ["it cannot be started"] * 5
    async with running(*scripts, serving(listening, after=20)) as (process, launcher):
        await trio.sleep(304)
        assert len(launcher.lives) == 1
        assert (await refused(process)).settled


async def test_an_operator_has_it_tried_now(listening: Path, autojump_clock: MockClock) -> None:
    scripts: list[Play | str] = ["it cannot be started"] * 5
    async with running(*scripts, serving(listening)) as (process, _):
        await until(process, lambda: process.state is State.FAILED)
        process.retry()
        assert await process.ready() == listening
        assert trio.current_time() < 5


async def test_one_that_was_well_for_a_minute_is_started_again_soon_and_for_ever(
    listening: Path, autojump_clock: MockClock
) -> None:
    async with running(serving(listening, lasting=61)) as (process, launcher):
        await until(process, lambda: process.generation == 20)
        waits = [b - a - 61 for a, b in zip(launcher.started_at, launcher.started_at[1:], strict=False)]
        assert waits == pytest.approx([0.25] * 19)


async def test_it_is_unavailable_at_once_when_it_ends(listening: Path, autojump_clock: MockClock) -> None:
    async with running(serving(listening, lasting=5)) as (process, _):
        await process.ready()
        await until(process, lambda: process.state is not State.READY)
        assert trio.current_time() == pytest.approx(5)
        assert (process.state, process.path) == (State.BACKING_OFF, None)
        assert (await refused(process)).reason == "its process exited with code 0"
    assert is_removed(listening)


async def test_a_socket_printed_by_one_that_ended_at_once_is_removed_too(
    listening: Path, autojump_clock: MockClock
) -> None:
    async with running(serving(listening, lasting=0)) as (process, _):
        await until(process, lambda: process.state is State.BACKING_OFF)
    assert is_removed(listening)


async def test_it_is_ended_while_it_starts_and_while_it_waits(autojump_clock: MockClock) -> None:
    async with running(silent()) as (process, launcher):
        await trio.sleep(1)
    assert launcher.lives[0].graces == [5.0]
    async with running("it cannot be started") as (process, launcher):
        await until(process, lambda: process.state is State.BACKING_OFF)
    assert process.state is State.STOPPED


async def test_what_it_says_while_it_ends_is_heard(
    listening: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)

    async def play(life: ScriptedLife) -> None:
        bind(listening)
        await life.out.send_all(bytes(listening) + b"\n")
        await life.asked_to_end.wait()
        await trio.sleep(1)
        await life.err.send_all(b"bye\n")
        await life.exit(0)

    async with running(play) as (process, _):
        await process.ready()
    assert "provider one says: bye" in caplog.messages


async def test_one_that_had_to_be_killed_is_told_of(
    listening: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async def play(life: ScriptedLife) -> None:
        bind(listening)
        await life.out.send_all(bytes(listening) + b"\n")

    async with running(play) as (process, _):
        await process.ready()
    assert caplog.messages == ["provider one: process 1000 did not end within 5 s of SIGTERM and was killed"]
    caplog.clear()
    async with running(serving(listening)) as (process, _):
        await process.ready()
    assert caplog.messages == []
