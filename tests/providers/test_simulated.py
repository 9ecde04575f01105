"""The simulated provider: what it says, how fast, and how it fails."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import trio
import trio.testing
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from infermux.config.settings import ProbeMethod, ProviderSettings, Simulate
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint, Stream, Usage
from infermux.providers.simulated import Simulated, make


def provider(*script: dict[str, Any], **settings: Any) -> Simulated:
    pace = {
        "first_token": settings.pop("first_token", 0.0),
        "tokens_per_second": settings.pop("tokens_per_second", 0.0),
    }
    rate = settings.pop("failure_rate", 0.0)
    simulate = Simulate(**pace, failure_rate=rate, script=script)
    return make(ProviderSettings(name="sim", type="simulated", simulate=simulate, **settings), environ={})


def call(*, stream: bool = False, asked_usage: bool = False, **fields: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello there"}], **fields}
    return Call(
        endpoint=Endpoint.CHAT,
        body=json.dumps(body).encode(),
        model="m",
        requested_model="m",
        stream=stream,
        asked_usage=asked_usage,
    )


async def whole(adapter: Simulated, request: Call | None = None) -> ChatCompletion:
    answer = await adapter.send(request or call())
    assert isinstance(answer, Answer)
    return ChatCompletion.model_validate_json(answer.body)


async def open_stream(adapter: Simulated, **fields: Any) -> Stream:
    stream = await adapter.send(call(stream=True, **fields))
    assert not isinstance(stream, Answer)
    return stream


async def drain(stream: Stream) -> bytes:
    received = b""
    while (data := await stream.receive()) is not None:
        received += data
    stream.close()
    return received


def chunks(data: bytes) -> list[ChatCompletionChunk]:
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [ChatCompletionChunk.model_validate_json(line) for line in lines[:-1]]


async def failure(adapter: Simulated, request: Call | None = None) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(request or call())
    return caught.value


async def test_a_whole_answer_is_a_chat_completion_that_names_the_provider_and_echoes_the_prompt() -> None:
    completion = await whole(provider())
    assert completion.choices[0].message.content is not None
    assert completion.choices[0].message.content.startswith("This is sim, a simulated provider.")
    assert '"hello there"' in completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "m"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 40


async def test_the_same_request_gets_the_same_text() -> None:
    assert (await whole(provider())).choices == (await whole(provider())).choices


async def test_a_stream_folds_to_the_whole_answer() -> None:
    data = await drain(await open_stream(provider(), n=2))
    texts = {0: "", 1: ""}
    for chunk in chunks(data):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    completion = await whole(provider(), call(n=2))
    assert texts == {choice.index: choice.message.content for choice in completion.choices}
    assert texts[0] != texts[1]


async def test_usage_is_an_event_only_when_asked_for_and_known_either_way() -> None:
    stream = await open_stream(provider(), asked_usage=True)
    data = await drain(stream)
    last = chunks(data)[-1]
    assert last.choices == []
    assert last.usage is not None
    assert stream.usage == Usage(prompt_tokens=last.usage.prompt_tokens, completion_tokens=40)

    silent = await open_stream(provider())
    assert b"usage" not in await drain(silent)
    assert silent.usage == stream.usage


async def test_max_tokens_cuts_with_the_reason_length() -> None:
    for request in (call(max_tokens=5), call(max_completion_tokens=5)):
        completion = await whole(provider(), request)
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 5


async def test_a_stop_word_ends_the_text_before_it() -> None:
    completion = await whole(provider(), call(stop=["provider", "lorem"]))
    assert completion.choices[0].message.content == "This is sim, a simulated "
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("words", [0, 3, 39, 40, 41])
async def test_a_beginning_of_the_answer_is_gone_on_with(words: int) -> None:
    said = (await whole(provider())).choices[0].message.content or ""
    begun = " ".join((said + " more").split(" ")[:words])
    messages = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": begun}]
    rest = (await whole(provider(), call(messages=messages))).choices[0].message.content or ""
    assert (begun + rest).removesuffix(" more") == said


async def test_a_prompt_can_ask_for_a_length() -> None:
    completion = await whole(provider(), call(messages=[{"role": "user", "content": "Write 200 words"}]))
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 200


async def test_has_content_turns_true_with_the_first_token_not_with_the_role() -> None:
    stream = await open_stream(provider())
    assert b'"role":"assistant"' in (await stream.receive() or b"")
    before = stream.has_content
    await stream.receive()
    assert (before, stream.has_content) == (False, True)
    stream.close()


async def test_the_pace_is_first_token_then_tokens_per_second(autojump_clock: trio.testing.MockClock) -> None:
    adapter = provider(first_token=0.2, tokens_per_second=50.0)
    start = trio.current_time()
    await adapter.send(call(max_tokens=10))
    assert trio.current_time() - start == pytest.approx(0.2 + 10 / 50)

    start = trio.current_time()
    stream = await open_stream(adapter, max_tokens=10)
    assert trio.current_time() == start
    times = list[float]()
    while await stream.receive() is not None:
        times.append(trio.current_time() - start)
    assert times == pytest.approx([0.2, *(0.2 + n / 50 for n in range(10)), 0.4])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n"),
        ({"model": 5}, "model"),
    ],
)
async def test_what_the_real_api_refuses_is_the_callers_400(fields: dict[str, Any], param: str) -> None:
    refused = await failure(provider(), call(**fields))
    assert (refused.kind, refused.status) == (FailureKind.CALLER, 400)
    error = json.loads(refused.body or b"")["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


async def test_a_body_that_is_not_json_is_the_callers_400() -> None:
    request = Call(endpoint=Endpoint.CHAT, body=b"{", model="m", requested_model="m")
    assert (await failure(provider(), request)).kind is FailureKind.CALLER


async def test_tool_results_after_their_calls_are_accepted() -> None:
    tool_call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "tool_calls": [tool_call]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]
    assert (await whole(provider(), call(messages=messages))).choices


async def test_a_model_that_is_not_listed_is_missing() -> None:
    adapter = provider(models=("other",), model_aliases={"smart": "clever"})
    assert (await failure(adapter)).kind is FailureKind.MODEL_NOT_FOUND
    assert list(await adapter.list_models()) == ["other", "clever"]
    assert list(await provider().list_models()) == ["simulated"]


async def test_extra_body_fills_in_what_the_caller_left_out() -> None:
    adapter = provider(extra_body={"max_tokens": 3})
    assert (await whole(adapter)).choices[0].finish_reason == "length"
    assert (await whole(adapter, call(max_tokens=100))).choices[0].finish_reason == "stop"


async def test_a_request_without_a_model_gets_the_one_it_is_called_with() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    completion = await whole(provider(), Call(endpoint=Endpoint.CHAT, body=body, model="m", requested_model=None))
    assert completion.model == "m"


async def test_one_shot_steps_are_used_up_in_order() -> None:
    adapter = provider({"status": 500}, {"status": 429, "retry_after": 2}, {"ok": True}, {"status": 503, "times": 2})
    assert (await failure(adapter)).kind is FailureKind.SERVER_ERROR
    limited = await failure(adapter)
    assert (limited.kind, limited.retry_after) == (FailureKind.RATE_LIMITED, 2.0)
    await whole(adapter)
    assert (await failure(adapter)).status == 503
    assert (await failure(adapter)).status == 503
    await whole(adapter)


async def test_a_refusal_is_a_connect_error_and_malformed_is_malformed() -> None:
    adapter = provider({"refuse": True}, {"malformed": True})
    assert (await failure(adapter)).kind is FailureKind.CONNECT
    assert (await failure(adapter)).kind is FailureKind.MALFORMED


async def test_a_step_that_hangs_stays_silent(autojump_clock: trio.testing.MockClock) -> None:
    adapter = provider({"hang": True})
    with trio.move_on_after(3600) as scope:
        await adapter.send(call())
    assert scope.cancelled_caught
    statistics = adapter.statistics()
    assert (statistics.requests, statistics.cancelled, statistics.in_flight) == (1, 1, 0)


@pytest.mark.parametrize("count", [0, 3, 40])
async def test_a_cut_breaks_the_stream_after_its_tokens_for_good(count: int) -> None:
    stream = await open_stream(provider({"cut_after": count}))
    received = [await stream.receive() for _ in range(count + 1)]
    assert None not in received
    assert stream.has_content is (count > 0)
    for _ in range(2):
        with pytest.raises(UpstreamFailure) as caught:
            await stream.receive()
        assert caught.value.kind is FailureKind.BROKEN


async def test_a_cut_breaks_a_whole_answer_too(autojump_clock: trio.testing.MockClock) -> None:
    adapter = provider({"cut_after": 5}, tokens_per_second=10.0)
    assert (await failure(adapter)).kind is FailureKind.BROKEN
    assert trio.current_time() == pytest.approx(0.5, abs=0.01)


async def test_a_stall_ends_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    await drain(await open_stream(provider({"stall_after": 5, "for": "30s"})))
    assert trio.current_time() - start == pytest.approx(30)


async def test_a_stall_without_an_end_lasts(autojump_clock: trio.testing.MockClock) -> None:
    stream = await open_stream(provider({"stall_after": 1}))
    with trio.move_on_after(3600) as scope:
        await drain(stream)
    assert scope.cancelled_caught
    stream.close()


async def test_a_step_may_set_its_own_pace(autojump_clock: trio.testing.MockClock) -> None:
    adapter = provider({"first_token": "3s", "tokens_per_second": 20})
    start = trio.current_time()
    await adapter.send(call())
    assert trio.current_time() - start == pytest.approx(5)


async def test_a_window_rules_while_it_lasts_and_uses_up_no_step(autojump_clock: trio.testing.MockClock) -> None:
    adapter = provider({"from": "10s", "to": "20s", "status": 503}, {"status": 500, "code": "boom", "message": "no"})
    first = await failure(adapter)
    assert (first.status, first.code, first.message) == (500, "boom", "answered 500: no")
    await trio.sleep(10)
    assert (await failure(adapter)).status == 503
    with pytest.raises(UpstreamFailure):
        await adapter.probe(ProbeMethod.GENERATE, "m")
    await trio.sleep(10)
    await whole(adapter)


async def test_probes_leave_one_shot_steps_to_requests() -> None:
    adapter = provider({"status": 500})
    assert await adapter.probe(ProbeMethod.GENERATE, "m") == Usage(prompt_tokens=5, completion_tokens=1)
    assert await adapter.probe(ProbeMethod.MODELS, None) is None
    assert (await failure(adapter)).status == 500
    statistics = adapter.statistics()
    assert (statistics.requests, statistics.probes) == (1, 2)


async def test_probes_see_what_lasts() -> None:
    adapter = provider({"status": 401, "repeat": True})
    for method in (ProbeMethod.GENERATE, ProbeMethod.MODELS):
        with pytest.raises(UpstreamFailure) as caught:
            await adapter.probe(method, "m")
        assert caught.value.kind is FailureKind.CREDENTIALS
    with pytest.raises(UpstreamFailure):
        await provider({"cut_after": 0, "repeat": True}).probe(ProbeMethod.GENERATE, "m")


async def test_a_probe_of_a_stalled_provider_is_silent(autojump_clock: trio.testing.MockClock) -> None:
    adapter = provider({"stall_after": 0, "repeat": True})
    with trio.move_on_after(60) as scope:
        await adapter.probe(ProbeMethod.GENERATE, "m")
    assert scope.cancelled_caught


async def test_chance_failures_come_at_their_rate_and_repeat_with_the_name() -> None:
    async def run() -> list[bool]:
        adapter, failed = provider(failure_rate=0.3), list[bool]()
        for _ in range(300):
            try:
                await adapter.send(call(max_tokens=1))
                failed.append(False)
            except UpstreamFailure:
                failed.append(True)
        return failed

    first = await run()
    assert 60 < sum(first) < 120
    assert first == await run()


async def test_a_provider_that_always_fails_fails_its_probes() -> None:
    with pytest.raises(UpstreamFailure):
        await provider(failure_rate=1.0).probe(ProbeMethod.GENERATE, "m")


async def test_statistics_count_streams_until_they_end_or_are_left() -> None:
    adapter = provider()
    first, second = await open_stream(adapter), await open_stream(adapter)
    assert adapter.statistics().in_flight == 2
    await drain(first)
    first.close()
    assert (adapter.statistics().in_flight, adapter.statistics().cancelled) == (1, 0)
    await second.receive()
    second.close()
    second.close()
    statistics = adapter.statistics()
    assert (statistics.in_flight, statistics.cancelled, statistics.peak) == (0, 1, 2)


async def test_what_it_says_of_itself() -> None:
    adapter = provider()
    assert adapter.transport == "in-process"
    assert adapter.endpoints >= {Endpoint.CHAT, Endpoint.EMBEDDINGS}
    assert repr(adapter) == "Simulated('sim', in_flight=0)"
    await adapter.aclose()


def test_a_bad_script_is_refused_when_the_provider_is_made() -> None:
    with pytest.raises(ValueError, match="unknown key"):
        provider({"explode": True})


def test_infinite_times_are_refused() -> None:
    with pytest.raises(ValueError, match="duration"):
        provider({"first_token": math.inf})
