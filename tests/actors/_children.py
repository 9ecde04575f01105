"""Actors for a supervisor to look after, and what its tests ask of it."""

from __future__ import annotations

import pytest
import trio

from infermux.actors.kit import ActorDied, BaseActor, Child, ChildState, Context, Reply, Restart, Supervisor


class Boom(Exception):
    pass


class Worker(BaseActor[str]):
    """Echoes. "boom": crashes. "keep": holds the reply. Notes its starts and stops in `diary`."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self.diary = diary

    async def started(self, context: Context[str]) -> None:
        self.diary.append(f"{self.name} up")

    def receive(self, message: str, reply: Reply[str] | None) -> None:
        if message == "boom":
            raise Boom
        if reply is not None and message != "keep":
            reply.send(message)

    def stopped(self) -> None:
        self.diary.append(f"{self.name} down")


class Sleeper(BaseActor[str]):
    """Takes `seconds` to start."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def started(self, context: Context[str]) -> None:
        await trio.sleep(self.seconds)


class Grumpy(BaseActor[str]):
    """Crashes when it is stopped; with `beside`, in a task of its own."""

    def __init__(self, *, beside: bool = False) -> None:
        self.beside = beside

    async def started(self, context: Context[str]) -> None:
        if self.beside:
            context.start_soon(self._until_stopped)

    async def _until_stopped(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom

    def stopped(self) -> None:
        if not self.beside:
            raise Boom


def child(name: str, diary: list[str] | None = None) -> Child:
    log = [] if diary is None else diary
    return Child(name, lambda: Worker(name, log))


def failing_after(starts: int, name: str = "fragile") -> Child:
    """A child whose factory works `starts` times."""
    left = iter(range(starts))

    def factory() -> Worker:
        if next(left, None) is None:
            raise Boom
        return Worker(name, [])

    return Child(name, factory)


async def crash(supervisor: Supervisor, name: str = "a") -> None:
    """Crash a child that is up."""
    with pytest.raises(ActorDied):
        await supervisor.ref(name).ask("boom")


def states(supervisor: Supervisor) -> dict[str, ChildState]:
    return {child.name: child.state for child in supervisor.statistics().children}


def quiet(_restart: Restart) -> None:
    pass
