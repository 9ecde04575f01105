"""What a process has open and running that should have ended."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import attrs
import trio

from tests.mocks.openai_upstream import OpenAIUpstream

MOCKS = str(Path(__file__).parents[2] / "mocks")


@attrs.frozen
class Left:
    """Descriptors and tasks that are not the mock upstreams': each of their connections has two ends here."""

    descriptors: int
    tasks: Counter[str]

    @classmethod
    def now(cls, upstreams: list[OpenAIUpstream]) -> Left:
        theirs = sum(upstream.open_connections for upstream in upstreams)
        return cls(open_files() - 2 * theirs, Counter(_tasks()))

    def beyond(self, before: Left) -> dict[str, int]:
        """What there is more of now."""
        found = {name: self.tasks[name] - before.tasks[name] for name in self.tasks | before.tasks}
        found["descriptors"] = self.descriptors - before.descriptors
        return {name: count for name, count in found.items() if count > 0}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _tasks() -> list[str]:
    """The names of all tasks of this run but those of mocks."""
    root = trio.lowlevel.current_root_task()
    assert root is not None, "within a run"
    found: list[str] = []
    waiting = [root]
    while waiting:
        task = waiting.pop()
        if MOCKS not in _where(task):
            found.append(task.name)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def _where(task: trio.lowlevel.Task) -> str:
    """The files in which the task stands."""
    return " ".join(frame.f_code.co_filename for frame, _ in task.iter_await_frames())
