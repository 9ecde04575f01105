"""What the one that leads does with its workers, on a clock of the test's own: who is told which part, and when."""

from __future__ import annotations

import signal

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.share import Share
from infermux.workers.crew import ASK_EVERY, ENDS_WITHIN, PATIENCE, STARTS_WITHIN, NotStarted
from infermux.workers.loading import Reloads
from infermux.workers.messages import NotLoaded, Now, Reload, Word
from tests.workers._crew import CONFIG, OTHER, READY, SOON, World, until, world


async def test_all_begin_with_their_parts(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        assert w.crew.ready == READY
        assert sorted(w.told("begins", "adopts")) == [("begins", place, Share(place, 3)) for place in range(3)]
        await w.crew.look()
        assert w.crew.in_flight == 0 + 1 + 2


async def test_where_one_does_not_come_up_the_start_has_failed(autojump_clock: MockClock) -> None:
    async with world(comes_up=lambda number: number != 1) as w:
        w.nursery.start_soon(_end_later, w, 1)
        with pytest.raises(NotStarted, match="worker 1 ended with exit code 1 before it was ready"):
            await w.crew.start(w.nursery)


async def _end_later(w: World, place: int) -> None:
    await trio.sleep(1)
    w.at(place).dies()


async def test_the_others_have_the_part_of_one_that_died_until_it_comes_back(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.told()
        w.at(1).dies()
        await trio.sleep(0.09)
        assert sorted(w.told("adopts", "begins")) == [("adopts", 0, Share(0, 2)), ("adopts", 2, Share(1, 2))]
        await trio.sleep(5)
        *shrunk, begun, let_in = w.told("adopts", "begins")
        # Before it begins, the others have let go of what it is to have; and it is let in when they have told all.
        assert sorted(shrunk) == [("adopts", 0, Share(0, 3)), ("adopts", 2, Share(2, 3))]
        assert begun == ("begins", 1, Share(1, 3, late=True))
        assert let_in == ("adopts", 1, Share(1, 3))


async def test_one_that_came_back_waits_for_others_that_have_too_much_in_flight(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.at(2).over = True
        w.at(0).dies()
        await trio.sleep(5)
        assert w.told("adopts", "begins")[-1] == ("begins", 0, Share(0, 3, late=True))
        w.at(2).over = False
        await trio.sleep(2)
        assert w.told("adopts") == [("adopts", 0, Share(0, 3))]


async def test_one_that_waits_to_be_let_in_has_no_more_than_its_part_of_all_that_are_there(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        for _ in range(3):
            w.at(1).dies()
            await trio.sleep(2)
        w.at(1).dies()  # the fourth time: it comes back in 0.8 s, and the other one in 0.1
        w.at(2).over = True  # nobody is let in
        w.slow_from_now = trio.Event()
        w.at(0).dies()
        await until(lambda: len(w.workers) == 7 and w.at(0).config is not None)
        assert w.at(0).share == Share(0, 2, late=True)
        await until(lambda: len(w.workers) == 8 and w.at(1).config is not None)
        w.slow_from_now.set()
        await trio.sleep(5)
        assert [w.at(place).share for place in range(3)] == [
            Share(0, 3, late=True),
            Share(1, 3, late=True),
            Share(2, 3),
        ]


async def test_one_that_never_listens_is_killed(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.told()
        w.slow_from_now = trio.Event()
        w.at(1).dies()
        await trio.sleep(1)
        w.slow_from_now = None
        await trio.sleep(STARTS_WITHIN)
        assert w.told("signalled") == [("signalled", 1, signal.SIGKILL)]
        assert "worker 1 does not come up" in caplog.text
        assert w.at(1).share == Share(1, 3)


async def test_one_that_fails_to_begin_is_killed(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.told()
        w.fails_to_begin = 1
        w.at(1).dies()
        await trio.sleep(5)
        assert w.told("signalled") == [("signalled", 1, signal.SIGKILL)]
        assert w.at(1).share == Share(1, 3)


async def test_one_that_dies_again_and_again_is_started_less_often(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        for _ in range(5):
            w.at(1).dies()
            await trio.sleep(3)
        assert len(w.workers) == 3 + 4  # the fifth end within a minute: it waits for half of one
        await trio.sleep(31)
        assert len(w.workers) == 3 + 5


async def test_when_none_stays_up_it_gives_up(autojump_clock: MockClock) -> None:
    async with world(comes_up=lambda number: number < 3) as w:
        await w.crew.start(w.nursery)
        w.nursery.start_soon(_die_always, w)
        with trio.fail_after(600):
            await w.crew.run()


async def _die_always(w: World) -> None:
    while True:
        for place in range(3):
            w.at(place).dies()
        await trio.sleep(1)


async def test_where_the_system_has_no_room_for_a_worker_it_is_tried_again_later(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.told()
        w.cannot_start = 3
        w.at(1).dies()
        await until(lambda: not w.cannot_start)
        await trio.sleep(0.1)
        assert "worker 1 cannot be started: [Errno 11] Resource temporarily unavailable" in caplog.text
        # Until then the others have its part.
        assert (w.at(0).share, w.at(2).share) == (Share(0, 2), Share(1, 2))
        await trio.sleep(5)
        assert w.at(1).share == Share(1, 3)
        assert len(w.workers) == 4


async def test_a_start_for_which_the_system_has_no_room_fails(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.cannot_start = 1
        with pytest.raises(BlockingIOError):
            await w.crew.start(w.nursery)


async def test_one_that_does_not_answer_is_killed(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        stuck = w.at(2)
        stuck.hangs = True
        w.at(0).dies()
        await trio.sleep(PATIENCE + 1)
        assert ("signalled", 2, signal.SIGKILL) in w.told("signalled")
        await trio.sleep(PATIENCE)
        assert w.at(2) is not stuck
        assert w.at(0).share == Share(0, 3)


async def test_one_that_hangs_is_found_though_nobody_else_asks_it_anything(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        await trio.sleep(60)
        w.told()
        stuck = w.at(2)
        stuck.hangs = True
        await trio.sleep(ASK_EVERY + PATIENCE + 5)
        assert w.told("signalled") == [("signalled", 2, signal.SIGKILL)]
        assert w.at(2) is not stuck
        assert w.at(2).share == Share(2, 3)


async def test_one_that_can_be_asked_no_more_is_killed_unless_it_ends(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        await trio.sleep(5)
        w.told()
        lost = w.at(1)
        lost.link.lost.set()
        await trio.sleep(ENDS_WITHIN - 1)
        assert w.told("signalled") == []
        await trio.sleep(5)
        assert w.told("signalled") == [("signalled", 1, signal.SIGKILL)]
        assert w.at(1) is not lost


async def test_one_that_hangs_does_not_keep_the_others_from_their_parts(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.at(2).hangs = True
        w.at(0).dies()
        await trio.sleep(0.05)
        assert w.at(1).share == Share(0, 2)
        await until(lambda: w.at(1).share == Share(1, 3))  # the one that comes back is counted, though 2 does not hear
        assert trio.current_time() < PATIENCE / 2


async def test_one_that_fails_at_an_answer_is_killed_and_the_others_are_not(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.at(2).fails = True
        await w.crew.look()
        assert w.told("signalled") == [("signalled", 2, signal.SIGKILL)]
        await trio.sleep(5)
        assert sorted(w.crew.children) == [0, 1, 2]


async def test_a_drain_ends_all_and_starts_none(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.at(1).dies()
        await trio.sleep(SOON)
        w.crew.drain()
        with trio.fail_after(1):
            await w.crew.run()
        assert sorted(w.told("signalled")) == [("signalled", place, signal.SIGTERM) for place in (0, 2)]
        assert len(w.workers) == 3


async def test_told_again_to_end_they_do_so_at_once_and_sigterm_is_sent_once(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        for place in range(3):
            w.at(place).drains = True
        w.told()
        w.crew.drain()
        w.crew.drain()
        with trio.fail_after(1):
            await w.crew.run()
        happened = w.told("signalled", "now")
        assert [each for each in happened if each[0] == "signalled"] == [
            ("signalled", place, signal.SIGTERM) for place in range(3)
        ]
        assert sorted(each for each in happened if each[0] == "now") == [("now", place, Now()) for place in range(3)]


async def test_a_reload_goes_on_when_the_worker_that_was_asked_for_it_dies(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        reloads = Reloads(lambda: (OTHER, []), w.crew)
        w.crew.reload = reloads.asked
        go_on = w.at(1).holds_back = trio.Event()
        w.at(0).told.send_nowait(Reload(dry_run=False))
        await until(lambda: w.at(0).config is OTHER)
        w.at(0).dies()
        await trio.sleep(1)
        go_on.set()
        await trio.sleep(5)
        assert {w.at(place).strategy for place in range(3)} == {OTHER.routing.strategy}


async def test_one_that_is_about_to_listen_is_told_what_has_changed(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.slow_from_now = trio.Event()
        w.at(1).dies()
        await until(lambda: len(w.workers) == 4 and w.at(1).config is not None)
        w.at(0).told.send_nowait(Word("a", "disable", (1,)))
        await Reloads(lambda: (OTHER, []), w.crew).asked(False)
        w.at(1).catches_up = True
        w.slow_from_now.set()
        await until(lambda: w.at(1).listens.is_set())
        assert (w.at(1).strategy, w.at(1).words) == (OTHER.routing.strategy, {"a": "disable"})
        await trio.sleep(5)
        assert [each for each in w.told("loads") if each[1] == 1] == []


async def test_one_that_starts_while_all_reload_serves_what_is_new(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.slow_from_now = trio.Event()
        w.at(1).dies()
        await until(lambda: w.at(1).config is not None and len(w.workers) == 4)
        await Reloads(lambda: (OTHER, []), w.crew).asked(False)
        assert w.at(1).config is CONFIG
        w.slow_from_now.set()
        await trio.sleep(5)
        assert {w.at(place).strategy for place in range(3)} == {OTHER.routing.strategy}
        # It has the new limits before it gets its part of them.
        mine = [each for each in w.told("loads", "adopts") if each[1] == 1]
        assert mine == [("loads", 1, "random"), ("adopts", 1, Share(1, 3))]


async def test_one_that_starts_during_a_reload_that_is_taken_back_serves_what_was_before(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        go_on = trio.Event()
        w.at(2).refuses, w.at(2).holds_back = OTHER.routing, go_on
        w.nursery.start_soon(_refused_reload, w)
        await until(lambda: w.at(0).config is OTHER)
        w.at(1).dies()
        await until(lambda: len(w.workers) == 4 and w.at(1).listens.is_set())
        assert w.at(1).config.routing == OTHER.routing
        go_on.set()
        await trio.sleep(5)
        assert {w.at(place).strategy for place in range(3)} == {CONFIG.routing.strategy}
        assert not w.at(1).late


async def _refused_reload(w: World) -> None:
    with pytest.raises(NotLoaded):
        await Reloads(lambda: (OTHER, []), w.crew).asked(False)


async def test_one_that_cannot_take_what_is_new_is_started_with_it(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.slow_from_now = trio.Event()
        w.at(1).dies()
        await until(lambda: w.at(1).config is not None and len(w.workers) == 4)
        w.at(1).refuses = OTHER.routing
        await Reloads(lambda: (OTHER, []), w.crew).asked(False)
        w.slow_from_now.set()
        await trio.sleep(5)
        assert ("signalled", 1, signal.SIGKILL) in w.told("signalled")
        assert w.at(1).config.routing == OTHER.routing


async def test_what_an_operator_has_said_of_providers_those_that_come_later_hear(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        w.at(0).told.send_nowait(Word("a", "disable"))
        w.at(0).told.send_nowait(Word("b", "drain"))
        await until(lambda: len(w.crew.words) == 2)
        w.slow_from_now = trio.Event()
        w.at(1).dies()
        await until(lambda: len(w.workers) == 4 and w.at(1).words == {"a": "disable", "b": "drain"})
        # What is said while it starts it hears when it listens.
        w.at(0).told.send_nowait(Word("a", "enable", (1,)))
        w.at(0).told.send_nowait(Word("c", "disable", (1,)))
        await until(lambda: "c" in w.crew.words)
        assert w.at(1).words["a"] == "disable"
        w.slow_from_now.set()
        await trio.sleep(1)
        assert w.at(1).words == {"a": "enable", "b": "drain", "c": "disable"}


async def test_a_worker_that_missed_what_an_operator_said_is_told(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.crew.start(w.nursery)
        await trio.sleep(1)
        w.at(0).told.send_nowait(Word("a", "drain", (2,)))
        await until(lambda: bool(w.at(2).words))
        assert [w.at(place).words for place in range(3)] == [{}, {}, {"a": "drain"}]
