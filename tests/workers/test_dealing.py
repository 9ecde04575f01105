"""A worker that hangs is given nothing more, so that one that comes back meanwhile has its part at once."""

from __future__ import annotations

import signal

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.share import Share
from infermux.workers.crew import ASK_EVERY, PATIENCE
from infermux.workers.dealing import is_more
from infermux.workers.loading import Reloads
from tests.workers._crew import OTHER, World, until, world

SHARES = st.integers(1, 12).flatmap(
    lambda of: st.builds(Share, index=st.integers(0, of - 1), of=st.just(of), late=st.booleans())
)


@given(SHARES, SHARES, st.integers(0, 200))
def test_a_share_that_is_not_more_is_of_no_limit_more(share: Share, than: Share, limit: int) -> None:
    if not is_more(share, than):
        assert share.part(limit) <= than.part(limit)
        assert share.slots(limit) <= than.slots(limit)


async def hang_and_come_back(w: World) -> None:
    """2 hangs, 0 dies and listens again."""
    w.told()
    w.at(2).hangs = True
    w.at(0).dies()
    await until(lambda: len(w.workers) == 4 and w.at(0).listens.is_set())


async def test_one_that_comes_back_has_its_part_at_once_though_another_one_hangs(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        await trio.sleep(1)
        stuck = w.at(2)
        await hang_and_come_back(w)
        await until(lambda: w.at(0).share == Share(0, 3))
        assert trio.current_time() < PATIENCE / 2
        assert [each for each in w.told("adopts", "signalled") if each[1] == 2] == []  # it was given nothing
        await trio.sleep(PATIENCE + ASK_EVERY)
        assert w.at(2) is not stuck
        assert w.at(2).share == Share(2, 3)


async def test_it_waits_for_one_that_hangs_with_too_much_in_flight(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.at(2).over = True
        await w.crew.look()
        await hang_and_come_back(w)
        await trio.sleep(PATIENCE / 2)
        assert w.at(0).share == Share(0, 3, late=True)
        await trio.sleep(PATIENCE)
        assert w.at(0).share == Share(0, 3)
        assert ("signalled", 2, signal.SIGKILL) in w.told("signalled")


async def test_it_waits_for_one_that_hangs_since_its_limits_may_have_fallen(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        await Reloads(lambda: (OTHER, []), w.crew).asked(False)
        await hang_and_come_back(w)
        await trio.sleep(PATIENCE / 2)
        assert w.at(0).share == Share(0, 3, late=True)
        await trio.sleep(PATIENCE)
        assert w.at(0).share == Share(0, 3)


async def test_it_is_not_started_while_one_that_hangs_has_its_part_too(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.cannot_start = 3
        w.at(0).dies()
        await until(lambda: w.at(2).share == Share(1, 2))
        w.at(2).hangs = True
        await trio.sleep(PATIENCE / 2)
        assert len(w.workers) == 3
        await trio.sleep(PATIENCE)
        assert w.at(0).share == Share(0, 3)
        assert ("signalled", 2, signal.SIGKILL) in w.told("signalled")


async def test_it_waits_until_one_that_hangs_is_gone_where_that_has_not_told_what_it_took(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        await trio.sleep(ASK_EVERY)
        w.at(2).has_told = False
        await hang_and_come_back(w)
        await trio.sleep(PATIENCE / 2)
        assert w.at(0).share == Share(0, 3, late=True)
        await trio.sleep(PATIENCE)
        assert w.at(0).share == Share(0, 3)
