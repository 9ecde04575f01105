"""What is written for callers, read by the official SDK from a real socket."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import openai
import pytest
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel

from infermux.providers.dialects.dialect import Asked
from infermux.providers.dialects.neutral import (
    Citation,
    Completion,
    ErrorKind,
    ErrorReport,
    RedactedThinking,
    Refusal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from infermux.providers.dialects.neutral_events import StreamError
from tests.providers.dialects._openai_responses import FUNCTION, RESPONSES, Json, completion, request, unfold, written

pytestmark = pytest.mark.slow

EVERYTHING = completion(
    Thinking(text="First paragraph.", signature="sig"),
    RedactedThinking(data="opaque"),
    Text(text='{"city":"Oslo"}', citations=(Citation(url="https://x.org", title="X"),)),
    ToolCall(id="call_1", name="weather", arguments='{"city":"Oslo"}'),
    ToolCall(id="call_2", name="patch", arguments="*** Begin", freeform=True),
    stop=StopReason.TOOL_USE,
)


class City(BaseModel):
    city: str


@contextmanager
def answering(body: bytes | Iterable[bytes], status: int = 200) -> Generator[openai.OpenAI]:
    """The SDK in front of a server that answers everything with `body`, streamed where it is in pieces."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", "application/json" if isinstance(body, bytes) else "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for piece in (body,) if isinstance(body, bytes) else body:
                self.wfile.write(piece)
                self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        http_client = openai.DefaultHttpxClient(trust_env=False)
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            with openai.OpenAI(
                base_url=url,
                api_key="k",
                max_retries=0,
                timeout=5,
                http_client=http_client,
                _strict_response_validation=True,
            ) as sdk:
                yield sdk
        finally:
            server.shutdown()
            thread.join()


def whole(found: Completion, **fields: object) -> bytes:
    return RESPONSES.write_answer(found, Asked(conversation=request(**fields), now=7))


def pieces(data: bytes, size: int = 7) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_a_whole_answer_is_what_was_said() -> None:
    with answering(whole(EVERYTHING, tools=[FUNCTION])) as sdk:
        found = sdk.responses.create(model="m", input="hi")
    assert found.output_text == '{"city":"Oslo"}'
    assert [item.type for item in found.output] == [
        "reasoning",
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
    ]
    assert found.usage is not None
    assert found.usage.output_tokens_details.reasoning_tokens == 3


def test_parse_gives_the_object_and_the_arguments() -> None:
    with answering(whole(EVERYTHING)) as sdk:
        found = sdk.responses.parse(model="m", input="hi", text_format=City)
    assert found.output_parsed == City(city="Oslo")


def test_the_stream_helper_takes_every_event_and_ends_with_the_whole_answer() -> None:
    with (
        answering(pieces(written(unfold(EVERYTHING)))) as sdk,
        sdk.responses.stream(model="m", input="hi", text_format=City) as stream,
    ):
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == final.output_text
    assert final.output_parsed == City(city="Oslo")
    call = next(item for item in final.output if item.type == "function_call")
    assert (call.call_id, call.name, call.arguments) == ("call_1", "weather", '{"city":"Oslo"}')
    reasoning = next(item for item in final.output if item.type == "reasoning")
    assert reasoning.summary[0].text == "First paragraph."
    assert final.usage is not None
    assert final.usage.total_tokens == 14


def test_the_plain_stream_is_read_event_by_event() -> None:
    with answering(pieces(written(unfold(EVERYTHING)), size=1000)) as sdk:
        stream = sdk.responses.create(model="m", input="hi", stream=True)
        events = list(stream)
    assert "".join(event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)) == '{"city":"Oslo"}'
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"


def test_an_answer_that_was_cut_off_is_incomplete() -> None:
    found = completion(Text(text="Hel"), stop=StopReason.LENGTH)
    with answering(pieces(written(unfold(found)))) as sdk:
        events = list(sdk.responses.create(model="m", input="hi", stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details is not None
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


def test_a_refusal_is_a_refusal() -> None:
    found = completion(Refusal(text="No."), stop=StopReason.REFUSAL)
    with answering(pieces(written(unfold(found)))) as sdk, sdk.responses.stream(model="m", input="hi") as stream:
        final = stream.get_final_response()
    assert final.status == "completed"
    assert final.output[0].type == "message"
    assert final.output[0].content[0].type == "refusal"


@pytest.mark.parametrize("alone", [False, True])
def test_an_error_inside_a_stream_is_raised(alone: bool) -> None:
    error = ErrorReport(kind=ErrorKind.SERVER, status=500, message="it broke", code="server_error")
    begun = list(unfold(completion(Text(text="Hello"))))[:4]
    data = (
        written(begun) + RESPONSES.write_stream_error(error) if alone else written([*begun, StreamError(error=error)])
    )
    with answering(pieces(data)) as sdk, pytest.raises(openai.APIError, match="it broke"):
        list(sdk.responses.create(model="m", input="hi", stream=True))


def test_a_stream_that_breaks_has_no_final_response() -> None:
    begun = list(unfold(completion(Text(text="Hello"))))[:-1]
    with (
        answering(pieces(written(begun))) as sdk,
        sdk.responses.stream(model="m", input="hi") as stream,
        pytest.raises(RuntimeError),
    ):
        stream.get_final_response()


def test_an_error_has_its_type_code_and_field() -> None:
    error = ErrorReport(kind=ErrorKind.INVALID_REQUEST, status=400, message="m", code="c", param="input")
    with answering(RESPONSES.write_error(error), status=400) as sdk, pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(model="m", input="hi")
    assert (caught.value.code, caught.value.param, caught.value.type) == ("c", "input", "invalid_request_error")


def test_what_the_sdk_sends_back_of_an_answer_is_the_turn_it_was() -> None:
    with answering(whole(EVERYTHING)) as sdk:
        found = sdk.responses.create(model="m", input="hi")
    items: list[Json] = [item.to_dict() for item in found.output]
    outputs: list[Json] = [
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
    ]
    turns = request([{"role": "user", "content": "hi"}, *items, *outputs]).turns
    assert [type(part) for part in turns[1].parts] == [type(part) for part in EVERYTHING.parts]
    assert turns[1].parts[0] == Thinking(text="First paragraph.", signature="sig")
