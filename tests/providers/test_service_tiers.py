"""The tier that a provider says it has served a request in, which has its own price."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from infermux.providers.anthropic_bodies import read_message
from infermux.providers.interface import ORDINARY_TIERS, Usage
from infermux.providers.openai_bodies import read_completion
from infermux.providers.responses_stream import read_response

CHAT: Any = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
RESPONSE: Any = {"output": [], "usage": {"input_tokens": 1, "output_tokens": 2}}
MESSAGE: Any = {"type": "message", "content": [], "stop_reason": "end_turn"}


def body(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_openai_names_it_beside_the_usage(tier: str) -> None:
    chat = read_completion(body(**CHAT, service_tier=tier), status=200)
    response = read_response(body(**RESPONSE, service_tier=tier), status=200)
    assert chat == response == Usage(1, 2, service_tier=tier)


def test_anthropic_names_it_in_the_usage() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "service_tier": "batch"}
    assert read_message(body(**MESSAGE, usage=usage), status=200) == Usage(1, 2, service_tier="batch")


@pytest.mark.parametrize("tier", [None, 7, {}, [], *sorted(ORDINARY_TIERS)])
def test_the_ordinary_tier_has_no_name_and_nonsense_is_none(tier: object) -> None:
    assert read_completion(body(**CHAT, service_tier=tier), status=200) == Usage(1, 2)
    usage = {"input_tokens": 1, "output_tokens": 2, "service_tier": tier}
    assert read_message(body(**MESSAGE, usage=usage), status=200) == Usage(1, 2)


def test_tokens_written_to_a_cache_are_read_from_chat_too() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cache_write_tokens": 4}}
    assert read_completion(body(choices=[], usage=usage), status=200) == Usage(9, 2, cache_write_tokens=4)
