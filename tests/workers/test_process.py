"""What is left of a worker that could not be started."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from infermux.workers.process import Child, start

pytestmark = pytest.mark.slow


def _open_descriptors() -> set[str]:
    return {os.readlink(f"/proc/self/fd/{each}") for each in _numbers()} - {"anon_inode:[eventpoll]"}


def _numbers() -> list[str]:
    return [each for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}")]


async def test_where_there_is_no_room_for_a_process_nothing_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_room)
    before = _open_descriptors()
    with pytest.raises(BlockingIOError):
        start(0, 0, lambda _: None)
    assert _open_descriptors() <= before


async def test_where_there_is_no_room_for_a_thread_its_process_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(threading.Thread, "start", no_room)
    before = _open_descriptors()
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="new thread"):
        start(0, reading, lambda _: None)
    os.close(reading)
    os.close(writing)
    assert [process.returncode for process in started] == [-9]
    assert _open_descriptors() <= before


async def test_where_no_descriptor_is_left_the_end_of_a_worker_is_seen_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(_pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    writer = threading.Thread(target=int)
    writer.start()
    link: Any = None
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:  # noqa: ASYNC220 - as `start` does
        assert await Child(0, process, link, 0.0, writer).ended() == 3
