"""Embeddings of a simulated provider, and what it serves by translation."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest
from trio.testing import MockClock

from infermux.config.settings import ProviderSettings, Simulate
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint, Usage
from infermux.providers.simulated import make
from infermux.providers.simulated_embeddings import DIMENSIONS, vector
from infermux.providers.translated import translating


async def ask(endpoint: Endpoint = Endpoint.EMBEDDINGS, *, script: tuple[Any, ...] = (), **fields: Any) -> Answer:
    body = json.dumps({"model": "m", **fields}).encode()
    declared = ProviderSettings(name="p", type="simulated", simulate=Simulate(script=script))
    provider = make(declared, environ={})
    answer = await translating(provider, declared).send(
        Call(endpoint=endpoint, body=body, model="m", requested_model="m")
    )
    assert isinstance(answer, Answer)
    assert provider.statistics().in_flight == 0
    return answer


async def test_the_same_text_has_the_same_vector_of_length_one(autojump_clock: MockClock) -> None:
    first, again, other = json.loads((await ask(input=["one two", "one two", "three"])).body)["data"]
    assert first["embedding"] == again["embedding"] != other["embedding"]
    assert len(first["embedding"]) == DIMENSIONS
    assert math.fsum(value * value for value in first["embedding"]) == pytest.approx(1)


def test_texts_that_share_words_are_alike() -> None:
    def likeness(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(vector(one, 64), vector(other, 64), strict=True))

    assert likeness("the red house", "the red barn") > likeness("the red house", "quick brown fox") + 0.2


async def test_base64_is_the_same_vector_packed(autojump_clock: MockClock) -> None:
    packed = json.loads((await ask(input="one", encoding_format="base64", dimensions=5)).body)["data"][0]["embedding"]
    assert list(struct.unpack("<5f", base64.b64decode(packed))) == vector("one", 5)


async def test_tokens_are_one_item_or_many(autojump_clock: MockClock) -> None:
    assert (await ask(input=[1, 2, 3])).usage == Usage(prompt_tokens=3)
    answer = await ask(input=[[1, 2], [3]])
    assert (len(json.loads(answer.body)["data"]), answer.usage) == (2, Usage(prompt_tokens=3))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": 7}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_what_the_api_refuses_is_refused_by_name(
    fields: dict[str, Any], param: str, autojump_clock: MockClock
) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        await ask(**fields)
    assert (caught.value.kind, caught.value.status) == (FailureKind.CALLER, 400)
    assert json.loads(caught.value.body or b"")["error"]["param"] == param


async def test_the_script_holds_for_embeddings_too(autojump_clock: MockClock) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        await ask(script=({"status": 500},), input="a")
    assert caught.value.status == 500


async def test_messages_are_translated(autojump_clock: MockClock) -> None:
    answer = await ask(Endpoint.MESSAGES, max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    told = json.loads(answer.body)
    assert (told["type"], told["stop_reason"], told["usage"]["output_tokens"]) == ("message", "max_tokens", 5)


async def test_tokens_are_estimated(autojump_clock: MockClock) -> None:
    answer = await ask(Endpoint.COUNT_TOKENS, messages=[{"role": "user", "content": "hi"}])
    assert answer.estimated
    assert json.loads(answer.body)["input_tokens"] > 0
