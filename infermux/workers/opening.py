"""What a crew needs before its first worker is started, and what is left of it in the end: nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from infermux.config.settings import Config
from infermux.processes.socket_path import LONGEST_PATH

from .crew import Crew

LONGEST_NAME = 32  # characters of "/infermux-RANDOM8/1023.sock", and some more


def room_for_sockets() -> str:
    """A folder in which the path of a socket is not too long: that for temporary files, if it will do."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) + LONGEST_NAME <= LONGEST_PATH else "/tmp"  # noqa: S108 - a folder in it


@asynccontextmanager
async def open_crew(config: Config, reload: Callable[[bool], Awaitable[dict[str, object]]]) -> AsyncGenerator[Crew]:
    """A crew that is not started yet. When the block is left, however, none of its processes is."""
    crew = Crew(config, reload)
    reading, writing = os.pipe()  # the only end to write to is ours: it closes when this process ends
    with tempfile.TemporaryDirectory(prefix="infermux-", dir=room_for_sockets()) as folder:  # for us alone: 0700
        crew.folder, crew.leader = folder, reading
        try:
            yield crew
        finally:
            crew.ending.set()
            with trio.CancelScope(shield=True):
                await crew.kill()
            os.close(reading)
            os.close(writing)
