"""What an answer has that the caller's API has no place for is named beside what the request lost."""

from __future__ import annotations

import json

import pytest

from infermux.errors import InvalidRequest
from infermux.providers.dialects import bedrock_converse, openai_responses
from infermux.providers.dialects.dialect import Dialect, Target
from infermux.providers.interface import Answer
from infermux.providers.translate import translate
from tests.providers.dialects._cases import CHAT, MESSAGES, Json, chat, messages, to_chat, to_messages

RESPONSES = openai_responses.DIALECT
BEDROCK = bedrock_converse.DIALECT
REQUESTS: dict[str, Json] = {
    "openai.chat": chat(),
    "anthropic.messages": messages(),
    "openai.responses": {"model": "m", "input": "hi"},
}
TOLD = {"text": "It rains.", "type": "text"}
WEB: Json = {
    "type": "web_search_result_location", "cited_text": "rain", "url": "https://a.example/", "title": "A",
    "encrypted_index": "e",
}  # fmt: skip
CHAR: Json = {
    "type": "char_location", "cited_text": "rain", "document_index": 0, "document_title": "D",
    "start_char_index": 1, "end_char_index": 5,
}  # fmt: skip
PAGE: Json = {
    "type": "page_location", "cited_text": "rain", "document_index": 0, "document_title": "D",
    "start_page_number": 1, "end_page_number": 2,
}  # fmt: skip


def answered(caller: Dialect, provider: Dialect, answer: Json) -> tuple[Json, tuple[str, ...]]:
    """The answer for the caller, and what is named as dropped."""
    body = json.dumps(REQUESTS[caller.name]).encode()
    done = translate(body, caller=caller, provider=provider, target=Target(model="m"))
    found = done.answer(Answer(200, b"application/json", json.dumps(answer).encode(), dropped=("by the adapter",)))
    assert found.dropped[0] == "by the adapter"
    return json.loads(found.body), found.dropped[1:]


def of_claude(*blocks: Json, **fields: object) -> Json:
    return {"id": "m", "model": "c", "content": list(blocks), "stop_reason": "end_turn", **fields}


def of_chat(message: Json | None = None, *, choices: int = 1, **fields: object) -> Json:
    said = {"role": "assistant", "content": "It rains.", **(message or {})}
    found = [{"index": index, "finish_reason": "stop", "message": said, **fields} for index in range(choices)]
    return {"id": "c", "model": "g", "created": 1, "choices": found}


def of_responses(*items: Json, annotations: list[Json] | None = None) -> Json:
    content = {"type": "output_text", "text": "It rains.", "annotations": annotations or []}
    message = {"type": "message", "id": "m", "role": "assistant", "content": [content]}
    return {"id": "r", "model": "g", "created_at": 1, "status": "completed", "output": [*items, message]}


# Several choices.


def test_several_choices_that_no_other_api_can_give_are_named() -> None:
    for request in (to_messages(chat(n=2)), to_chat(messages(n=2))):
        assert "n" in request[1]
        assert "n" not in request[0]
    assert to_messages(chat(n=1))[1] == ()


@pytest.mark.parametrize("provider", [MESSAGES, BEDROCK, RESPONSES], ids=lambda dialect: dialect.name)
def test_several_choices_are_refused_where_the_caller_insists(provider: Dialect) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translate(
            json.dumps(chat(n=3)).encode(), caller=CHAT, provider=provider, target=Target(model="claude"), strict=True
        )
    assert caught.value.param == "n"


@pytest.mark.parametrize("caller", [MESSAGES, RESPONSES], ids=lambda dialect: dialect.name)
def test_choices_after_the_first_are_named(caller: Dialect) -> None:
    assert answered(caller, CHAT, of_chat(choices=2))[1] == ("choices(first only)",)
    assert answered(caller, CHAT, of_chat(choices=1))[1] == ()


@pytest.mark.parametrize("field", ["n", "logprobs", "top_logprobs", "audio", "modalities"])
def test_what_only_chat_answers_have_is_not_asked_for_by_others(field: str) -> None:
    body, dropped = to_chat(messages(**{field: 2}))
    assert (field in body, dropped) == (False, (field,))


# Citations.


@pytest.mark.parametrize(
    ("citations", "annotated", "lost"),
    [
        ([WEB], 1, ("citations.cited_text",)),
        ([CHAR], 0, ("citations",)),
        ([PAGE, WEB], 1, ("citations", "citations.cited_text")),
        ([{**WEB, "cited_text": ""}], 1, ()),
        ([], 0, ()),
    ],
)
def test_citations_are_annotations_where_they_are_pages_of_the_web(
    citations: list[Json], annotated: int, lost: tuple[str, ...]
) -> None:
    answer = of_claude({"type": "text", "text": "So: "}, {**TOLD, "citations": citations})
    body, dropped = answered(CHAT, MESSAGES, answer)
    found = body["choices"][0]["message"].get("annotations", [])
    page = {"url": "https://a.example/", "title": "A", "start_index": 4, "end_index": 13}
    assert (found, dropped) == ([{"type": "url_citation", "url_citation": page}] * annotated, lost)
    body, dropped = answered(RESPONSES, MESSAGES, answer)
    contents = body["output"][0]["content"]
    assert (len(contents[1]["annotations"]), dropped) == (annotated, lost)


