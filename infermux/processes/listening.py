"""Read what a process prints, to its end: into the log, and the last lines of stderr for the error."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import attrs
import trio

from .output import Allowance, Cleaner, Splitter

CHUNK = 65536  # bytes, as much as a pipe holds
# Seconds after a chunk as large as that: a flood waits in its pipe, at 1.3 MB a second, and does not hold the loop.
PAUSE = 0.05
KEPT_LINES = 10


def never(line: bytes) -> bool:
    """Nothing is an announcement."""
    return False


@attrs.define(eq=False)
class Listener:
    """One of the two streams of one life of a process.

    `takes` is given each line first; what it returns true for is not logged. `kept`: the last lines, as logged.
    """

    name: str
    log: logging.Logger
    cleaner: Cleaner
    allowance: Allowance
    takes: Callable[[bytes], bool] = never
    kept: deque[str] = attrs.field(factory=lambda: deque[str](maxlen=KEPT_LINES))
    done: trio.Event = attrs.field(factory=trio.Event)
    _splitter: Splitter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._splitter = Splitter(spare=self.cleaner.longest)

    async def listen(self, stream: trio.abc.ReceiveStream) -> None:
        """Until nobody holds its other end any more."""
        try:
            while data := await stream.receive_some(CHUNK):
                for line in self._splitter.feed(bytes(data)):
                    self._hear(line)
                if len(data) == CHUNK:
                    await trio.sleep(PAUSE)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # as good as its end
        if rest := self._splitter.finish():
            self._hear(rest)
        self._tell_left_out(self.allowance.claim_all())
        self.done.set()

    def unfinished(self) -> str:
        """What stands on a line that has not ended, as it may be shown."""
        return self.cleaner.clean(self._splitter.rest)

    def _hear(self, line: bytes) -> None:
        if self.takes(line):
            return
        now = trio.current_time()
        self._tell_left_out(self.allowance.claim(now))
        said = self.cleaner.clean(line)
        self.kept.append(said)
        if self.allowance.admits(now):
            self.log.info("provider %s says: %s", self.name, said)

    def _tell_left_out(self, number: int) -> None:
        if number:
            self.log.warning("provider %s: %d more lines of its output were left out", self.name, number)
