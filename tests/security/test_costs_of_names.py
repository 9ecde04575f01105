"""Names that callers choose, in numbers: keys of JSON, headers, queries. Four times as many cost about four times."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx
import pytest

from tests.security._siege import LONG, Siege, besieged

pytestmark = pytest.mark.slow

TIMES: Final = 4
LINEAR: Final = 2.5 * TIMES  # 4 is linear, 16 would be the square; the rest is the noise of a busy machine
NAMES: Final = 40_000 if LONG else 12_000

Ask = tuple[str, str, dict[str, Any]]


def _keys(count: int) -> Ask:
    return _post({**_BODY, **{f"key-{number}": 1 for number in range(count)}})


def _same_key(count: int) -> Ask:
    text = json.dumps(_BODY)[:-1] + ', "key": 1' * count + "}"
    return "POST", "/v1/chat/completions", {"content": text, "headers": {"content-type": "application/json"}}


def _inner_keys(count: int) -> Ask:
    return _post({**_BODY, "metadata": {f"key-{number}": "x" for number in range(count)}})


def _translated_keys(count: int) -> Ask:
    schema = {"type": "object", "properties": {f"key-{number}": {"type": "string"} for number in range(count // 4)}}
    tool = {"name": "f", "input_schema": schema}
    body = {"model": "gpt-4o", "max_tokens": 5, "messages": _BODY["messages"], "tools": [tool]}
    return "POST", "/v1/messages", {"json": body}


def _headers(count: int) -> Ask:
    """As many as a head of 32 KiB has room for."""
    return "GET", "/v1/models", {"headers": {f"x-{number}": "1" for number in range(count // 12)}}


def _query(count: int) -> Ask:
    """As much as a head of 32 KiB has room for."""
    return "GET", "/_infermux/requests?" + "&".join(f"q{number}=1" for number in range(count // 12)), {}


def _post(body: dict[str, Any]) -> Ask:
    return "POST", "/v1/chat/completions", {"json": body}


_BODY: Final[dict[str, Any]] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.long
async def test_names_cost_in_proportion_to_their_number() -> None:
    async with besieged() as siege:
        for made in (_keys, _same_key, _inner_keys, _translated_keys, _headers, _query):
            few, many = made(NAMES // TIMES), made(NAMES)
            await _cost(siege, few)
            less, more = await _cost(siege, few), await _cost(siege, many)
            assert more <= LINEAR * less + 0.02, (made.__name__, less, more)


async def _cost(siege: Siege, ask: Ask, *, rounds: int = 3) -> float:
    """Seconds on the CPU of the cheapest of some rounds."""
    found = list[float]()
    method, path, more = ask
    for _ in range(rounds):
        before = siege.cpu()
        answer: httpx.Response = await siege.web.request(method, path, **more)
        assert answer.status_code < 500, answer.text[:300]
        found.append(siege.cpu() - before)
    return min(found)
