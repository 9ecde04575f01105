"""Requests from a trace, and by chance."""

from __future__ import annotations

import random

import msgspec
import pytest

from infermux.providers.simulated_request import compose, read_request
from infermux.simulation.traffic import Request, TraceError, poisson, read_trace


def test_a_trace_is_read_in_the_order_of_time() -> None:
    trace = b"""{"at": "1m30s", "model": "m", "stream": true, "completion_tokens": 7, "timeout": "20s"}

{"at": 2, "messages": [{"role": "user", "content": "hi"}], "completion_tokens": 9, "leaves_after": 0.5}
"""
    assert read_trace(trace, "t") == [
        Request(
            at=2.0, messages=({"role": "user", "content": "hi"},), completion_tokens=9, max_tokens=9, leaves_after=0.5
        ),
        Request(at=90.0, model="m", stream=True, completion_tokens=7, timeout=20.0),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"no!!", "t:2: JSON is malformed"),
        (b"[]", "t:2: Expected `object`, got `array`"),
        (b"{}", "t:2: Object missing required field `at`"),
        (b'{"at": 1, "modell": "m"}', "t:2: Object contains unknown field `modell`"),
        (b'{"at": "soon"}', "t:2: at must be seconds or a duration such as 1m30s, not 'soon'"),
        (b'{"at": -1}', "t:2: at must be seconds or a duration"),
        (b'{"at": 1, "timeout": "x"}', "t:2: timeout must be seconds"),
        (b'{"at": 1, "prompt_tokens": -1}', "t:2: prompt_tokens must be from 0 to 20000, not -1"),
        (b'{"at": 1, "max_tokens": 0}', "t:2: max_tokens must be 1 or more, not 0"),
        (b'{"at": 1, "stream": 1}', "t:2: Expected `bool`, got `int` - at `stream`"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_allowed(line: bytes, problem: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(b'{"at": 0}\n' + line, "t")
    assert str(caught.value).startswith(problem)
    assert str(caught.value).endswith(
        "; the keys are at, model, stream, prompt_tokens, max_tokens, completion_tokens,"
        " messages, timeout, leaves_after"
    )


def test_an_empty_trace_is_none() -> None:
    with pytest.raises(TraceError, match="t: there is no request in it"):
        read_trace(b"\n\n", "t")


def test_a_request_asks_for_its_sizes() -> None:
    request = read_request(Request(at=0, model="m", prompt_tokens=500, completion_tokens=123, max_tokens=50).body())
    assert (request.prompt_tokens, request.max_tokens, request.stream) == (500, 50, None)
    tokens, reason = compose(request, "p", 0)
    assert (len(tokens), reason) == (50, "length")
    free = read_request(Request(at=0, model="m", stream=True, completion_tokens=123).body())
    assert (len(compose(free, "p", 0)[0]), free.stream) == (123, True)


def test_chance_comes_at_its_rate_and_repeats_with_its_seed() -> None:
    def made(seed: int) -> list[Request]:
        return list(poisson(("a", "b"), rate=20, duration=100, rng=random.Random(seed)))

    requests = made(1)
    assert 1800 < len(requests) < 2200
    assert requests == made(1) != made(2)
    assert {request.model for request in requests} == {"a", "b"}
    assert requests == sorted(requests, key=lambda request: request.at)
    assert msgspec.json.decode(requests[0].body())["model"] in "ab"
