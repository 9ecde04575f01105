"""The adapter of the type `process` and a process that says what it likes, over a real socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, NotCarried, UpstreamFailure
from infermux.processes import ProviderProcess
from infermux.providers.interface import Call, Endpoint, ModelInfo, Usage, describing, lasting
from infermux.providers.process.adapter import make
from infermux.providers.process.messages import LINE_LIMIT, Hello, encode
from infermux.providers.registry import TypeNotAvailable, make_adapter
from infermux.secret import Secret
from tests.providers.process._scripted import (
    END,
    HELLO,
    REUSING,
    STARTED,
    Scripted,
    Talk,
    call,
    chunk,
    completion,
    drained,
    opened,
    saying,
    scripted,
    whole,
)
from tests.providers.process._served import NAME

pytestmark = pytest.mark.slow

WHOLE = saying(STARTED + completion() + END)


async def test_an_invoke_has_the_endpoint_the_model_and_the_body_on_one_line(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    process = Scripted(WHOLE)
    adapter, _ = await scripted(
        nursery, tmp_path, process, extra_body={"seed": 1}, headers={"X-Team": "a"}, api_key=Secret("k-1234567")
    )
    asked = call(temperature=0.5)
    request = Call(
        endpoint=asked.endpoint,
        body=asked.body,
        model="n",
        requested_model="m",
        headers=((b"traceparent", b"00-1"),),
        strict=True,
    )
    answer = await whole(adapter, request)
    assert process.asked[0] == {
        "type": "hello",
        "versions": [1],
        "capabilities": ["reuse"],
        "client": process.asked[0]["client"],
    }
    assert process.asked[1] == {
        "type": "invoke",
        "endpoint": "/chat/completions",
        "model": "n",
        "strict": True,
        "headers": {"X-Team": "a", "traceparent": "00-1"},
        "credential": "k-1234567",
        "body": {
            "model": "n",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "seed": 1,
        },
    }
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "hello"


async def test_usage_that_only_the_end_has_is_in_the_answer(nursery: trio.Nursery, tmp_path: Path) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(WHOLE))
    answer = await whole(adapter)
    assert answer.usage == Usage(prompt_tokens=3, completion_tokens=2)
    assert json.loads(answer.body)["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_usage_of_the_answer_itself_wins(nursery: trio.Nursery, tmp_path: Path) -> None:
    said = completion(usage={"prompt_tokens": 7, "completion_tokens": 5})
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(STARTED + said + END)))
    assert (await whole(adapter)).usage == Usage(prompt_tokens=7, completion_tokens=5)


async def test_a_whole_answer_may_come_in_the_pieces_of_a_stream(nursery: trio.Nursery, tmp_path: Path) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(STARTED, chunk("hel"), chunk("lo"), END)))
    answer = await whole(adapter)
    body = json.loads(answer.body)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "hello"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert answer.usage == Usage(prompt_tokens=3, completion_tokens=2)


async def test_an_end_that_says_why_it_stopped_is_an_empty_answer(nursery: trio.Nursery, tmp_path: Path) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(STARTED, END)))
    body = json.loads((await whole(adapter)).body)
    assert body["choices"][0]["finish_reason"] == "stop"
    assert not body["choices"][0]["message"]["content"]
    assert body["model"] == "m"
    chunk_, _ = (await drained(await opened(adapter))).split(b"\n\n", 1)
    said = json.loads(chunk_.removeprefix(b"data: "))
    assert said["choices"][0]["finish_reason"] == "stop"
    assert (said["object"], said["model"]) == ("chat.completion.chunk", "m")


async def test_chunks_that_came_together_go_on_together(nursery: trio.Nursery, tmp_path: Path) -> None:
    script = saying(STARTED, chunk("a"), chunk("b") + chunk("c") + chunk("d"), END)
    adapter, _ = await scripted(nursery, tmp_path, Scripted(script))
    stream = await opened(adapter)
    found: list[int] = []
    while (data := await stream.receive()) is not None:
        found.append(data.count(b"data: {"))
    stream.close()
    assert found == [1, 3, 1]  # the last is the finish reason, of the end
    assert stream.has_content
    assert stream.usage == Usage(prompt_tokens=3, completion_tokens=2)


async def test_a_finish_reason_and_a_usage_event_are_made_of_the_end(nursery: trio.Nursery, tmp_path: Path) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(STARTED, chunk("hi"), END)))
    asked = await drained(await opened(adapter, stream_options={"include_usage": True}))
    events = [json.loads(line[6:]) for line in asked.split(b"\n") if line.startswith(b"data: {")]
    assert [event["id"] for event in events] == ["c", "c", "c"]
    assert events[1]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert events[2]["choices"] == []
    assert events[2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert asked.endswith(b"data: [DONE]\n\n")
    assert b"usage" not in await drained(await opened(adapter))


async def test_what_the_chunks_have_is_not_said_again(nursery: trio.Nursery, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    last = json.dumps({"type": "chunk", "data": {"id": "c", "choices": [], "usage": usage}}).encode() + b"\n"
    script = saying(STARTED, chunk("hi"), chunk("", finish="length"), last, END)
    adapter, _ = await scripted(nursery, tmp_path, Scripted(script))
    stream = await opened(adapter, stream_options={"include_usage": True})
    body = await drained(stream)
    assert body.count(b'"finish_reason": "length"') + body.count(b'"finish_reason":"length"') == 1
    assert body.count(b'"prompt_tokens"') == 1
    assert b'"stop"' not in body
    assert stream.usage == Usage(prompt_tokens=9, completion_tokens=1)


async def test_events_of_messages_get_their_names(nursery: trio.Nursery, tmp_path: Path) -> None:
    events = (
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 4}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    said = [json.dumps({"type": "chunk", "data": event}).encode() + b"\n" for event in events]
    hello = encode(Hello(version=1, endpoints=("/messages",)))
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(STARTED, *said, END), hello=hello))
    stream = await adapter.send(call(stream=True, endpoint=Endpoint.MESSAGES))
    assert adapter.endpoints == {Endpoint.MESSAGES}
    body = await drained(stream)  # type: ignore[arg-type]
    assert [line for line in body.split(b"\n") if line.startswith(b"event: ")] == [
        b"event: message_start",
        b"event: content_block_delta",
        b"event: message_delta",
        b"event: message_stop",
    ]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"ready.\n", "no message of the protocol: JSON is malformed"),
        (b"\xff\xfe\n", "no message of the protocol"),
        (b'{"type":"strange"}\n', "no message of the protocol: Invalid value 'strange'"),
        (b'{"type":"end"}\n', "answered an invoke with 'end' in place of 'started'"),
        (b'{"type":"chunk","data":{}}\n', "answered an invoke with 'chunk' in place of 'started'"),
        (b"[1]\n", "no message of the protocol"),
        (STARTED + STARTED, "said 'started' in the middle of an answer"),
        (STARTED + b'{"type":"models","models":[]}\n', "said 'models' in the middle of an answer"),
        (STARTED + b'{"type":"chunk","data":"text"}\n', "a chunk whose data is no object"),
        (STARTED + b'{"type":"chunk"}\n', "required field `data`"),
        (STARTED + b'{"type":"end"}\n', "answered a request for a whole answer with 0 chunks"),
        (STARTED + b'{"type":"chunk","data":{"no":"completion"}}\n' + END, "no chat completion"),
    ],
)
async def test_what_is_against_the_protocol_is_malformed_and_says_what_it_was(
    nursery: trio.Nursery, tmp_path: Path, said: bytes, what: str
) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(said)))
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    assert caught.value.kind is FailureKind.MALFORMED
    assert what in caught.value.message


async def test_a_banner_is_shown_and_a_models_words_are_not(nursery: trio.Nursery, tmp_path: Path) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(b"Loading weights\n")))
    with pytest.raises(UpstreamFailure, match=r"provider mine sent a line .*'Loading weights'"):
        await adapter.send(call())
    (tmp_path / "p.sock").unlink()
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(b'{"type":"chunk","secret words\n')))
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    assert "secret words" not in caught.value.message


@pytest.mark.parametrize(
    ("said", "kind", "what"),
    [
        (b"", FailureKind.BROKEN, "no answer from the process of provider mine: it closed the connection"),
        (b'{"type":"star', FailureKind.BROKEN, "broke off: it closed the connection in the middle of a line"),
        (STARTED, FailureKind.BROKEN, "broke off: it closed the connection"),
        (STARTED + completion(), FailureKind.BROKEN, "broke off: it closed the connection"),
    ],
)
async def test_a_connection_that_ends_without_an_end_is_broken(
    nursery: trio.Nursery, tmp_path: Path, said: bytes, kind: FailureKind, what: str
) -> None:
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(said)))
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    assert caught.value.kind is kind
    assert what in caught.value.message


async def test_a_giant_line_is_cut_at_the_limit(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LINE_LIMIT == 64 * 1024 * 1024
    monkeypatch.setattr("infermux.providers.process.lines.LineBuffer.__init__.__defaults__", (4096,), raising=False)

    async def flood(talk: Talk, _: Any) -> None:
        for _ in range(64):
            await talk.say(b"x" * 4096)

    adapter, _ = await scripted(nursery, tmp_path, Scripted(flood))
    with pytest.raises(UpstreamFailure, match="a line of more than") as caught:
        await adapter.send(call())
    assert caught.value.kind is FailureKind.MALFORMED


async def test_a_stream_that_breaks_after_content_has_no_clean_end(nursery: trio.Nursery, tmp_path: Path) -> None:
    error = b'{"type":"error","code":"rate_limited","message":"slow down","retry_after":2}\n'
    for last, what in ((b"", "broke off"), (error, "slow down"), (b"garbage\n", "no message of the protocol")):
        adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(STARTED, chunk("hi"), last)))
        stream = await opened(adapter)
        received = b""
        with pytest.raises(UpstreamFailure, match=what) as caught:  # noqa: PT012 - whichever read it is
            while (data := await stream.receive()) is not None:
                received += data
        assert caught.value.kind is FailureKind.BROKEN
        assert b"hi" in received
        assert b"[DONE]" not in received
        stream.close()
        (tmp_path / "p.sock").unlink()


async def test_chunks_before_an_error_in_one_read_are_the_callers(nursery: trio.Nursery, tmp_path: Path) -> None:
    error = b'{"type":"error","code":"internal","message":"oops"}\n'
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(STARTED + chunk("hi") + error)))
    stream = await opened(adapter)
    assert b"hi" in (await stream.receive() or b"")
    for _ in range(2):
        with pytest.raises(UpstreamFailure, match="oops"):
            await stream.receive()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "rate_limited", "retry_after": 2.5}, (FailureKind.RATE_LIMITED, 429, "rate_limited")),
        ({"code": "context_length_exceeded"}, (FailureKind.CALLER, 400, "context_length_exceeded")),
        ({"code": "model_not_found"}, (FailureKind.MODEL_NOT_FOUND, 404, "model_not_found")),
        ({"code": "unauthorized"}, (FailureKind.CREDENTIALS, 401, "unauthorized")),
        ({"code": "overloaded"}, (FailureKind.SERVER_ERROR, 529, "overloaded")),
        ({"code": "timeout"}, (FailureKind.TOTAL_TIMEOUT, 408, "timeout")),
        ({"code": "idle_timeout"}, (FailureKind.IDLE_TIMEOUT, None, "idle_timeout")),
        ({"code": "connect_error"}, (FailureKind.CONNECT, None, "connect_error")),
        ({"code": "own_word", "status": 503}, (FailureKind.SERVER_ERROR, 503, "own_word")),
        ({"code": "own_word", "retryable": False}, (FailureKind.CALLER, 400, "own_word")),
        ({"code": "own_word", "retryable": True}, (FailureKind.SERVER_ERROR, 503, "own_word")),
        ({"status": 200}, (FailureKind.SERVER_ERROR, 503, None)),
    ],
)
async def test_an_error_is_a_failure_of_its_kind(
    nursery: trio.Nursery, tmp_path: Path, error: dict[str, Any], expected: tuple[FailureKind, int | None, str | None]
) -> None:
    said = json.dumps({"type": "error", "message": "m", **error}).encode() + b"\n"
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(said)))
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    failure = caught.value
    assert (failure.kind, failure.status, failure.code) == expected
    assert failure.retry_after == error.get("retry_after")


async def test_an_error_body_goes_back_as_it_is(nursery: trio.Nursery, tmp_path: Path) -> None:
    body = {"error": {"message": "no such tool", "type": "x", "param": "tools", "code": None}}
    said = json.dumps({"type": "error", "status": 400, "message": "no", "body": body}).encode() + b"\n"
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(said)))
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    assert json.loads(caught.value.body or b"") == body
    assert caught.value.message == "answered 400: no such tool"


async def test_what_cannot_be_carried_is_for_another_provider(nursery: trio.Nursery, tmp_path: Path) -> None:
    said = b'{"type":"error","code":"not_carried","message":"no audio here","param":"audio"}\n'
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(said)))
    with pytest.raises(NotCarried, match="no audio here") as caught:
        await adapter.send(call())
    assert caught.value.param == "audio"


async def test_secrets_that_the_process_was_given_are_masked(nursery: trio.Nursery, tmp_path: Path) -> None:
    said = b'{"type":"error","code":"unauthorized","message":"bad key sk-123456789012"}\n'
    adapter, _ = await scripted(nursery, tmp_path, Scripted(saying(said)), env={"KEY": "sk-123456789012"})
    with pytest.raises(UpstreamFailure) as caught:
        await adapter.send(call())
    assert "sk-1234" not in caught.value.message + str(caught.value.body)
    assert "sk-1234" not in repr(adapter)


async def test_a_probe_lists_the_models_and_may_ask_for_a_token(nursery: trio.Nursery, tmp_path: Path) -> None:
    process = Scripted(WHOLE)
    adapter, _ = await scripted(nursery, tmp_path, process)
    assert await adapter.probe(ProbeMethod.MODELS, None) is None
    assert adapter.described == (ModelInfo(id="m"), ModelInfo(id="n"))
    assert await adapter.probe(ProbeMethod.GENERATE, "m") == Usage(prompt_tokens=3, completion_tokens=2)
    assert process.asked[-1]["body"]["max_tokens"] == 1
    assert await adapter.list_models() == ["m", "n"]


async def test_a_probe_of_a_process_without_models_fails(nursery: trio.Nursery, tmp_path: Path) -> None:
    said = b'{"type":"error","code":"unauthorized","message":"no key"}\n'
    adapter, _ = await scripted(nursery, tmp_path, Scripted(WHOLE, models=said))
    with pytest.raises(UpstreamFailure, match="no key") as caught:
        await adapter.probe(ProbeMethod.MODELS, None)
    assert caught.value.kind is FailureKind.CREDENTIALS


def test_it_is_made_of_a_declaration_with_a_command() -> None:
    made = make_adapter(ProviderSettings(name="p", type="process", command=("echo", "x")), environ={})
    assert made.transport == "process"
    assert Endpoint.RESPONSES in made.endpoints
    assert lasting(made) is not None
    assert describing(made) is not None
    with pytest.raises(TypeNotAvailable, match="command"):
        make_adapter(ProviderSettings(name="p", type="process"), environ={})
    assert HELLO != REUSING


def test_its_keys_are_not_shown_where_it_prints_them() -> None:
    declared = ProviderSettings(
        name=NAME, type="process", command=("x",), api_key=Secret("k-1234567"), headers={"X-Api-Key": "h-1234567"}
    )
    place = make(declared, environ={}).place
    assert isinstance(place, ProviderProcess)
    assert set(place.spec.secrets) == {"k-1234567", "h-1234567"}
    assert "1234567" not in repr(place.spec)
