"""A broken answer in every dialect: cut anywhere, the rest joined on, it is the whole answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.continuation import REASK, CannotContinue, continued_body, place_of
from infermux.providers.dialects.dialect import Asked, Target
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import (
    Completion,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from infermux.providers.dialects.neutral_events import (
    ArgumentsDelta,
    Ended,
    PartEnded,
    PartStarted,
    Started,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from infermux.providers.interface import Endpoint, Usage
from infermux.providers.joint import Joint
from infermux.providers.translate import DIALECTS, translate
from tests.providers.dialects._cases import read_stream, sse

MARK = b": mark\n\n"
HI = [{"role": "user", "content": "hi"}]
BODIES: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"model": "m", "messages": HI, "stream": True, "stream_options": {"include_usage": True}},
    Endpoint.MESSAGES: {"model": "m", "messages": HI, "stream": True, "max_tokens": 90},
    Endpoint.RESPONSES: {"model": "m", "input": "hi", "stream": True},
}
EACH = pytest.mark.parametrize("endpoint", BODIES, ids=lambda endpoint: endpoint.name.lower())
WORDS = ("Once ", "upon ", "a time ", "there ", "was\n", "a router.")
WHOLE = "".join(WORDS)
USED = Usage(prompt_tokens=10, completion_tokens=3)
PREFILLED = {"role": "assistant", "content": "Once upon a time"}
GO_ON = {"role": "user", "content": REASK}


def body_of(endpoint: Endpoint, **more: Any) -> bytes:
    return json.dumps({**BODIES[endpoint], **more}).encode()


def events_of(words: tuple[str, ...], *, id_: str = "first", thinks: bool = False) -> list[StreamEvent]:
    events: list[StreamEvent] = [Started(id=id_, model=f"model of {id_}", created=3)]
    index = int(thinks)
    if thinks:
        events += [PartStarted(index=0, part=Thinking(text="")), ThinkingDelta(0, "Hm."), PartEnded(index=0)]
    events.append(PartStarted(index=index, part=Text(text="")))
    events += [TextDelta(index, word) for word in words]
    usage = Usage(prompt_tokens=20, completion_tokens=7)
    return [*events, PartEnded(index=index), Ended(stop=StopReason.END, usage=usage)]


def written(endpoint: Endpoint, events: list[StreamEvent]) -> list[bytes]:
    """What the caller's dialect makes of each."""
    dialect = DIALECTS[endpoint]
    writer = dialect.stream_writer(Asked(conversation=dialect.read_request(body_of(endpoint))))
    return [writer.write((event,)) for event in events]


def rescued(
    endpoint: Endpoint, sent: bytes, more: list[StreamEvent], *, prefill: bool = True, pieces: int = 1 << 20
) -> bytes:
    """All that the caller gets: `sent`, and what joins the continuation `more` on, fed in pieces of so many bytes."""
    joint = Joint(place_of(endpoint, body_of(endpoint), sent), prefill=prefill, mark=MARK, before=USED)
    data = b"".join(written(endpoint, more))
    out = [joint.feed(data[at : at + pieces], Usage()) for at in range(0, len(data), pieces)]
    return b"".join((sent, *out, joint.finish(Usage())))


def completion_of(endpoint: Endpoint, data: bytes) -> Completion:
    return fold(read_stream(DIALECTS[endpoint], data))


@EACH
@pytest.mark.parametrize("thinks", [False, True])
def test_an_answer_cut_after_any_event_is_joined_to_the_whole_one(endpoint: Endpoint, thinks: bool) -> None:
    first = written(endpoint, events_of(WORDS))
    for cut in range(1, len(WORDS) + 3):
        sent = b"".join(first[:cut])
        said = place_of(endpoint, body_of(endpoint), sent).text
        rest = (WHOLE[len(said.rstrip()) :],)
        data = rescued(endpoint, sent, events_of(rest, id_="second", thinks=thinks), pieces=100)
        answer = completion_of(endpoint, data)
        assert answer.parts == (Text(text=WHOLE),)
        assert (answer.id, answer.model, answer.stop) == ("first", "model of first", StopReason.END)
        assert answer.usage == Usage(prompt_tokens=30, completion_tokens=10)
        assert data.count(MARK) == 1


@EACH
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_cut_anywhere_and_read_in_any_pieces_it_is_the_whole_answer(endpoint: Endpoint, data: st.DataObject) -> None:
    words = tuple(data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1)))
    whole = "".join(words)
    first = written(endpoint, events_of(words))
    sent = b"".join(first[: data.draw(st.integers(1, len(words) + 2))])
    said = place_of(endpoint, body_of(endpoint), sent).text
    assert whole.startswith(said)
    more = events_of((whole[len(said.rstrip()) :],), id_="second")
    joined = rescued(endpoint, sent, more, pieces=data.draw(st.integers(1, 400)))
    assert "".join(part.text for part in completion_of(endpoint, joined).parts if isinstance(part, Text)) == whole


