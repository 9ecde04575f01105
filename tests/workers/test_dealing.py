"""A worker that hangs is given nothing more, so that one that comes back meanwhile has its part at once."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.share import Share
from infermux.workers.crew import ASK_EVERY, PATIENCE
from infermux.workers.dealing import is_less, is_more
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


LIMITS = range(1, 41)
DEALT = [Share(index, of) for of in range(1, 7) for index in range(of)]
PARTS: dict[tuple[int, ...], list[int]] = {
    (share.index, share.of): [share.part(limit) for limit in LIMITS] for share in DEALT
}
LESS = {(a.index, a.of, b.index, b.of) for a, b in product(DEALT, DEALT) if is_less(a, b)}


@given(SHARES, SHARES, st.integers(0, 200))
def test_a_share_that_is_not_less_is_of_no_limit_less(share: Share, than: Share, limit: int) -> None:
    if not is_less(share, than):
        assert share.part(limit) >= than.part(limit)


class Dealt(NamedTuple):
    """Who hangs and with which part, who is counted, and who of these waits for which of those."""

    told: frozenset[tuple[int, int, int]]
    counted: frozenset[int]
    waiting: frozenset[tuple[int, frozenset[int]]] = frozenset()

    def share(self, place: int) -> tuple[int, int]:
        return sorted(self.counted).index(place), len(self.counted)

    def next(self, places: range) -> Iterator[Dealt]:
        """One has come back, died, hung, or goes on."""
        hung, late = {place for place, *_ in self.told}, {place for place, _ in self.waiting}
        for place in places:
            if place not in self.counted:
                came = self._replace(counted=self.counted | {place})
                those = frozenset(each for each, *told in self.told if (*came.share(each), *told) in LESS)
                yield came._replace(waiting=self.waiting | {(place, those)}) if those else came
            elif place in hung:
                answered = self._without(place)
                yield answered
                yield answered._replace(counted=self.counted - {place})
            elif place not in late:
                yield self._replace(counted=self.counted - {place})
                if len(hung) < (2 if len(places) < 5 else 1):
                    yield self._replace(told=self.told | {(place, *self.share(place))})

    def _without(self, place: int) -> Dealt:
        waiting = {(each, those - {place}) for each, those in self.waiting if those - {place}}
        return self._replace(told=frozenset(each for each in self.told if each[0] != place), waiting=frozenset(waiting))

    def held_by(self) -> Counter[tuple[int, ...]]:
        """The parts of all that run. Those that do not hang have been given what is theirs now, at once."""
        hung, late = {place: told for place, *told in self.told}, {place for place, _ in self.waiting}
        return Counter(tuple(hung.get(place) or self.share(place)) for place in self.counted - late)


@cache
def is_too_much(held: frozenset[tuple[tuple[int, ...], int]]) -> bool:
    """Of any limit."""
    return any(sum(PARTS[share][at] * times for share, times in held) > limit for at, limit in enumerate(LIMITS))


@pytest.mark.parametrize("of", range(2, 7))
def test_together_they_never_hold_more_than_a_limit_in_whatever_order_they_hang_die_and_come_back(of: int) -> None:
    left = [Dealt(frozenset(), frozenset(range(of)))]
    seen = set(left)
    while left:
        at = left.pop()
        assert not is_too_much(frozenset(at.held_by().items())), at
        new = set(at.next(range(of))) - seen
        seen |= new
        left.extend(new)


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


async def test_it_is_not_started_while_one_that_hangs_has_more_by_another_number_of_parts(
    autojump_clock: MockClock,
) -> None:
    async with world(workers=4) as w:
        await w.crew.start(w.nursery)
        await trio.sleep(1)
        for place in (2, 3):
            w.at(place).dies()
        await until(lambda: w.at(1).share == Share(1, 2))
        w.at(1).hangs = True
        w.at(0).dies()  # after the others, so that it comes after them: with both 1 has the first part of three
        await trio.sleep(PATIENCE / 2)
        assert len(w.workers) == 5  # half of all is not two thirds less than all
        assert [each for each in w.told("adopts", "signalled") if each[1] == 1][1:] == []  # but Share(1, 2)
        await trio.sleep(PATIENCE + ASK_EVERY)
        assert sorted(w.at(place).share.index for place in range(4)) == [0, 1, 2, 3]


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
