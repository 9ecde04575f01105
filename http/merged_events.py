"""The events of all workers as one stream: what happens is passed on, what sums up is summed up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final

import httpx
import msgspec
import trio

from infermux.providers.sse import SseParser

from . import combining
from .events import event
from .siblings import Siblings

BEHIND: Final = 256  # events a reader may be behind; then it is dropped
FIRST_WITHIN: Final = 1.0  # seconds the workers have to tell how they are, before who has not is left out
AGAIN: Final = 1.0  # seconds between two tries to reach a worker
GONE: Final = "gone"
_SUMS: Final = frozenset({"overview", "snapshot"})


Heard = tuple[int, str, bytes]
"""The place of a worker, the name of its event, the data."""


async def merged_events(siblings: Siblings, target: str, nursery: trio.Nursery) -> AsyncGenerator[bytes]:
    """One `overview` first; then a `snapshot` whenever this worker has one, with the latest ones of the others.

    It ends with this worker's own events. The workers are followed in `nursery`.
    """
    send, receive = trio.open_memory_channel[Heard](BEHIND)
    following, latest = trio.CancelScope(), dict[int, Any]()
    nursery.start_soon(_follow_all, siblings, target, send, following)
    try:
        with trio.move_on_after(FIRST_WITHIN):
            async for place, name, data in receive:
                _note(latest, place, name, data)
                if len(latest) == siblings.of:
                    break
        if latest:
            yield event("overview", combining.overview(sorted(latest.items())))
        async for place, name, data in receive:
            if name == GONE and place == siblings.place:
                break
            told = _told(latest, siblings.place, place, name, data)
            if told is not None:
                yield told
    finally:
        following.cancel()
        receive.close()


def _told(latest: dict[int, Any], own: int, place: int, name: str, data: bytes) -> bytes | None:
    """What a reader is told of an event of the worker at `place`."""
    if name == GONE:
        latest.pop(place, None)
        return None
    if name not in _SUMS:
        return event(name, {**msgspec.json.decode(data), "worker": place})
    _note(latest, place, name, data)
    return event("snapshot", _snapshot(latest)) if place == own else None


def _note(latest: dict[int, Any], place: int, name: str, data: bytes) -> None:
    if name in _SUMS:
        latest[place] = msgspec.json.decode(data)


def _snapshot(latest: dict[int, Any]) -> Any:
    whole = combining.overview(sorted(latest.items()))
    whole.pop("decisions", None)
    return whole


async def _follow_all(
    siblings: Siblings, target: str, send: trio.MemorySendChannel[Heard], scope: trio.CancelScope
) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            for place in range(siblings.of):
                nursery.start_soon(_follow, siblings, place, target, send)


async def _follow(siblings: Siblings, place: int, target: str, send: trio.MemorySendChannel[Heard]) -> None:
    """What one worker tells, and again when it has come back, until cancelled."""
    with suppress(trio.BrokenResourceError):  # nobody reads any more
        while True:
            parser = SseParser()
            with suppress(httpx.HTTPError, OSError):
                async with aclosing(siblings.stream(place, target)) as pieces:
                    async for piece in pieces:
                        for each in parser.feed(piece):
                            await send.send((place, each.event, each.data))
            await send.send((place, GONE, b""))
            await trio.sleep(AGAIN)