def test_a_responses_numbers_ids_and_texts_go_on() -> None:
    first = written(Endpoint.RESPONSES, events_of(WORDS))
    sent = b"".join(first[:5])
    joined = rescued(Endpoint.RESPONSES, sent, events_of((" there was\na router.",), id_="second"))
    shapes = [json.loads(event.data) for event in DIALECTS[Endpoint.RESPONSES].decoder().feed(joined)]
    assert [shape["sequence_number"] for shape in shapes] == list(range(len(shapes)))
    items = {shape.get("item_id") or shape["item"]["id"] for shape in shapes if "output_index" in shape}
    assert len(items) == 1
    last = shapes[-1]["response"]
    assert last["output"][0]["id"] in items
    assert last["output"][0]["content"][0]["text"] == WHOLE
    assert [shape["type"] for shape in shapes].count("response.created") == 1


def test_a_native_response_keeps_what_it_began_with() -> None:
    response = {"id": "resp_1", "model": "gpt", "created_at": 3, "status": "in_progress", "instructions": "Be brief."}
    item: dict[str, Any] = {
        "id": "msg_native",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    place = {"item_id": "msg_native", "output_index": 0, "content_index": 0}
    sent = sse(
        {"type": "response.created", "sequence_number": 0, "response": response},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item},
        {"type": "response.content_part.added", "sequence_number": 2, **place, "part": {"type": "output_text"}},
        {"type": "response.output_text.delta", "sequence_number": 3, **place, "delta": "Once upon", "obfuscation": "x"},
    )
    joined = rescued(Endpoint.RESPONSES, sent, events_of((" a time.",), id_="second"))
    after = [json.loads(event.data) for event in DIALECTS[Endpoint.RESPONSES].decoder().feed(joined[len(sent) :])]
    assert [shape["sequence_number"] for shape in after] == list(range(4, 4 + len(after)))
    assert {shape["item_id"] for shape in after if "item_id" in shape} == {"msg_native"}
    last = after[-1]["response"]
    assert (last["id"], last["instructions"], last["status"]) == ("resp_1", "Be brief.", "completed")
    assert last["output"][0]["content"][0]["text"] == "Once upon a time."


@EACH
def test_a_continuation_may_call_tools(endpoint: Endpoint) -> None:
    sent = b"".join(written(endpoint, events_of(WORDS))[:3])
    call = ToolCall(id="call_1", name="look", arguments="{}")
    more: list[StreamEvent] = [
        *events_of((" upon",), id_="second")[:-1],
        PartStarted(index=1, part=ToolCall(id="call_1", name="look")),
        ArgumentsDelta(1, "{}"),
        PartEnded(index=1),
        Ended(stop=StopReason.TOOL_USE, usage=Usage()),
    ]
    answer = completion_of(endpoint, rescued(endpoint, sent, more))
    assert answer.parts == (Text(text="Once upon"), call)
    assert answer.stop is StopReason.TOOL_USE


@EACH
def test_a_continuation_that_has_no_end_is_broken(endpoint: Endpoint) -> None:
    sent = b"".join(written(endpoint, events_of(WORDS))[:3])
    with pytest.raises(UpstreamFailure) as caught:
        rescued(endpoint, sent, events_of((" upon",))[:-1])
    assert caught.value.kind is FailureKind.BROKEN


NOT: dict[str, tuple[Endpoint, dict[str, Any]]] = {
    "structured output": (Endpoint.CHAT, {"response_format": {"type": "json_object"}}),
    "a schema": (Endpoint.RESPONSES, {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}),
    "a forced tool": (
        Endpoint.MESSAGES,
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}},
    ),
    "several choices": (Endpoint.CHAT, {"n": 3}),
    "log probabilities": (Endpoint.CHAT, {"logprobs": True}),
    "a conversation that is kept elsewhere": (Endpoint.RESPONSES, {"previous_response_id": "resp_0"}),
}


@pytest.mark.parametrize("what", NOT)
def test_what_expects_more_than_text_is_not_continued(what: str) -> None:
    endpoint, fields = NOT[what]
    sent = b"".join(written(endpoint, events_of(WORDS))[:3])
    with pytest.raises(CannotContinue):
        place_of(endpoint, body_of(endpoint, **fields), sent)


@EACH
def test_an_answer_with_a_tool_call_is_not_continued(endpoint: Endpoint) -> None:
    events: list[StreamEvent] = [
        *events_of(WORDS)[:-1],
        PartStarted(index=1, part=ToolCall(id="call_1", name="look")),
        ArgumentsDelta(1, '{"a'),
    ]
    with pytest.raises(CannotContinue, match="tool calls"):
        place_of(endpoint, body_of(endpoint), b"".join(written(endpoint, events)))


@pytest.mark.parametrize("endpoint", [Endpoint.MESSAGES, Endpoint.RESPONSES])
def test_thinking_that_nobody_else_can_sign_is_not_continued(endpoint: Endpoint) -> None:
    with pytest.raises(CannotContinue, match="thinking"):
        place_of(endpoint, body_of(endpoint), b"".join(written(endpoint, events_of(WORDS, thinks=True))[:3]))


