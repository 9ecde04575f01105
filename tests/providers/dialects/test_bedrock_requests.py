"""Messages for Converse: what each caller says arrives, as each family of models takes it, and losses are named."""

from __future__ import annotations

import base64
import json

import attrs
import pytest

from infermux.errors import InvalidRequest
from infermux.providers.dialects.bedrock_converse import DIALECT
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.neutral import (
    Base64,
    CacheControl,
    Document,
    FileId,
    Image,
    PlainText,
    RedactedThinking,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolResult,
    Turn,
    Url,
)
from tests.providers.dialects._cases import SCHEMA
from tests.providers.dialects._converse import (
    CALL,
    HAIKU,
    LLAMA,
    MARK,
    NOVA,
    PROFILE,
    content,
    said,
    talk,
    user,
    written,
)


def test_the_model_and_whether_it_streams_are_not_in_the_body() -> None:
    body, lost = written(talk(stream=True, include_usage=True))
    assert body == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    assert lost == ()


def test_cache_marks_become_cache_points_behind_what_they_mark() -> None:
    conversation = talk(
        user(Text(text="a", cache_control=MARK), Text(text="b")),
        said(Text(text="c")),
        user(Text(text="d", cache_control=CacheControl(ttl="1h"))),
        system=(Text(text="s", cache_control=MARK),),
        tools=(Tool(name="t", schema=SCHEMA, cache_control=MARK),),
    )
    body, lost = written(conversation)
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "s"}, point]
    assert body["toolConfig"]["tools"][1] == point
    assert body["messages"][0]["content"] == [{"text": "a"}, point, {"text": "b"}]
    assert body["messages"][2]["content"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert lost == ()


def test_the_mark_of_the_whole_request_stands_at_its_end() -> None:
    body, _ = written(talk(cache_control=MARK))
    assert body["messages"][-1]["content"][-1] == {"cachePoint": {"type": "default"}}


def test_a_ttl_that_there_is_not_is_dropped_alone() -> None:
    body, lost = written(talk(user(Text(text="a", cache_control=CacheControl(ttl="24h")))))
    assert body["messages"][0]["content"][1] == {"cachePoint": {"type": "default"}}
    assert lost == ("cache_control.ttl",)


@pytest.mark.parametrize(("model", "texts", "tools"), [(HAIKU, 1, 1), (NOVA, 1, 0), (LLAMA, 0, 0), (PROFILE, 1, 1)])
def test_models_without_cache_points_are_sent_none(model: str, texts: int, tools: int) -> None:
    marked = Text(text="a", cache_control=MARK)
    conversation = talk(user(marked), tools=(Tool(name="t", schema=SCHEMA, cache_control=MARK),))
    done = DIALECT.write_request(conversation, Target(model=model))
    body = json.loads(done.body)
    assert json.dumps(body["messages"]).count("cachePoint") == texts
    assert json.dumps(body["toolConfig"]).count("cachePoint") == tools
    assert ("cache_control" in done.loss.names) == (not (texts and tools))


def test_images_are_sent_as_bytes_in_their_format() -> None:
    image = Image(source=Base64(data="QUJD", media_type="image/jpeg"))
    assert content(image) == [{"image": {"format": "jpeg", "source": {"bytes": "QUJD"}}}]
    stored = Image(source=Url(url="s3://bucket/a.webp"))
    assert content(stored) == [{"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp"}}}}]


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (Image(source=Url(url="https://example.org/a.png")), "fetch_images"),
        (Image(source=FileId(id="f", dialect="openai")), "file id"),
        (Image(source=Base64(data="QUJD", media_type="image/tiff")), "image/tiff.*PNG"),
        (Document(source=Url(url="https://example.org/a.pdf")), "as base64"),
        (Document(source=FileId(id="f", dialect="openai")), "file id"),
        (Document(source=Base64(data="QUJD", media_type="application/zip")), "application/zip.*pdf"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_what_can(part: Image | Document, what: str) -> None:
    for inner in (part, ToolResult(call_id="call_1", parts=(part,))):
        with pytest.raises(InvalidRequest, match=what):
            DIALECT.write_request(talk(said(CALL), user(inner)), Target(model=HAIKU))


def test_documents_have_the_names_the_api_takes_each_once() -> None:
    source = Base64(data="QUJD", media_type="application/pdf")
    plain = Document(source=PlainText(text="ä"), context="about", citations=True)
    documents = [Document(source=source, title=title) for title in ("Plan  v1.pdf", "Plan v1-pdf", None, "...")]
    body, lost = written(talk(user(*documents, plain)))
    found = [block["document"] for block in body["messages"][0]["content"]]
    assert [one["name"] for one in found] == ["Plan v1-pdf", "Plan v1-pdf (2)", "document-3", "-", "document-5"]
    assert lost == ("document.title(rewritten)",)
    text = base64.b64encode("ä".encode()).decode()
    assert found[-1] == {
        "format": "txt",
        "name": "document-5",
        "source": {"bytes": text},
        "context": "about",
        "citations": {"enabled": True},
    }


def test_parallel_results_are_one_turn_in_order_with_their_status() -> None:
    other = attrs.evolve(CALL, id="call_2", arguments="")
    results = (
        ToolResult(call_id="call_2", parts=(Image(source=Base64(data="QUJD", media_type="image/png")),)),
        ToolResult(call_id="call_1", parts=(Text(text="no"),), is_error=True),
    )
    body, lost = written(talk(user(), said(Text(text=" "), CALL, other), user(*results), tools=(Tool(name="get"),)))
    calls, answers = body["messages"][1]["content"], body["messages"][2]["content"]
    assert [call["toolUse"]["input"] for call in calls] == [{"city": "Rome"}, {}]
    assert answers[0]["toolResult"]["toolUseId"] == "call_2"
    assert answers[1]["toolResult"] == {"toolUseId": "call_1", "content": [{"text": "no"}], "status": "error"}
    assert lost == ()


def test_ids_the_api_refuses_are_rewritten_the_same_in_call_and_result() -> None:
    long = "call|" + "x" * 80
    body, lost = written(
        talk(user(), said(attrs.evolve(CALL, id=long)), user(ToolResult(call_id=long)), tools=(Tool(name="get"),))
    )
    call, result = body["messages"][1]["content"][0]["toolUse"], body["messages"][2]["content"][0]["toolResult"]
    assert call["toolUseId"] == result["toolUseId"] != long
    assert lost == ("tool_calls.id(rewritten)",)


def test_arguments_that_are_no_object_are_wrapped() -> None:
    call = attrs.evolve(CALL, arguments="[1")
    body, lost = written(talk(user(), said(call), user(ToolResult(call_id="call_1")), tools=(Tool(name="get"),)))
    assert body["messages"][1]["content"][0]["toolUse"]["input"] == {"arguments": "[1"}
    assert lost == ("tool_calls.arguments(wrapped)",)


def test_calls_in_the_history_define_their_tools_where_the_caller_does_not() -> None:
    body, lost = written(talk(user(), said(CALL), user(ToolResult(call_id="call_1"))))
    assert body["toolConfig"] == {"tools": [{"toolSpec": {"name": "get", "inputSchema": {"json": {"type": "object"}}}}]}
    assert lost == ("tools(named from the messages)",)


def test_signed_and_redacted_thinking_survives_a_tool_turn() -> None:
    thoughts = (Thinking(text="hm", signature="sig"), RedactedThinking(data="QUJD"))
    body, lost = written(
        talk(user(), said(*thoughts, CALL), user(ToolResult(call_id="call_1")), tools=(Tool(name="get"),))
    )
    assert body["messages"][1]["content"][:2] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "QUJD"}},
    ]
    assert lost == ()


