"""The reply slot: one waiter, one answer, and an asker that may walk away."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from infermux.actors.kit import Reply


async def _wait_into(reply: Reply[int], results: list[int | str]) -> None:
    try:
        results.append(await reply.wait())
    except ValueError as error:
        results.append(str(error))


async def test_a_waiting_asker_gets_the_value(nursery: trio.Nursery) -> None:
    reply: Reply[int] = Reply()
    results: list[int | str] = []
    nursery.start_soon(_wait_into, reply, results)
    await trio.testing.wait_all_tasks_blocked()
    assert repr(reply) == "<Reply waiting>"
    assert reply.send(7)
    await trio.testing.wait_all_tasks_blocked()
    assert results == [7]
    assert reply.done


async def test_a_waiting_asker_gets_the_error(nursery: trio.Nursery) -> None:
    reply: Reply[int] = Reply()
    results: list[int | str] = []
    nursery.start_soon(_wait_into, reply, results)
    await trio.testing.wait_all_tasks_blocked()
    assert reply.fail(ValueError("no"))
    await trio.testing.wait_all_tasks_blocked()
    assert results == ["no"]


async def test_an_answer_may_come_before_the_wait() -> None:
    reply: Reply[int] = Reply()
    assert repr(reply) == "<Reply open>"
    assert reply.send(7)
    assert repr(reply) == "<Reply done>"
    assert await reply.wait() == 7


async def test_an_error_may_come_before_the_wait() -> None:
    reply: Reply[int] = Reply()
    assert reply.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await reply.wait()


async def test_an_early_answer_reaches_even_a_cancelled_asker() -> None:
    reply: Reply[int] = Reply()
    reply.send(7)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await reply.wait() == 7


async def test_only_the_first_answer_counts() -> None:
    reply: Reply[int] = Reply()
    assert reply.send(1)
    assert not reply.send(2)
    assert not reply.fail(ValueError("late"))
    assert await reply.wait() == 1


async def test_an_answer_to_a_cancelled_asker_is_refused(nursery: trio.Nursery) -> None:
    reply: Reply[int] = Reply()
    with trio.CancelScope() as scope:
        nursery.start_soon(trio.testing.wait_all_tasks_blocked)
        scope.cancel()
        await reply.wait()
    assert scope.cancelled_caught
    assert reply.done
    assert not reply.send(7)


async def test_an_answer_that_was_taken_arrives_though_the_asker_is_cancelled_in_the_same_tick(
    nursery: trio.Nursery,
) -> None:
    reply: Reply[int] = Reply()
    results: list[int | str] = []
    scope = trio.CancelScope()

    async def ask() -> None:
        with scope:
            await _wait_into(reply, results)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    assert reply.send(7)
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert results == [7]


async def test_an_abandoned_reply_refuses_answers() -> None:
    reply: Reply[int] = Reply()
    reply.abandon()
    assert not reply.send(7)


async def test_a_second_waiter_is_an_error(nursery: trio.Nursery) -> None:
    reply: Reply[int] = Reply()
    results: list[int | str] = []
    nursery.start_soon(_wait_into, reply, results)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(RuntimeError, match="another task"):
        await reply.wait()
    reply.send(1)


@pytest.mark.parametrize("end", ["send", "fail", "abandon"])
def test_a_reply_leaves_its_home_when_it_is_done(end: str) -> None:
    home: set[Reply[int]] = set()
    reply = Reply(home)
    home.add(reply)
    if end == "abandon":
        reply.abandon()
    elif end == "send":
        reply.send(1)
    else:
        reply.fail(ValueError())
    assert not home
