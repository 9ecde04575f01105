"""Who holds the event loop: a task that runs for long without a wait stops everybody else's streams.

trio calls `Watchdog.before_task_step` for every step of every task, so that method does next to nothing: it compares
two clock readings. A daemon thread looks at the step under way every `LOOK_EVERY` seconds, and takes the stack of the
loop's thread where that step is getting long. A look costs some 90 microseconds, most of it for waking up. So the
thread looks often only for a while after a hold: one that comes back is found with its stack however short it is, one
that comes once if it lasts for `LOOK_AFTER` and `LOOK_EVERY`, or `LOOK_RARELY` where nothing has happened for a while.
The thread also writes the log: a slow one holds nobody.

C code that keeps the interpreter lock holds that thread as well. It is counted all the same, since the durations are
measured in the loop itself, and its stack is taken at the moment it lets go.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from time import perf_counter
from types import FrameType
from typing import Any

import attrs
import trio

log = logging.getLogger("infermux.watchdog")

HOLD = 0.05  # seconds a step may take
LOOK_AFTER = 0.03  # a step this old gets its stack taken: before `HOLD`, since it may end between two looks
LOOK_EVERY = 0.1
LOOK_RARELY = 0.5  # while the loop has nothing to do: it is looked at half as often each time that nothing has happened
LOOK_OFTEN = 0.02  # in the time after a hold, and `HOLD` at most with `LOOK_AFTER`
OFTEN_FOR = 60.0
STILL_AFTER = 1.0  # a step that has not ended by then is told of before its end
LOG_EVERY = 5.0  # seconds between two lines in the log; what came in between is counted in the next one
FRAMES = 12  # of a stack, the innermost
PENDING = 64


@attrs.frozen(kw_only=True)
class Hold:
    """One step that took too long. `stack` names places only, no values: empty when it ended unseen."""

    task: str
    seconds: float
    stack: tuple[str, ...]


class Watchdog(trio.abc.Instrument):
    """Counts the holds of one trio run. `with watchdog.watching():` inside of it; the counts stay afterwards."""

    def __init__(self) -> None:
        self.holds = 0
        self.longest = 0.0
        self.last: Hold | None = None
        self._task: trio.lowlevel.Task | None = None
        self._began = 0.0
        self._seen: tuple[float, tuple[str, ...]] | None = None  # when the step began whose stack was taken
        self._told: float | None = None  # when the step began that was told of before its end
        self._pending: deque[Hold] = deque(maxlen=PENDING)
        self._unlogged = 0
        self._logged_at: float | None = None

    def __repr__(self) -> str:
        return f"<Watchdog {self.holds} holds, longest {self.longest * 1000:.0f} ms>"

    def statistics(self) -> dict[str, Any]:
        """For the management page."""
        last = self.last
        return {
            "holds": self.holds,
            "longest_ms": round(self.longest * 1000),
            "last": None if last is None else {"task": last.task, "ms": round(last.seconds * 1000)},
        }

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch the trio run this is called in, until the block is left."""
        stop = threading.Lock()  # an event's wait is Python, and as dear as the look
        stop.acquire()
        loop = threading.get_ident()
        looker = threading.Thread(target=self._look, args=(loop, stop), name="infermux watchdog", daemon=True)
        trio.lowlevel.add_instrument(self)
        looker.start()
        try:
            yield
        finally:
            with suppress(KeyError):  # trio takes out an instrument that raised
                trio.lowlevel.remove_instrument(self)
            self._step_ended(perf_counter())
            self._task = None
            stop.release()
            looker.join(LOOK_EVERY)

    # In the loop's thread. Called by trio, for every step and before every wait.

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        now = perf_counter()
        if now - self._began > HOLD:
            self._step_ended(now)
        self._task = task
        self._began = now

    def before_io_wait(self, timeout: float) -> None:
        now = perf_counter()
        if now - self._began > HOLD:
            self._step_ended(now)
        self._task = None
        self._began = now

    def _step_ended(self, now: float) -> None:
        task, began = self._task, self._began
        seconds = now - began
        if task is None or seconds <= HOLD:
            return
        seen = self._seen
        hold = Hold(task=task.name, seconds=seconds, stack=seen[1] if seen is not None and seen[0] == began else ())
        self.holds += 1
        self.longest = max(self.longest, seconds)
        self.last = hold
        self._pending.append(hold)

    # In the thread that looks.

    def _look(self, loop: int, stop: threading.Lock) -> None:
        often_until, pause, began_before = 0.0, LOOK_EVERY, -1.0
        while not stop.acquire(timeout=LOOK_OFTEN if perf_counter() < often_until else pause):
            if self._pending:
                often_until = perf_counter() + OFTEN_FOR
            began, task = self._began, self._task
            pause = LOOK_EVERY if task is not None or began != began_before else min(2 * pause, LOOK_RARELY)
            began_before = began
            if task is not None and perf_counter() - began > LOOK_AFTER:
                self._look_at(task, began, loop)
            while self._pending:
                self._log(self._pending.popleft())
        while self._pending:
            self._log(self._pending.popleft())

    def _look_at(self, task: trio.lowlevel.Task, began: float, loop: int) -> None:
        if self._seen is None or self._seen[0] != began:
            # The documented way to see another thread, whatever its name looks like.
            stack = stack_of(sys._current_frames().get(loop))  # pyright: ignore[reportPrivateUsage]
            if self._began == began and self._task is task:  # or it is the next step's
                self._seen = (began, stack)
        seconds = perf_counter() - began
        if seconds > STILL_AFTER and self._told != began and self._seen is not None:
            self._told = began
            log.error(
                "task %s has held the event loop for %.0f ms and goes on; it is at %s",
                task.name,
                seconds * 1000,
                " < ".join(self._seen[1]),
            )

    def _log(self, hold: Hold) -> None:
        now = perf_counter()
        if self._logged_at is not None and now - self._logged_at < LOG_EVERY:
            self._unlogged += 1
            return
        more, self._unlogged, self._logged_at = self._unlogged, 0, now
        log.warning(
            "task %s held the event loop for %.0f ms%s; it was at %s",
            hold.task,
            hold.seconds * 1000,
            f" ({more} more since the last line)" if more else "",
            " < ".join(hold.stack) or "an unknown place: it had ended before it was looked at",
        )


def stack_of(frame: FrameType | None) -> tuple[str, ...]:
    """Where a thread is, the innermost call first, at most `FRAMES` places: file, line and function, never a value."""
    places: list[str] = []
    while frame is not None and len(places) < FRAMES:
        code = frame.f_code
        places.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return tuple(places)