@pytest.mark.parametrize(
    ("model", "thought"), [(HAIKU, Thinking(text="hm")), (LLAMA, Thinking(text="hm", signature="s"))]
)
def test_thinking_that_cannot_be_verified_is_dropped(model: str, thought: Thinking) -> None:
    body, lost = written(talk(user(), said(thought, Text(text="a")), user()), model)
    assert body["messages"][1]["content"] == [{"text": "a"}]
    assert lost == ("thinking",)


def test_a_refusal_is_text_and_system_turns_are_the_users() -> None:
    late = Turn(role=Role.SYSTEM, parts=(Text(text="be brief"),))
    body, lost = written(talk(user(), said(Refusal(text="no")), late, user()))
    assert body["messages"][1]["content"] == [{"text": "no"}]
    assert body["messages"][2]["content"] == [{"text": "be brief"}, {"text": "hi"}]
    assert lost == ("messages.system(as user)", "refusal(as text)")


@pytest.mark.parametrize("turns", [(said(Text(text="a")), user()), (user(Text(text=" ")),)])
def test_a_conversation_starts_with_the_users_turn(turns: tuple[Turn, ...]) -> None:
    body, lost = written(talk(*turns))
    assert body["messages"][0] == {"role": "user", "content": [{"text": "."}]}
    assert lost == ("messages(user turn put first)",)
