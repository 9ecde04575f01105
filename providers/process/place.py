"""Where a provider process listens, and who keeps it running: the seam to `infermux.processes`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Place(Protocol):
    """A process that is kept running: `infermux.processes.ProviderProcess`, or in tests a socket alone.

    `path` is its socket while it is ready, else None. `generation` counts its starts: connections of an earlier one
    are dead, and the next one may be another version of the program.
    """

    @property
    def path(self) -> Path | None: ...
    @property
    def generation(self) -> int: ...
    async def ready(self) -> Path:
        """The socket, as soon as it listens. Raises ProcessUnavailable when that will not be now."""
        ...

    async def changed(self) -> None:
        """Wait until its state changes."""
        ...

    @property
    def settled(self) -> bool:
        """Whether it has been given up: it ends as often as it is started."""
        ...

    def retry(self) -> None:
        """Start it now if it waits for its next start."""
        ...

    async def run(self) -> None:
        """Keep it running until cancelled; then it has ended, and nothing of it is left."""
        ...

    def statistics(self) -> Mapping[str, Any]: ...
