"""What each worker last told of its metrics, where the others find it when it does not answer, or has ended.

To whoever reads counters, one that falls has begun anew at zero: what is left of it is counted once more. So the sum of
all workers must not fall when one of them is late or is started again. Each keeps the page that it tells in a file
of its own before it tells it, and whoever comes in its place goes on from what is written there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache

import attrs
import trio

from . import combining
from .polled import Page

log = logging.getLogger("infermux.workers")

Made = Callable[[], Awaitable[tuple[bytes, str]]]


@attrs.define(eq=False)
class LastPage:
    """That of this worker, in the file `path`. `make` makes a page of Prometheus' text of what this process counts."""

    path: str
    make: Made
    _before: bytes | None = None
    _one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock)

    async def told(self, accept: str = "") -> Page:
        """The page, whatever is asked for, with what those have counted who were here before. It is in the file."""
        del accept
        async with self._one_at_a_time:  # a page that is made later is written later
            body, content_type = await self.make()
            body = await trio.to_thread.run_sync(self._keep, body)
        return Page(body, content_type)

    def _keep(self, body: bytes) -> bytes:
        if self._before is None:
            self._before = combining.totals(last_pages([self.path]))
        body += self._before
        try:
            with open(f"{self.path}.new", "wb") as file:
                file.write(body)
            os.replace(file.name, self.path)  # whoever reads has the one before or this one, whole
        except OSError as error:
            log.warning("metrics cannot be kept for when this worker does not answer: %s", error)
        return body


def last_pages(paths: Iterable[str]) -> list[str]:
    """What is written there; those who have told nothing yet, or nothing that can be read, are left out.

    Takes its time: for a thread.
    """
    found: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8", newline="") as file:  # a label may have a "\r", which is no end of a line
                page = file.read()
            combining.totals([page])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError) as error:  # the parser's, too
            _say_unreadable(path, f"{type(error).__name__}: {error}"[:200])
        else:
            found.append(page)
    return found


@lru_cache(maxsize=1000)
def _say_unreadable(path: str, why: str) -> None:
    """Once, not with each page."""
    log.warning("what a worker had counted before is not in the metrics, as %s cannot be read: %s", path, why)
