"""What a daemon tells, in virtual time: who started it, and whoever reads the file of its lock."""

from __future__ import annotations

import json
import os
from collections.abc import Generator

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.daemon.lock import Facts, Home, Lock, holder
from infermux.daemon.log import RollingLog
from infermux.daemon.running import Daemon, Place, Seen

PLACE = Place(url="http://127.0.0.1:1", management="http://127.0.0.1:2", cert_file=None)


@attrs.define(eq=False)
class CountingLog(RollingLog):
    rolls: int = 0

    def roll(self) -> bool:
        self.rolls += 1
        return False


@attrs.define(eq=False)
class Begun:
    """A daemon that has begun, the other end of its starter's pipe, and what it sees of its router."""

    daemon: Daemon
    lock: Lock
    log: CountingLog
    reading: int
    seen: Seen = attrs.field(factory=lambda: Seen(config="<demo>", in_flight=0, draining=False, grace=30))


@pytest.fixture
def begun(home: Home) -> Generator[Begun]:
    lock = Lock.take(home)
    assert lock is not None
    reading, writing = os.pipe()
    facts = Facts(pid=os.getpid(), fd=lock.fd, since=1.0, version="1", cwd="/")
    log = CountingLog(home.log)
    found = Begun(Daemon(facts, lock, log, writing), lock, log, reading)
    yield found
    lock.release()
    os.close(found.reading)


async def test_it_tells_where_it_is_and_how_its_drain_goes_and_looks_after_its_log(
    home: Home, begun: Begun, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.daemon.attend, PLACE, lambda: begun.seen)
        await trio.sleep(0.1)
        assert json.loads(os.read(begun.reading, 100)) == {"ready": True}
        assert os.read(begun.reading, 100) == b""  # it has let go of it
        facts = holder(home)
        assert facts is not None
        assert (facts.state, facts.url, facts.management, facts.config) == (
            "ready",
            PLACE.url,
            PLACE.management,
            "<demo>",
        )

        begun.seen = attrs.evolve(begun.seen, in_flight=2, draining=True)
        await trio.sleep(0.5)
        draining = holder(home)
        assert draining is not None
        assert (draining.state, draining.in_flight) == ("draining", 2)
        begun.seen = attrs.evolve(begun.seen, in_flight=1)
        await trio.sleep(20)
        later = holder(home)
        assert later == attrs.evolve(draining, in_flight=1)  # the end of its grace is the same
        assert begun.log.rolls == 4
        nursery.cancel_scope.cancel()


async def test_a_starter_that_is_gone_is_nothing_to_it(home: Home, begun: Begun, autojump_clock: MockClock) -> None:
    kept, begun.reading = begun.reading, os.open(os.devnull, os.O_RDONLY)
    os.close(kept)
    with trio.move_on_after(1):
        await begun.daemon.attend(PLACE, lambda: begun.seen)
    facts = holder(home)
    assert facts is not None
    assert facts.state == "ready"
