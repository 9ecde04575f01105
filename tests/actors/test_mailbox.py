"""The mailbox: bounded, ordered, one wake-up per burst."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.kit import Mailbox, MailboxFull, Reply
from tests._properties import examples


def test_messages_come_out_in_the_order_they_went_in() -> None:
    mailbox: Mailbox[int] = Mailbox("m", 3)
    for number in range(3):
        mailbox.put(number)
    assert [message for message, _ in mailbox.items] == [0, 1, 2]
    assert len(mailbox) == 3
    assert repr(mailbox) == "<Mailbox 'm' 3/3>"


def test_a_full_mailbox_refuses_and_keeps_what_it_has() -> None:
    mailbox: Mailbox[int] = Mailbox("m", 1)
    mailbox.put(1)
    with pytest.raises(MailboxFull, match="'m' is full: 1 messages") as caught:
        mailbox.put(2)
    assert (caught.value.name, caught.value.capacity) == ("m", 1)
    assert list(mailbox.items) == [(1, None)]


def test_what_must_arrive_goes_past_the_capacity() -> None:
    mailbox: Mailbox[int] = Mailbox("m", 1)
    mailbox.put(1)
    mailbox.put_anyway(2)
    assert list(mailbox.items) == [(1, None), (2, None)]


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Mailbox("m", 0)


async def test_a_burst_wakes_the_consumer_once(nursery: trio.Nursery) -> None:
    mailbox: Mailbox[int] = Mailbox("m", 10)
    batches: list[list[int]] = []

    async def consume() -> None:
        while True:
            await mailbox.wait()
            batches.append([message for message, _ in mailbox.items])
            mailbox.items.clear()

    nursery.start_soon(consume)
    await trio.testing.wait_all_tasks_blocked()
    for number in range(3):
        mailbox.put(number)
    mailbox.put_anyway(3)
    await trio.testing.wait_all_tasks_blocked()
    mailbox.put_anyway(4)
    await trio.testing.wait_all_tasks_blocked()
    assert batches == [[0, 1, 2, 3], [4]]


async def test_waiting_is_a_checkpoint_even_when_something_is_there() -> None:
    mailbox: Mailbox[int] = Mailbox("m", 1)
    mailbox.put(1)
    with trio.testing.assert_checkpoints():
        await mailbox.wait()


async def test_a_cancelled_wait_loses_nothing() -> None:
    mailbox: Mailbox[int] = Mailbox("m", 1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.wait()
    mailbox.put(1)
    await mailbox.wait()
    assert len(mailbox) == 1


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.booleans(), max_size=20))
def test_taking_the_asks_leaves_the_told_in_their_order(asked: list[bool]) -> None:
    mailbox: Mailbox[int] = Mailbox("m", 20)
    replies: list[Reply[int]] = []
    for number, is_asked in enumerate(asked):
        reply: Reply[int] | None = Reply() if is_asked else None
        replies.extend([reply] if reply else [])
        mailbox.put(number, reply)
    assert mailbox.take_asks() == replies
    assert [message for message, _ in mailbox.items] == [n for n, is_asked in enumerate(asked) if not is_asked]