def test_thinking_in_a_chat_is_done_again_unseen() -> None:
    sent = b"".join(written(Endpoint.CHAT, events_of(WORDS, thinks=True))[:3])
    place = place_of(Endpoint.CHAT, body_of(Endpoint.CHAT), sent)
    assert json.loads(continued_body(body_of(Endpoint.CHAT), place, prefill=True, used=0))["messages"] == HI
    answer = completion_of(Endpoint.CHAT, rescued(Endpoint.CHAT, sent, events_of(WORDS, thinks=True)))
    assert answer.parts == (Thinking(text="Hm."), Text(text=WHOLE))


def test_blocks_that_only_their_provider_knows_are_not_continued() -> None:
    tool: dict[str, Any] = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    sent = written(Endpoint.MESSAGES, events_of(WORDS))[0]
    sent += sse({"type": "content_block_start", "index": 0, "content_block": tool})
    with pytest.raises(CannotContinue, match="only its provider"):
        place_of(Endpoint.MESSAGES, body_of(Endpoint.MESSAGES), sent)


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.AUDIO, Endpoint.COMPLETIONS])
def test_what_has_no_conversation_is_not_continued(endpoint: Endpoint) -> None:
    with pytest.raises(CannotContinue):
        place_of(endpoint, b"{}", b"data: {}\n\n")


@EACH
def test_an_answer_that_has_its_finish_reason_is_not_continued(endpoint: Endpoint) -> None:
    with pytest.raises(CannotContinue, match="whole"):
        place_of(endpoint, body_of(endpoint), b"".join(written(endpoint, events_of(WORDS))))


# The request for the rest.


def block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def asked(endpoint: Endpoint, *, prefill: bool, used: int = 3, **fields: Any) -> dict[str, Any]:
    sent = b"".join(written(endpoint, events_of(WORDS))[:5])
    body = body_of(endpoint, **fields)
    found: dict[str, Any] = json.loads(continued_body(body, place_of(endpoint, body, sent), prefill=prefill, used=used))
    return found


@pytest.mark.parametrize("prefill", [True, False])
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES])
def test_the_text_so_far_is_given_as_the_answers_beginning(endpoint: Endpoint, prefill: bool) -> None:
    assert asked(endpoint, prefill=prefill)["messages"] == [*HI, PREFILLED, *([] if prefill else [GO_ON])]


def test_a_response_is_continued_after_its_input_whatever_form_that_has() -> None:
    for before in ("hi", HI):
        assert asked(Endpoint.RESPONSES, prefill=False, input=before)["input"] == [*HI, PREFILLED, GO_ON]


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        ("Well: ", "Well: Once upon a time"),
        ([block("Well:")], [block("Well:"), block(PREFILLED["content"])]),
    ],
)
def test_a_beginning_that_the_caller_gave_itself_stays_in_front(content: Any, whole: Any) -> None:
    given = [*HI, {"role": "assistant", "content": content}]
    assert asked(Endpoint.MESSAGES, prefill=True, messages=given)["messages"] == [
        *HI,
        {"role": "assistant", "content": whole},
    ]


@pytest.mark.parametrize(
    ("endpoint", "name", "given", "used", "left"),
    [
        (Endpoint.CHAT, "max_tokens", 50, 20, 30),
        (Endpoint.CHAT, "max_completion_tokens", 50, 60, 1),
        (Endpoint.MESSAGES, "max_tokens", 50, 20, 30),
        (Endpoint.RESPONSES, "max_output_tokens", 50, 40, 16),
    ],
)
def test_a_bound_of_tokens_is_what_is_left_of_it(
    endpoint: Endpoint, name: str, given: int, used: int, left: int
) -> None:
    assert asked(endpoint, prefill=False, used=used, **{name: given})[name] == left


def test_thinking_is_not_asked_for_again() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    assert "thinking" not in asked(Endpoint.MESSAGES, prefill=True, thinking=thinking)
    assert "reasoning_effort" not in asked(Endpoint.CHAT, prefill=True, reasoning_effort="high")
    assert asked(Endpoint.CHAT, prefill=False, reasoning_effort="high")["reasoning_effort"] == "high"


@EACH
@pytest.mark.parametrize("provider", DIALECTS, ids=lambda endpoint: endpoint.name.lower())
@pytest.mark.parametrize("prefill", [True, False])
def test_every_provider_can_be_given_it(endpoint: Endpoint, provider: Endpoint, prefill: bool) -> None:
    """Translated it still ends in the beginning of the answer, or in the question to go on."""
    sent = b"".join(written(endpoint, events_of(WORDS))[:5])
    body = continued_body(body_of(endpoint), place_of(endpoint, body_of(endpoint), sent), prefill=prefill, used=3)
    done = translate(body, caller=DIALECTS[endpoint], provider=DIALECTS[provider], target=Target(model="m"))
    read = DIALECTS[provider].read_request(done.body)
    texts = [part.text for turn in read.turns[1:] for part in turn.parts if isinstance(part, Text)]
    assert texts == [PREFILLED["content"], *([] if prefill else [REASK])]
