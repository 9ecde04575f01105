"""Noticing that a configuration file, or a file that it refers to, has changed.

Looked at once a second rather than by the kernel's notifications: those do not come from network and container file
systems, and follow a name through editors that rename, and through links that are exchanged, only with much care. What
is compared is what a name leads to in the end (device, inode, size, time of change).
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import attrs
import trio

from infermux.config import Config

INTERVAL = 1.0
SETTLING = 0.2  # seconds between the looks that wait for a change to be over
_FILE = re.compile(r"\$\{file:([^}]*)\}")

Mark = tuple[int, int, int, int] | None
Marks = dict[str, Mark]


def files_of(source: str, more: Iterable[str] = ()) -> list[str]:
    """The configuration file and those its text refers to by `${file:...}`, read from the text: it may be invalid."""
    try:
        text = Path(source).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = {os.path.expanduser(path) for path in (*_FILE.findall(text), *more)}
    return [source, *sorted(named - {source})]


def files_beside(config: Config) -> list[str]:
    """What a configuration refers to by its keys, and what its file of installed providers refers to in turn."""
    paths = [path for path in (config.tls.cert_file, config.tls.key_file) if path is not None]
    return paths if config.providers_file is None else [*paths, *files_of(config.providers_file)]


def mark_of(path: str) -> Mark:
    """What `path` leads to, None when that is nothing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@attrs.define
class Changes:
    """Decides from one look after the other when a change is over. `known` is what was acted upon last."""

    known: Marks
    _last: Marks | None = None

    @property
    def settling(self) -> bool:
        """True while something is different and it is not clear that this was all."""
        return self._last is not None

    def look(self, source: str, marks: Marks) -> bool:
        """True when it is time to act: different from what is known, twice the same, and the main file is there.

        Editors write in several steps, and some take the file away for a moment.
        """
        last, self._last = self._last, None
        if marks == self.known:
            return False
        if marks != last or marks.get(source) is None:
            self._last = marks
            return False
        self.known = marks
        return True


async def watch(
    source: str,
    changed: Callable[[], Awaitable[object]],
    *,
    more: Callable[[], Iterable[str]] = tuple,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Await `changed()` after each change of the file or of what it refers to, for ever.

    `more` names further files to look at. Cancellation ends it at once, also when a file system does not answer.
    """

    def look() -> Marks:
        return {path: mark_of(path) for path in files_of(source, more())}

    changes = Changes(await _in_thread(look))
    task_status.started()
    while True:
        await trio.sleep(SETTLING if changes.settling else INTERVAL)
        if changes.look(source, await _in_thread(look)):
            await changed()


async def _in_thread(look: Callable[[], Marks]) -> Marks:
    return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
