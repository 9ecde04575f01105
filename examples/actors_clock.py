"""A clock that wakes people and a bell that breaks: two actors under one supervisor, and nothing else."""

from __future__ import annotations

import attrs
import trio

from infermux.actors.kit import ActorDied, BaseActor, Child, Context, Reply, Restart, ask, supervise


@attrs.frozen
class Tick:
    """Told to the clock by its own spring."""


@attrs.frozen
class Wake:
    """Asked: answered with the time once it is `hour`."""

    hour: int


class Clock(BaseActor[Tick | Wake]):
    """It alone knows the time, so nothing needs a lock."""

    def __init__(self) -> None:
        self.hour = 0
        self.sleepers: dict[int, list[Reply[int]]] = {}

    async def started(self, context: Context[Tick | Wake]) -> None:
        self.context = context
        context.start_soon(self.spring)

    async def spring(self) -> None:
        while True:
            await trio.sleep(0.25)
            self.context.ref.tell(Tick())

    def receive(self, message: Tick | Wake, reply: Reply[int] | None) -> None:
        match message:
            case Tick():
                self.hour += 1
                for sleeper in self.sleepers.pop(self.hour, []):
                    sleeper.send(self.hour)
            case Wake(hour) if reply is not None:
                if hour > self.hour:
                    self.sleepers.setdefault(hour, []).append(reply)  # answered by a later Tick
                else:
                    reply.send(self.hour)
            case _:
                pass

    def batch_done(self) -> None:
        self.context.publish(self.hour)


class Bell(BaseActor[int]):
    """It cannot strike two."""

    def receive(self, message: int, reply: Reply[str] | None) -> None:
        if message == 2:
            raise RuntimeError("the clapper fell off")
        if reply is not None:
            reply.send(" ".join(["ding"] * message))


def report(restart: Restart) -> None:
    print(f"  {restart.name}: {restart.crash}; a new one in {restart.delay} s")


async def main() -> None:
    async with supervise(Child("clock", Clock), Child("bell", Bell), on_restart=report) as tower:
        clock, bell = tower.ref("clock"), tower.ref("bell")
        for hour in (1, 2, 3):
            await ask(clock, Wake(hour))
            try:
                print(f"{hour}: {await ask(bell, hour)}")
            except ActorDied as died:
                print(f"{hour}: silence, {died}")
        print(f"the clock shows {clock.status}")


if __name__ == "__main__":
    trio.run(main)
