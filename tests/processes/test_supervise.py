"""Real processes: what they may do wrong, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import trio

from infermux.processes import ProcessUnavailable, State
from tests.processes._started import children_of, group_is_gone, is_gone, running, spec, until

pytestmark = pytest.mark.slow


async def test_it_starts_with_nothing_but_what_is_declared_and_ends_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for everybody")
    monkeypatch.setenv("LANG", "C.UTF-8")
    told, path = tmp_path / "told", tmp_path / "socket"
    wanted = spec(
        ["tell", str(told)],
        ["listen", str(path)],
        ["serve"],
        arguments=("--flag", "two words"),
        env={"MINE": "a b"},
        cwd=tmp_path,
    )
    before = children_of(os.getpid())
    async with running(wanted) as process:
        assert await process.ready() == path
        assert (process.state, process.generation) == (State.READY, 1)
        told_of = json.loads(told.read_text())
        expected = {"MINE": "a b", "LANG": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
        assert told_of["env"] == expected
        assert told_of["cwd"] == str(tmp_path)
        assert told_of["argv"] == ["--flag", "two words"]
        pid = told_of["pid"]
        assert os.getsid(pid) == os.getpgid(pid) == pid
    assert process.state is State.STOPPED
    assert group_is_gone(pid)
    assert children_of(os.getpid()) == before
    assert not path.exists()


async def test_the_reason_and_its_last_words_are_told_when_it_ends_before_it_is_ready() -> None:
    wanted = spec(*(["say", "err", f"line {n}"] for n in range(30)), ["exit", 3])
    async with running(wanted) as process:
        with pytest.raises(ProcessUnavailable) as caught:
            await process.ready()
    assert caught.value.reason == "its process exited with code 3 before it was ready"
    assert caught.value.stderr == tuple(f"line {n}" for n in range(20, 30))
    assert not caught.value.settled
    assert caught.value.message.endswith(
        "; the last that it wrote to stderr:" + "".join(f"\n  line {n}" for n in range(20, 30))
    )


async def test_what_ignores_sigterm_is_killed_with_its_children_after_the_grace(tmp_path: Path) -> None:
    pid, told, path = tmp_path / "pid", tmp_path / "told", tmp_path / "socket"
    steps = (["ignore", "SIGTERM"], ["child", str(pid)], ["tell", str(told)], ["listen", str(path)], ["hang"])
    async with running(spec(*steps, stop_grace=0.1)) as process:
        await process.ready()
        began = trio.current_time()
    assert 0.1 < trio.current_time() - began < 4
    await until(lambda: group_is_gone(json.loads(told.read_text())["pid"]))  # a busy machine takes its time to kill
    await until(lambda: is_gone(int(pid.read_text())))
    assert not path.exists()


async def test_the_children_of_one_that_ended_by_itself_go_too_and_it_starts_again(tmp_path: Path) -> None:
    pid, path = tmp_path / "pid", tmp_path / "socket"
    steps = (["child", str(pid)], ["listen", str(path)], ["sleep", 0.05], ["signal", "SIGSEGV"])
    async with running(spec(*steps, backoff_base=0.05)) as process:
        await process.ready()
        await until(lambda: process.state is State.BACKING_OFF)
        assert process.reason == "its process was ended by SIGSEGV"
        await until(lambda: is_gone(int(pid.read_text())))
        await until(lambda: process.generation == 2 and process.state is State.READY)
        assert await process.ready() == path
    assert not path.exists()


async def test_one_that_left_its_group_and_holds_the_pipes_holds_nothing_up(tmp_path: Path) -> None:
    # Its own stdout and stderr are ours: who waited for their end would wait for a minute.
    pid = tmp_path / "pid"
    async with running(spec(["child", str(pid), "escapes"], ["exit", 1], backoff_base=60)) as process:
        try:
            await until(lambda: process.state is State.BACKING_OFF, within=3)
        finally:
            os.kill(int(pid.read_text()), signal.SIGKILL)


async def test_a_path_that_is_not_its_socket_is_refused_and_it_is_ended(tmp_path: Path) -> None:
    async with running(spec(["announce", str(tmp_path / "nothing")], ["serve"])) as process:
        with pytest.raises(ProcessUnavailable, match="/nothing', which does not exist"):
            await process.ready()


async def test_a_flood_of_output_holds_neither_it_nor_the_router_nor_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(spec(["flood", "err", 400_000], ["flood", "out", 400_000], ["exit", 0])) as process:
        with pytest.raises(ProcessUnavailable):
            await process.ready()
    said = [record.getMessage() for record in caplog.records]
    assert 100 <= sum(" says: xxx" in line for line in said) <= 400
    assert (
        sum(int(line.split()[2]) for line in said if "left out" in line) + sum("says" in line for line in said) == 8000
    )
