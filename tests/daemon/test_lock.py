"""One daemon for each home."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from infermux.daemon import lock
from infermux.daemon.lock import Facts, Home, Lock, NotReadable, holder


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(lock, "WRITTEN_WITHIN", 0.05)


def facts(taken: Lock, **more: Any) -> Facts:
    return Facts(pid=os.getpid(), fd=taken.fd, since=1.5, version="1", cwd="/", arguments=("--demo",), **more)


def taken(home: Home) -> Lock:
    found = Lock.take(home)
    assert found is not None
    return found


def test_only_one_takes_it_and_the_others_learn_who(home: Home) -> None:
    assert holder(home) is None
    held = taken(home)
    held.tell(facts(held))
    assert Lock.take(home) is None
    assert holder(home) == facts(held)
    held.tell(facts(held, state="ready", url="http://127.0.0.1:1"))
    held.tell(facts(held))  # shorter than before
    assert holder(home) == facts(held)
    held.release()
    assert holder(home) is None
    taken(home).release()


def test_the_folder_and_the_file_are_for_nobody_else(home: Home) -> None:
    taken(home).release()
    assert home.folder.stat().st_mode & 0o777 == 0o700
    assert home.lock.stat().st_mode & 0o777 == 0o600
    assert home.folder == Path(os.environ["HOME"], ".infermux")


def test_what_a_killed_one_left_is_not_taken_for_its_successor(home: Home) -> None:
    killed = taken(home)
    left = json.dumps(attrs.asdict(attrs.evolve(facts(killed), pid=1)))
    held = killed
    os.pwrite(held.fd, left.encode(), 0)  # as between flock and the first write of the next one
    with pytest.raises(NotReadable, match="process 1, which is written in it, does not have it open"):
        holder(home)
    held.tell(facts(held))
    assert holder(home) == facts(held)
    held.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "12"])
def test_a_holder_that_does_not_say_what_it_is_is_an_error(home: Home, text: str) -> None:
    held = taken(home)
    os.pwrite(held.fd, text.encode(), 0)
    with pytest.raises(NotReadable, match="does not say what it is"):
        holder(home)
    held.release()


def test_a_newer_daemon_may_say_more(home: Home) -> None:
    held = taken(home)
    text = json.dumps({**attrs.asdict(facts(held)), "colour": "red"})
    assert Facts.parsed(text.encode()) == facts(held)
    held.release()


def test_who_only_looks_does_not_keep_it_from_being_taken(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(home).release()
    looking = taken(home)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            looking.release()

    monkeypatch.setattr(time, "sleep", sleep)
    taken(home).release()
    assert len(slept) == 2
