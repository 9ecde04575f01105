"""The daemon as its user meets it: processes, commands and their exit codes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infermux.daemon import control
from infermux.daemon.control import NotStarted, Runs, start
from infermux.daemon.lock import Facts, Home, holder
from tests.daemon._daemons import SIMULATED, infermux, write
from tests.processes._started import group_is_gone, spec

pytestmark = pytest.mark.slow

MISSING = {"name": "missing", "type": "process", "command": ["/nowhere"]}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(home: Home) -> Facts:
    facts = holder(home)
    assert facts is not None
    return facts


def asked_to_stream(facts: Facts) -> http.client.HTTPConnection:
    """A connection whose answer has begun and lasts."""
    assert facts.url is not None
    connection = http.client.HTTPConnection(urlsplit(facts.url).netloc, timeout=30)
    body = json.dumps({"model": "one/m", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    assert connection.getresponse().readline()
    return connection


def started(home: Home) -> Facts | Runs:
    try:
        return start(home, ["--config", "mine.yml", "--log-level", "debug"])
    except Runs as error:
        return error


def test_of_two_starts_at_once_one_succeeds_and_it_says_how_it_is_reloads_and_restarts_as_it_was(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, socket = tmp_path / "told", tmp_path / "socket"
    process = spec(["tell", str(told)], ["listen", str(socket)], ["serve"]).command
    slow = {**SIMULATED, "simulate": {"first_token": "10ms", "tokens_per_second": 0.5}}
    providers = [slow, {"name": "p", "type": "process", "command": process}, MISSING]
    write(tmp_path / "mine.yml", *providers)
    with ThreadPoolExecutor() as threads:
        came_to = list(threads.map(started, [home] * 2))
    (first,) = [each for each in came_to if isinstance(each, Facts)]
    assert (first, os.getsid(first.pid)) == (running(home), first.pid)
    assert home.log.read_text().count("listens on http://127.0.0.1:") == 1
    with pytest.raises(Runs, match=f"already, as process {first.pid}"):
        start(home, [])
    done = infermux("status")
    assert f"process    {first.pid} (ready)" in done.stdout
    assert f"address    {first.url}\n" in done.stdout
    assert " of 3 routable" in done.stdout
    until(lambda: re.search(r"missing: \w+: its command '/nowhere' ", infermux("status").stdout) is not None)

    write(tmp_path / "mine.yml", *providers, {"name": "two", "type": "simulated"})
    done = infermux("reload")
    assert (done.exit_code, "two" in done.stdout) == (0, True), done.output
    shown = json.loads(infermux("status", "--json").stdout)
    assert (shown["pid"], shown["state"], shown["config"]) == (first.pid, "ready", str(tmp_path / "mine.yml"))
    assert [each["name"] for each in shown["router"]["providers"]] == ["one", "p", "missing", "two"]

    write(tmp_path / "mine.yml", {"name": "one", "type": "none"})
    done = infermux("restart")
    assert (done.exit_code, "mine.yml:1: providers[0].type: " in done.stderr) == (2, True), done.output
    assert (running(home).pid, running(home).state) == (first.pid, "ready")

    write(tmp_path / "mine.yml", *providers)
    caller = asked_to_stream(first)
    restart_told_to_hurry(home)
    caller.close()
    second = running(home)
    assert (second.arguments, second.pid != first.pid) == (first.arguments, True)
    until(socket.exists)
    monkeypatch.setattr(control, "DRAINS_WITHIN", 0.1)
    os.kill(second.pid, signal.SIGSTOP)  # it takes no other signal than SIGKILL
    assert infermux("stop", "--now").stdout == f"stopped (process {second.pid})\n"
    done = infermux("status")
    assert (done.exit_code, done.stdout[:24]) == (1, "no infermux runs in the ")
    until(lambda: group_is_gone(json.loads(told.read_text())["pid"]) and not socket.exists())
    done = infermux("stop", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"stopped": False, "pid": None})


def restart_told_to_hurry(home: Home) -> None:
    """`infermux restart` waits for requests, unless Ctrl+C comes twice."""
    command = [sys.executable, "-m", "infermux", "restart"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as restarting:
        assert restarting.stderr is not None
        assert restarting.stdout is not None
        assert re.match(r"waiting for 1 request, at most (29|30) s\n", restarting.stderr.readline())
        assert running(home).state == "draining"
        restarting.send_signal(signal.SIGINT)
        assert "goes on finishing its requests; Ctrl+C again" in restarting.stderr.readline()
        restarting.send_signal(signal.SIGINT)
        began = time.monotonic()
        said = restarting.stdout.readline()
        assert time.monotonic() - began < 20
        facts = running(home)
        assert f"runs as process {facts.pid} and listens on {facts.url} (" in said


def test_what_a_daemon_wrote_is_printed_where_it_does_not_start(home: Home, tmp_path: Path) -> None:
    write(tmp_path / "infermux.yml", {"name": "one", "type": "simulated", "colour": "red"}, {"type": "openai"})
    done = infermux("start")
    assert done.exit_code == 2
    assert re.search(r"infermux\.yml:1: providers\[0\]\.colour: ", done.stderr)
    assert re.search(r"infermux\.yml:1: providers\[1\]\.name: ", done.stderr)
    assert done.stderr.endswith(
        "infermux: it ended with exit code 2 before it was ready; nothing runs in the background\n"
    )
    assert "colour" in home.log.read_text()
    assert holder(home) is None


def test_without_providers_it_says_where_they_belong_and_what_installs_one(home: Home) -> None:
    with pytest.raises(NotStarted) as caught:
        start(home, [])
    assert caught.value.exit_code == 2
    assert "no model providers configured" in caught.value.wrote
    assert str(home.folder / "providers.json") in caught.value.wrote
    assert "infermux provider install" in caught.value.wrote


def test_one_that_is_killed_before_it_is_ready_says_by_what(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home.folder.with_name("killed")
    program.write_text("#!/bin/sh\necho said\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(NotStarted, match=r"it was ended by signal 9 \(Killed\) before it was ready") as caught:
        start(home, [])
    assert (caught.value.wrote, caught.value.exit_code) == ("said\n", 1)


@pytest.mark.long
def test_a_strict_provider_that_does_not_start_is_the_end_of_it(home: Home, tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo no such region >&2; exit 4"]
    write(tmp_path / "infermux.yml", SIMULATED, {"name": "x", "type": "process", "command": command, "strict": True})
    with pytest.raises(NotStarted) as caught:
        start(home, [])
    assert caught.value.exit_code == 1
    assert (
        "infermux: provider x could not be started, and is `strict`: its process exited with code 4"
        in caught.value.wrote
    )
    assert "stderr:\n  no such region\n" in caught.value.wrote  # the log may have had a line left
