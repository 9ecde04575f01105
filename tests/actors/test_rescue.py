"""A stream that broke in the middle goes on at another provider, where that is turned on: whole, marked and paid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.dispatch import Run
from infermux.actors.messages import Want
from infermux.actors.phase import Phase
from infermux.actors.provider_messages import Verb
from infermux.actors.rescue import KEPT_BYTES, Rescue, Rescuer
from infermux.config.settings import Queue, RateLimits, Retry, Timeouts
from infermux.errors import CallerLeft, DeadlineExceeded, FailureKind, InfermuxError, UpstreamError
from infermux.providers.continuation import REASK
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import Completion, Text
from infermux.providers.interface import Call, Endpoint, Usage
from infermux.providers.peek import prompt_tokens
from tests.actors._scripted import (
    PRIORITY,
    RATE_LIMITED,
    SERVER_ERROR,
    Person,
    Scripted,
    Step,
    Taken,
    World,
    breaking,
    fails,
    nothing_is_left,
    provider,
    streams,
    three,
    two,
    world,
)
from tests.providers.dialects._cases import CHAT, chunk, read_stream, sse

WORDS = ["Once", " upon", " a", " time", " there", " was", " a", " router."]
WHOLE = "".join(WORDS)
ON: dict[str, Any] = {"rescue": "continue", "routing": PRIORITY}
REFUSES = fails(FailureKind.CALLER, status=400, body=b"prefill is not supported")


def saying(words: Sequence[str], *, ends: bool = True, name: str = "a", **more: Any) -> Step:
    """A stream of chat chunks; unless it `ends` it breaks after them."""
    events = [sse(chunk({"role": "assistant", "content": ""}, id=name))]
    events += [sse(chunk({"content": word}, id=name)) for word in words]
    if ends:
        events += [sse(chunk(None, "stop", id=name)), b"data: [DONE]\n\n"]
    else:
        more.setdefault("breaks", None if more.get("stalls") else breaking())
    return streams(*events, content_at=1, usage=more.pop("usage", Usage(20, 7)), **more)


def asking(w: World, *, person: Person | None = None, timeout: float | None = None, **fields: Any) -> Run:
    body = {"model": "m", "messages": [{"role": "user", "content": "Tell me."}], "stream": True, **fields}
    call = Call(endpoint=Endpoint.CHAT, body=json.dumps(body).encode(), model="m", requested_model="m", stream=True)
    return w.fleet.run(Want("m", prompt_tokens=10), call, caller=person, timeout=timeout)


async def told(run: Run, *, reads: bool = False) -> bytes:
    """All that the caller gets, to the genuine end."""
    sink = Taken()
    try:
        await run.begin()
        if not reads:
            await run.pump(sink)
        while reads and (data := await run.receive()) is not None:
            sink.data.append(data)
    finally:
        run.close()
    return b"".join(sink.data)


def folded(data: bytes) -> Completion:
    return fold(read_stream(CHAT, data))


def text_of(data: bytes) -> str:
    (part,) = folded(data).parts
    assert isinstance(part, Text)
    return part.text


def asked_of(wire: Scripted, number: int = 0) -> list[Any]:
    messages: list[Any] = json.loads(wire.asked[number][1].body)["messages"]
    return messages


HALF = saying(WORDS[:4], ends=False, usage=None)
REST = saying(WORDS[4:], name="b")


@pytest.mark.parametrize("reads", [False, True])
async def test_another_provider_goes_on_from_the_text_so_far(reads: bool, autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [REST]}, **ON) as w:
        run = asking(w)
        data = await told(run, reads=reads)
        assert text_of(data) == WHOLE
        assert folded(data).id == "a"
        assert data.count(b'"role"') == 1
        assert asked_of(w["b"])[1:] == [
            {"role": "assistant", "content": "Once upon a time"},
            {"role": "user", "content": REASK},
        ]
        assert run.phase is Phase.DONE
        await nothing_is_left(w)


async def test_the_rescue_is_marked_before_the_end_and_in_the_run(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [REST]}, **ON) as w:
        run = asking(w)
        data = await told(run)
        mark = b': infermux-rescued {"from":["a"],"to":"b","attempts":2}\n\n'
        before, found, after = data.partition(mark)
        assert found
        assert b"router." in before
        assert b'"finish_reason":"stop"' in after
        (rescued,) = run.rescues
        assert (rescued.provider, rescued.by, rescued.failure) == ("a", "b", FailureKind.BROKEN)
        assert (run.attempts, rescued.prefilled) == (2, False)


async def test_both_attempts_are_paid_for(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [REST]}, **ON) as w:
        run = asking(w)
        await told(run)
        assert run.rescues[0].usage == Usage(10, 5, estimated=True)
        assert run.usage == Usage(30, 12, estimated=True)
        for name, failures in (("a", 1), ("b", 0)):
            assert w.fleet.members[name].gate.breaker.consecutive_failures == failures


async def test_the_callers_usage_is_that_of_all_attempts(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [REST]}, **ON) as w:
        told_usage = chunk(choices=[], usage={"prompt_tokens": 20, "completion_tokens": 7})
        w["b"].script = [attrs.evolve(REST, chunks=(*(REST.chunks or ())[:-1], sse(told_usage, b"[DONE]")))]
        data = await told(asking(w, stream_options={"include_usage": True}))
        usage = folded(data).usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (30, 12)


async def test_a_bound_of_tokens_holds_for_the_whole_answer(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [REST]}, **ON) as w:
        await told(asking(w, max_tokens=50))
        assert json.loads(w["b"].asked[0][1].body)["max_tokens"] == 45


BREAKS = {
    "a break": HALF,
    "silence": saying(WORDS[:4], ends=False, stalls=True, usage=None),
    "a bug": saying(WORDS[:4], ends=False, breaks=KeyError("delta"), usage=None),
    "its total timeout": saying(WORDS, gap=4.0, usage=None),
}


@pytest.mark.parametrize("kind", BREAKS)
async def test_every_way_to_break_is_mended(kind: str, autojump_clock: MockClock) -> None:
    settings = provider("a", "m", timeouts=Timeouts(total=18.0, idle=10.0))
    async with world(settings, provider("b", "m"), script={"a": [BREAKS[kind]], "b": [REST]}, **ON) as w:
        assert text_of(await told(asking(w))) == WHOLE
        await nothing_is_left(w)


async def test_off_the_caller_is_told_and_nobody_else_is_asked(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [HALF], "b": [REST]}) as w:
        with pytest.raises(UpstreamError):
            await told(asking(w))
        assert w["b"].asked == []


NOT_CONTINUED: dict[str, dict[str, Any]] = {
    "structured output": {"response_format": {"type": "json_object"}},
    "several choices": {"n": 2},
    "log probabilities": {"logprobs": True},
    "a tool that must be called": {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "required",
    },
    "sound": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
}


@pytest.mark.parametrize("what", NOT_CONTINUED)
async def test_what_is_more_than_text_is_not_continued(what: str, autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [REST]}, **ON) as w:
        with pytest.raises(UpstreamError):
            await told(asking(w, **NOT_CONTINUED[what]))
        assert w["b"].asked == []
        await nothing_is_left(w)


async def test_nobody_goes_on_inside_a_tool_call(autojump_clock: MockClock) -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"ci'}}
    step = streams(sse(chunk({"role": "assistant"})), sse(chunk({"tool_calls": [call]})), breaks=breaking())
    async with world(*two(), script={"a": [step], "b": [REST]}, **ON) as w:
        with pytest.raises(UpstreamError):
            await told(asking(w))
        assert w["b"].asked == []


async def test_a_caller_that_was_sent_too_much_is_told(autojump_clock: MockClock) -> None:
    step = saying(["x" * KEPT_BYTES, "y"], ends=False)
    async with world(*two(), script={"a": [step], "b": [REST]}, **ON) as w:
        with pytest.raises(UpstreamError):
            await told(asking(w))
        assert w["b"].asked == []


async def test_a_rescue_that_breaks_is_rescued_as_well(autojump_clock: MockClock) -> None:
    script = {"a": [HALF], "b": [saying(WORDS[4:6], ends=False, usage=None)], "c": [saying(WORDS[6:])]}
    async with world(*three(), script=script, **ON) as w:
        run = asking(w)
        data = await told(run)
        assert text_of(data) == WHOLE
        assert b'{"from":["a","b"],"to":"c","attempts":3}' in data
        assert [rescued.by for rescued in run.rescues] == ["b", "c"]
        assert run.usage is not None
        assert run.usage.prompt_tokens == 10 + prompt_tokens(w["b"].asked[0][1].body) + 20
        await nothing_is_left(w)


@pytest.mark.parametrize("first", [SERVER_ERROR, RATE_LIMITED, saying([], ends=False), Step()])
async def test_who_cannot_go_on_is_passed_over(first: Step, autojump_clock: MockClock) -> None:
    async with world(*three(), script={"a": [HALF], "b": [first], "c": [REST]}, **ON) as w:
        run = asking(w)
        assert text_of(await told(run)) == WHOLE
        assert (run.attempts, len(run.rescues)) == (3, 1)
        await nothing_is_left(w)


async def test_the_attempts_of_a_request_are_bounded(autojump_clock: MockClock) -> None:
    script = {"a": [HALF], "b": [SERVER_ERROR], "c": [REST]}
    retry = Retry(max_attempts=2, same_provider=0)
    async with world(*three(), script=script, retry=retry, **ON) as w:
        with pytest.raises(UpstreamError, match=r"provider a .*after 2 attempts"):
            await told(asking(w))
        assert w["c"].asked == []
        await nothing_is_left(w)


@pytest.mark.parametrize("reads", [False, True])
async def test_when_nobody_is_left_the_caller_is_told_of_the_break(reads: bool, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [HALF]}, **ON) as w:
        run = asking(w)
        with pytest.raises(UpstreamError, match="provider a"):
            await told(run, reads=reads)
        assert run.rescues == []
        with pytest.raises(UpstreamError, match="provider a"):
            await run.receive()
        await nothing_is_left(w)


class Prefilling(Scripted):
    def takes_prefill(self, model: str) -> bool:
        return model == "m"


def prefilling(*names: str) -> dict[str, Scripted]:
    return {name: Prefilling(name) for name in names}


async def test_a_model_that_takes_a_beginning_is_given_it(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [REST]}, wires=prefilling("b"), **ON) as w:
        run = asking(w)
        assert text_of(await told(run)) == WHOLE
        assert asked_of(w["b"])[1:] == [{"role": "assistant", "content": "Once upon a time"}]
        assert run.rescues[0].prefilled


async def test_a_model_that_refuses_a_beginning_is_asked_to_go_on_and_remembered(autojump_clock: MockClock) -> None:
    script = {"a": [HALF, HALF], "b": [REFUSES, REST, REST]}
    async with world(*two(), script=script, wires=prefilling("b"), **ON) as w:
        for attempts in (3, 2):
            run = asking(w)
            assert text_of(await told(run)) == WHOLE
            assert run.attempts == attempts
        assert [len(asked_of(w["b"], number)) for number in range(3)] == [2, 3, 3]
        await nothing_is_left(w)


async def test_a_break_before_the_first_text_but_after_its_beginning_asks_the_same_again(
    autojump_clock: MockClock,
) -> None:
    """Start-up events that were held back for too long have gone to the caller."""
    step = saying(["late"], ends=False, gap=3.0)
    step = streams(*(step.chunks or ())[:1], *(b": ping\n\n",) * 2, gap=1.5, content_at=9, breaks=breaking())
    async with world(*two(), script={"a": [step], "b": [saying(WORDS, name="b")]}, **ON) as w:
        run, sink = asking(w), Taken()
        await run.begin(lambda _, data: sink.data.append(data))
        await run.pump(sink)
        run.close()
        data = b"".join(sink.data)
        assert text_of(data) == WHOLE
        assert (folded(data).id, data.count(b'"role"')) == ("a", 1)
        assert len(asked_of(w["b"])) == 1
        await nothing_is_left(w)


async def test_a_caller_that_leaves_meanwhile_ends_it(autojump_clock: MockClock) -> None:
    person = Person()
    async with world(*two(), script={"a": [HALF], "b": [Step(hangs=True)]}, **ON) as w, trio.open_nursery() as nursery:
        run = asking(w, person=person)
        await run.begin()

        async def leaves() -> None:
            await trio.sleep(1)
            person.leave()

        nursery.start_soon(leaves)
        with pytest.raises(CallerLeft):
            await run.pump(Taken())
        run.close()
        await nothing_is_left(w)


async def test_the_callers_own_deadline_holds_for_the_rescue_too(autojump_clock: MockClock) -> None:
    async with world(*two(), script={"a": [HALF], "b": [Step(hangs=True)]}, **ON) as w:
        with pytest.raises(DeadlineExceeded):
            await told(asking(w, timeout=5.0))
        assert trio.current_time() == pytest.approx(5.0)
        await nothing_is_left(w)


async def test_it_holds_while_the_rescue_waits_in_the_queue(autojump_clock: MockClock) -> None:
    busy = provider("b", "m", rate_limits=RateLimits(max_concurrent=1))
    queue = Queue(max_wait=30.0)
    async with world(provider("a", "m"), busy, script={"a": [HALF]}, queue=queue, **ON) as w:
        w["b"].rest = Step(hangs=True)
        async with trio.open_nursery() as nursery:
            await w.fleet.command("a", Verb.DISABLE)
            nursery.start_soon(told, asking(w))
            await trio.sleep(1.0)
            await w.fleet.command("a", Verb.ENABLE)
            with pytest.raises(DeadlineExceeded):
                await told(asking(w, timeout=5.0))
            assert trio.current_time() == pytest.approx(6.0)
            nursery.cancel_scope.cancel()
        await nothing_is_left(w)


def test_what_is_kept_of_an_answer_is_bounded() -> None:
    call = Call(endpoint=Endpoint.CHAT, body=b"{}", model="m", requested_model="m", stream=True)
    kept: list[bytes] = []
    rescuer = Rescuer(Rescue(), call, Want("m"), sent=kept)
    piece = b"x" * 1000
    for _ in range(2 * KEPT_BYTES // len(piece)):
        assert rescuer.keep(piece) is piece
        assert sum(map(len, kept)) <= KEPT_BYTES


async def test_a_rescue_has_a_first_token_timeout_of_its_own(autojump_clock: MockClock) -> None:
    settings = [provider(name, "m", timeout=10.0) for name in "ab"]
    slow = saying(WORDS[:4], ends=False, gap=9.0, usage=None)
    async with world(*settings, script={"a": [slow], "b": [Step(hangs=True)]}, **ON) as w:
        run = asking(w)
        with pytest.raises(UpstreamError, match="provider a"):
            await told(run)
        assert trio.current_time() == pytest.approx(4 * 9.0 + 10.0)


async def test_a_removed_provider_is_replaced_and_a_shutdown_is_final(autojump_clock: MockClock) -> None:
    stalled = saying(WORDS[:4], ends=False, stalls=True, usage=None)
    async with world(*two(), script={"a": [stalled, stalled], "b": [REST]}, **ON) as w, trio.open_nursery() as nursery:
        run = asking(w)
        await run.begin()
        nursery.start_soon(_later, w.fleet.remove, "a")
        sink = Taken()
        await run.pump(sink)
        assert text_of(b"".join(sink.data)) == WHOLE
        run.close()
    async with world(*two(), script={"a": [stalled], "b": [REST]}, **ON) as w, trio.open_nursery() as nursery:
        run = asking(w)
        await run.begin()
        nursery.start_soon(_later, _revoke, w)
        with pytest.raises(InfermuxError):
            await run.pump(Taken())
        assert w["b"].asked == []
        run.close()


async def _later(call: Any, *arguments: Any) -> None:
    await trio.sleep(1)
    await call(*arguments)


async def _revoke(w: World) -> None:
    await trio.lowlevel.checkpoint()
    w.fleet.revoke_all("the router is shutting down")


async def test_who_could_not_be_asked_at_first_may_go_on(autojump_clock: MockClock) -> None:
    """The candidates are looked at anew: since the request came, minutes may have passed."""
    slow = saying(WORDS[:4], ends=False, gap=30.0, usage=None)
    async with world(*two(), script={"a": [slow], "b": [fails(FailureKind.RATE_LIMITED, status=429), REST]}, **ON) as w:
        await w.fleet.command("a", Verb.DISABLE)
        with pytest.raises(InfermuxError):
            await w.chat()
        await w.fleet.command("a", Verb.ENABLE)
        assert text_of(await told(asking(w))) == WHOLE
