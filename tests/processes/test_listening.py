"""How the streams of a process are read."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from infermux.processes.listening import CHUNK, KEPT_LINES, PAUSE, Listener
from infermux.processes.output import LINES_PER_SECOND, Allowance, Cleaner

LOG = logging.getLogger("infermux.processes")


def listener() -> Listener:
    return Listener("one", LOG, Cleaner.of({}), Allowance())


async def test_a_last_line_without_an_end_is_heard_once_however_often_it_is_listened_to(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    send, receive = trio.testing.memory_stream_one_way_pair()
    await send.send_all(b"first\nlast")
    await send.aclose()
    hearing = listener()
    await hearing.listen(receive)
    await hearing.listen(receive)
    await receive.aclose()
    await hearing.listen(receive)  # closed by who ended the process
    assert caplog.messages == ["provider one says: first", "provider one says: last"]
    assert hearing.done.is_set()


async def test_listening_goes_on_where_it_was_left_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    send, receive = trio.testing.memory_stream_one_way_pair()
    hearing = listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hearing.listen, receive)
        await send.send_all(b"half a ")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert hearing.unfinished() == "half a "
    await send.send_all(b"line\n")
    await send.aclose()
    await hearing.listen(receive)
    assert caplog.messages == ["provider one says: half a line"]


async def test_a_flood_is_read_in_its_time_and_counted(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    send, receive = trio.testing.memory_stream_one_way_pair()
    await send.send_all((b"x" * 127 + b"\n") * (40 * CHUNK // 128))
    await send.aclose()
    hearing = listener()
    await hearing.listen(receive)
    assert trio.current_time() == pytest.approx(40 * PAUSE)
    said = [message for message in caplog.messages if "says" in message]
    left_out = [int(message.split()[2]) for message in caplog.messages if "left out" in message]
    assert len(said) == 2 * LINES_PER_SECOND
    assert len(said) + sum(left_out) == 40 * CHUNK // 128
    assert len(hearing.kept) == KEPT_LINES
