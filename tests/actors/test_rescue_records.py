"""The books of a request that was rescued: its record has every attempt, its budgets pay for them, a kill ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.dispatch import Run
from infermux.actors.draft import Draft
from infermux.actors.identity import Identity
from infermux.actors.journal import Journal
from infermux.actors.messages import Want
from infermux.actors.record import Ending, Record
from infermux.config.settings import Budget, Price, Queue, RateLimits
from infermux.errors import FailureKind, RequestKilled, UpstreamError
from infermux.providers.interface import Call, Endpoint, Usage
from infermux.secret import Secret
from tests.actors._scripted import (
    PRIORITY,
    SERVER_ERROR,
    Scripted,
    Step,
    Taken,
    World,
    breaking,
    fails,
    provider,
    streams,
    two,
    world,
)
from tests.providers.dialects._cases import chunk, sse

TRACE = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
TEAM = Identity(caller="team-a")
DOLLAR = Price(input_per_million=1_000_000.0, output_per_million=1_000_000.0)  # a token
HALF = streams(sse(chunk({"role": "assistant", "content": "One"})), usage=None, breaks=breaking())
REST = streams(
    sse(chunk({"role": "assistant", "content": " two"})),
    sse(chunk(None, "stop")),
    b"data: [DONE]\n\n",
    usage=Usage(12, 2),
)
KILLED = RequestKilled("ended by its operator")


def asking(w: World) -> Run:
    body = {"model": "m", "messages": [{"role": "user", "content": "Count."}], "stream": True}
    call = Call(
        endpoint=Endpoint.CHAT,
        body=json.dumps(body).encode(),
        model="m",
        requested_model="m",
        stream=True,
        headers=(TRACE,),
        lent=Secret("sk-of-the-caller"),
    )
    return w.fleet.run(Want("m", prompt_tokens=10, max_tokens=5, who=TEAM), call)


async def told(run: Run) -> Record:
    draft = Draft(journal=Journal(), id=b"r1", run=run)
    records: list[Record] = []
    draft.journal.listen(records.append)
    await run.begin()
    draft.status = 200
    try:
        await run.pump(Taken())
        draft.ended_well()
    except UpstreamError as error:
        draft.broke(error)
    run.close()
    draft.close()
    [record] = records
    return record


async def test_both_attempts_are_in_the_record_and_in_the_budget(autojump_clock: MockClock) -> None:
    more: dict[str, Any] = {
        "pricing": {name: {"m": DOLLAR} for name in "ab"},
        "budgets": (Budget(caller="team-a", limit_usd=100),),
    }
    async with world(*two(), script={"a": [HALF], "b": [REST]}, rescue="continue", routing=PRIORITY, **more) as w:
        record = await told(asking(w))
        [row] = w.fleet.treasury.statement()
    assert (record.rescues, record.provider, record.ending) == (1, "b", Ending.OK)
    assert [(tried.provider, tried.outcome, tried.cost) for tried in record.attempts] == [
        ("a", "broken", 11.0),
        ("b", "ok", 14.0),
    ]
    assert (record.usage, record.cost) == (Usage(22, 3, estimated=True), 25.0)
    assert (row["spent_usd"], row["reserved_usd"]) == (25.0, 0.0)


async def test_where_nobody_goes_on_the_answer_is_the_broken_one(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [SERVER_ERROR]}, rescue="continue", routing=PRIORITY) as w:
        record = await told(asking(w))
    assert (record.rescues, record.provider, record.ending, record.code) == (0, "a", Ending.BROKEN, "upstream_error")
    assert [(tried.provider, tried.outcome) for tried in record.attempts] == [("a", "broken"), ("b", "server_error")]


async def test_who_goes_on_is_sent_the_trace_and_what_was_lent(autojump_clock: MockClock) -> None:
    borrowing = provider("b", "m", borrows=True)
    script = {"a": [HALF], "b": [REST]}
    async with world(provider("a", "m"), borrowing, script=script, rescue="continue", routing=PRIORITY) as w:
        await told(asking(w))
        [(_, first)], [(_, second)] = w["a"].asked, w["b"].asked
    assert (first.headers, first.lent) == ((TRACE,), None)
    assert (second.headers, second.lent) == ((TRACE,), Secret("sk-of-the-caller"))


class Prefilling(Scripted):
    def takes_prefill(self, model: str) -> bool:
        return True


async def test_a_refusal_of_what_was_lent_says_nothing_of_beginnings(autojump_clock: MockClock) -> None:
    refused = fails(FailureKind.CREDENTIALS, status=401)
    config: dict[str, Any] = {"rescue": "continue", "routing": PRIORITY, "wires": {"b": Prefilling("b")}}
    borrowing = provider("b", "m", borrows=True)
    async with world(provider("a", "m"), borrowing, script={"a": [HALF, HALF], "b": [refused, REST]}, **config) as w:
        assert (await told(asking(w))).ending is Ending.BROKEN
        run = asking(w)
        await told(run)
        assert (len(w["b"].asked), run.rescues[0].prefilled) == (2, True)


@pytest.mark.parametrize("queued", [False, True])
async def test_a_kill_while_another_is_to_go_on_tells_its_caller_so(queued: bool, autojump_clock: MockClock) -> None:
    full = provider("b", "m", "n", rate_limits=RateLimits(max_concurrent=1))
    more: dict[str, Any] = {"rescue": "continue", "routing": PRIORITY, "queue": Queue(max_wait=60.0)}
    script = {"a": [HALF], "b": [Step(hangs=True)] * 2}
    async with world(provider("a", "m"), full, script=script, **more) as w, trio.open_nursery() as nursery:
        if queued:
            nursery.start_soon(w.chat, "n")
            await trio.sleep(1)
        run = asking(w)
        await run.begin()

        @nursery.start_soon
        async def _() -> None:
            await trio.sleep(1)
            run.kill(KILLED)

        with pytest.raises(RequestKilled) as caught:
            await run.pump(Taken())
        assert caught.value is KILLED
        assert [lease.provider for lease in run.trail] == (["a"] if queued else ["a", "b"])
        run.close()
        nursery.cancel_scope.cancel()
