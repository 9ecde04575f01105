"""Running coroutines of the hot path step by step, without a trip through trio's loop between the steps.

What is measured is our own code: trio's loop and the kernel would be most of the time otherwise, and all of the noise.
Whoever waits on a wire of `wires` pauses here, and goes on with the next step.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any, Final

_PAUSED: Final = object()


class _GoOn:
    """What trio's loop answers a checkpoint with, where nothing was cancelled."""

    @staticmethod
    def unwrap() -> None:
        pass


@types.coroutine
def pause() -> Generator[object, object, None]:
    """Wait for the next step."""
    yield _PAUSED


def step(running: Coroutine[Any, Any, object]) -> bool:
    """Run on to the next `pause`; False where it has ended. Raises RuntimeError when it waits for something else.

    A checkpoint of trio goes on at once, as if no other task were ready: that is what its loop would send.
    """
    answer: object = None
    while True:
        try:
            said = running.send(answer)
        except StopIteration:
            return False
        if said is _PAUSED:
            return True
        if getattr(said, "__name__", "") != "CancelShieldedCheckpoint":
            raise RuntimeError(f"{running!r} waits for what is not there: {said!r}")
        answer = _GoOn


def at_once(running: Coroutine[Any, Any, Any]) -> Any:
    """What it returns. Raises RuntimeError when it would wait."""
    try:
        said = running.send(None)
    except StopIteration as done:
        return done.value
    running.close()
    raise RuntimeError(f"it was to be answered at once, and waits for {said!r}")