def test_places_in_documents_go_from_bedrock_to_an_anthropic_caller() -> None:
    location = {"documentChar": {"documentIndex": 0, "start": 1, "end": 5}}
    cited = {"title": "D", "sourceContent": [{"text": "rain"}], "location": location}
    content = [{"citationsContent": {"content": [{"text": "It rains."}], "citations": [cited]}}]
    answer = {"output": {"message": {"content": content}}, "stopReason": "end_turn"}
    body, dropped = answered(MESSAGES, BEDROCK, answer)
    assert (body["content"], dropped) == ([{**TOLD, "citations": [CHAR]}], ())
    cited["location"] = {"searchResultLocation": {"searchResultIndex": 0, "start": 0, "end": 1}}
    assert answered(MESSAGES, BEDROCK, answer)[1] == ("citations",)


@pytest.mark.parametrize("caller", [MESSAGES, CHAT], ids=lambda dialect: dialect.name)
def test_annotations_that_are_files_of_the_provider_are_named(caller: Dialect) -> None:
    files: list[Json] = [
        {"type": "file_citation", "file_id": "f", "filename": "a", "index": 1},
        {"type": "container_file_citation", "file_id": "f", "container_id": "c", "start_index": 0, "end_index": 1},
    ]
    page: Json = {"type": "url_citation", "url": "https://a.example/", "title": "A", "start_index": 3, "end_index": 8}
    body, dropped = answered(caller, RESPONSES, of_responses(annotations=[*files, page]))
    names = ("output.content.annotations.file_citation", "output.content.annotations.container_file_citation")
    assert dropped == names
    if caller is MESSAGES:
        assert body["content"][0]["citations"][0]["url"] == page["url"]
    else:
        (annotation,) = body["choices"][0]["message"]["annotations"]
        assert annotation["url_citation"] == {name: value for name, value in page.items() if name != "type"}


def test_a_chat_annotation_keeps_its_piece_of_the_text() -> None:
    page = {"url": "https://a.example/", "title": "A", "start_index": 3, "end_index": 8}
    message = {"annotations": [{"type": "url_citation", "url_citation": page}, {"type": "file_citation"}]}
    body, dropped = answered(RESPONSES, CHAT, of_chat(message))
    assert body["output"][0]["content"][0]["annotations"] == [{"type": "url_citation", **page}]
    assert dropped == ("message.annotations.file_citation",)


@pytest.mark.parametrize("end", [3, 2, -1, None, "8", 10**30])
def test_a_piece_that_is_none_is_the_whole_text_or_ends_with_it(end: object) -> None:
    page = {"url": "https://a.example/", "title": "A", "start_index": 3, "end_index": end}
    body, _ = answered(RESPONSES, CHAT, of_chat({"annotations": [{"type": "url_citation", "url_citation": page}]}))
    (found,) = body["output"][0]["content"][0]["annotations"]
    assert (found["start_index"], found["end_index"]) == ((3, 9) if end == 10**30 else (0, 9))


# What providers do themselves.


@pytest.mark.parametrize("caller", [CHAT, RESPONSES], ids=lambda dialect: dialect.name)
def test_the_work_of_tools_that_anthropic_runs_is_named(caller: Dialect) -> None:
    use: Json = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found: Json = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    _, dropped = answered(caller, MESSAGES, of_claude(use, found, TOLD, container={"id": "c"}))
    assert dropped == ("content.server_tool_use", "content.web_search_tool_result", "container")


def test_the_work_of_tools_that_openai_runs_is_named() -> None:
    call = {"type": "web_search_call", "id": "w", "status": "completed"}
    assert answered(MESSAGES, RESPONSES, of_responses(call))[1] == ("output.web_search_call",)


def test_sound_and_probabilities_are_named() -> None:
    answer = of_chat({"audio": {"id": "a"}}, logprobs={"content": []})
    assert answered(MESSAGES, CHAT, answer)[1] == ("logprobs", "message.audio")


def test_arguments_that_are_no_object_are_named_where_they_must_be_one() -> None:
    function = {"name": "f", "arguments": "{not json"}
    call = {"id": "a", "type": "function", "function": function}
    body, dropped = answered(MESSAGES, CHAT, of_chat({"tool_calls": [call]}))
    assert body["content"][1]["input"] == {"arguments": "{not json"}
    assert dropped == ("tool_calls.arguments(wrapped)",)
