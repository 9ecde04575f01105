"""Nothing of a process is left when the router is killed, and twenty start at once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from infermux.processes import ProcessUnavailable, ProviderProcess, Spec
from infermux.processes.launch import GATE, SHELL
from tests.processes._scripted import bind
from tests.processes._started import SOON, children_of, group_is_gone, is_gone, running, spec, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


async def test_nothing_is_left_of_good_and_of_bad_ones_when_the_router_is_killed(tmp_path: Path) -> None:
    told, pid, paths = [tmp_path / "good", tmp_path / "bad"], tmp_path / "pid", [tmp_path / "it's one", tmp_path / "2"]
    good = spec(["tell", str(told[0])], ["listen", str(paths[0])], ["serve"])
    rude = ["ignore", "SIGTERM"], ["child", str(pid)]
    bad = spec(*rude, ["tell", str(told[1])], ["listen", str(paths[1])], ["hang"])
    router = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.processes._router", json.dumps([good.command, bad.command])],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert router.stdout is not None
    async with router.stdout:
        said = b""
        while not said.endswith(b"\n"):
            said += await router.stdout.receive_some()
        assert said == b"ready\n"
        groups = [json.loads(each.read_text())["pid"] for each in told]
        assert not any(map(group_is_gone, groups))
        await _replaced_guards(router.pid, groups)
        router.kill()
        await router.wait()
    began = trio.current_time()
    await until(lambda: group_is_gone(groups[0]))
    print(f"the well-behaved one was gone {trio.current_time() - began:.2f} s after the router")
    await until(lambda: group_is_gone(groups[1]))
    print(f"the other one was gone {trio.current_time() - began:.2f} s after the router")
    await until(lambda: is_gone(int(pid.read_text())))
    await until(lambda: not any(path.exists() for path in paths))


async def _replaced_guards(router: int, groups: list[int]) -> None:
    """Kill the guards of a router's processes; those that take their place do what is left to do."""

    def guards() -> set[int]:
        return {pid for pid in children_of(router) if pid not in groups and not is_gone(pid)}

    killed = guards()
    assert len(killed) == len(groups)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len(guards() - killed) == len(groups))


async def test_what_a_router_did_not_live_to_let_begin_never_begins(tmp_path: Path) -> None:
    began = tmp_path / "began"
    gate = [SHELL, "-c", GATE, "gate", "/usr/bin/touch", str(began)]
    done = await trio.run_process(gate, stdin=b"", check=False)
    assert done.returncode == 125
    assert not began.exists()
    await trio.run_process(gate, stdin=b"\n")
    assert began.exists()


async def test_it_is_ended_also_when_its_guard_was_killed(tmp_path: Path) -> None:
    path, before = tmp_path / "socket", children_of(os.getpid())
    async with running(spec(["listen", str(path)], ["serve"])) as process:
        await process.ready()
        pid = process.statistics()["pid"]
        (guard,) = [each for each in children_of(os.getpid()) if each not in (*before, pid)]
        os.kill(guard, signal.SIGKILL)
    assert group_is_gone(pid)
    assert not path.exists()
    assert children_of(os.getpid()) == before


async def test_twenty_start_side_by_side_whatever_becomes_of_others(tmp_path: Path) -> None:
    paths = [tmp_path / str(n) for n in range(20)]
    for path in paths:
        bind(path)
    scripts = [
        *(f"sleep {SOON / 10}; echo {shlex.quote(str(path))}; exec cat" for path in paths),
        "exit 1",
        "exec sleep 60",
    ]
    processes = [ProviderProcess(Spec(name="one", command=(SHELL, "-c", script))) for script in scripts]
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        for process in processes:
            nursery.start_soon(process.run)
        with trio.fail_after(SOON):  # one after the other they would take twice as long
            for process in processes[:20]:
                await process.ready()
        took = trio.current_time() - began
        with pytest.raises(ProcessUnavailable):
            await processes[20].ready()
        nursery.cancel_scope.cancel()
    print(f"twenty that take {SOON / 10:g} s started in {took:.2f} s")
