"""No worker outlives its leader. Light to import, so that it holds while a worker is still starting."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress

ORPHANED = 1  # exit code of one whose leader is gone


def end_with_leader(descriptor: int, folders: list[str]) -> None:
    """End this process at once when nobody holds the other end of that pipe any more: the leader was killed.

    By a thread, so that an event loop that is held does not keep it. `folders` are removed: the leader cannot do that
    any more. Processes of providers have guards of their own.
    """

    def watch() -> None:
        with suppress(OSError):
            os.read(descriptor, 1)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="infermux leader", daemon=True).start()
