"""What a provider cannot take is refused by its place in the request that the caller wrote."""

from __future__ import annotations

import json

import pytest

from infermux.errors import InvalidRequest
from infermux.providers.dialects import bedrock_converse, openai_responses
from infermux.providers.dialects.dialect import Dialect, Target
from infermux.providers.translate import translate
from tests.providers.dialects._cases import CHAT, MESSAGES, Json, chat, messages

RESPONSES = openai_responses.DIALECT
URL = "https://example.org/a.png"
TEXT: Json = {"type": "text", "text": "t"}
CHAT_IMAGE: Json = {"type": "image_url", "image_url": {"url": URL}}
BLOCK: Json = {"type": "image", "source": {"type": "url", "url": URL}}
PAPER: Json = {"type": "document", "source": {"type": "url", "url": URL}}
FILE: Json = {"type": "file", "file": {"file_data": "data:application/zip;base64,QUJD"}}
CALL: Json = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USE: Json = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
INPUT_TEXT: Json = {"type": "input_text", "text": "t"}
INPUT_IMAGE: Json = {"type": "input_image", "image_url": URL}


def user(*content: Json) -> Json:
    return {"role": "user", "content": list(content)}


@pytest.mark.parametrize(
    ("caller", "request_", "place"),
    [
        (CHAT, chat({"role": "system", "content": "s"}, user(TEXT), user(TEXT, CHAT_IMAGE)), "messages[2].content[1]"),
        (CHAT, chat(user(FILE)), "messages[0].content[0]"),
        (
            CHAT,
            chat(
                user(TEXT),
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "a", "content": [TEXT, CHAT_IMAGE]},
            ),
            "messages[2].content[1]",
        ),
        (MESSAGES, messages(user(TEXT), user(TEXT, BLOCK)), "messages[1].content[1]"),
        (MESSAGES, messages(user(PAPER)), "messages[0].content[0]"),
        (
            MESSAGES,
            messages(
                user(TEXT),
                {"role": "assistant", "content": [USE]},
                user({"type": "tool_result", "tool_use_id": "a", "content": [TEXT, BLOCK]}),
            ),
            "messages[2].content[0].content[1]",
        ),
        (RESPONSES, {"model": "m", "input": [user(INPUT_TEXT, INPUT_IMAGE)]}, "input[0].content[1]"),
        (RESPONSES, {"model": "m", "input": [user({"type": "input_file", "file_url": URL})]}, "input[0].content[0]"),
    ],
)  # fmt: skip
def test_a_part_that_bedrock_cannot_take_is_named_by_its_path(caller: Dialect, request_: Json, place: str) -> None:
    body = json.dumps(request_).encode()
    with pytest.raises(InvalidRequest) as caught:
        translate(body, caller=caller, provider=bedrock_converse.DIALECT, target=Target(model="amazon.nova-lite-v1:0"))
    assert caught.value.param == place
    assert str(caught.value).startswith(f"{place}: Bedrock cannot take ")
