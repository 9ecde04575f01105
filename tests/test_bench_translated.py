"""The bench of translation: the mock speaks each dialect as its readers understand it, and ratios are of one round."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import msgspec
import pytest

from bench import report, translated
from bench.translated import NATIVE, PAIRS, Outcome, Pair
from infermux.bench.callers import CHAT, MESSAGES, RESPONSES, Caller
from infermux.bench.figures import Spread
from infermux.bench.load import Load, local, run_load
from infermux.bench.machine import placement
from infermux.bench.rounds import Measurement
from infermux.bench.upstream import Pace, Upstream, upstream
from infermux.providers.dialects import anthropic_messages, openai_chat
from infermux.providers.dialects.bedrock_converse import BedrockConverse
from infermux.providers.dialects.dialect import Dialect
from infermux.providers.dialects.fold import fold
from infermux.providers.dialects.neutral import Text
from infermux.providers.translate import DIALECTS
from tests.bench import _made
from tests.bench._made import measured
from tests.providers.dialects._cases import read_stream

CPUS = placement().others
TOKENS = 8


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(Pace(tokens=TOKENS, interval_ms=1), cpus=CPUS, scratch=tmp_path) as running_mock:
        yield running_mock


def _ask(mock: Upstream, path: str, *, stream: bool) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", mock.port, timeout=5)) as connection:
        connection.request("POST", path, json.dumps({"stream": stream}))
        return connection.getresponse().read()


@pytest.mark.slow
@pytest.mark.needs("cc")
@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        (openai_chat.DIALECT, "/v1/chat/completions"),
        (anthropic_messages.DIALECT, "/v1/messages"),
        (BedrockConverse("m"), "/model/m/converse"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_mock_answers_and_streams_in_each_dialect(mock: Upstream, dialect: Dialect, path: str) -> None:
    (whole,) = dialect.read_answer(_ask(mock, path, stream=False)).parts
    assert isinstance(whole, Text)
    streamed = fold(read_stream(dialect, _ask(mock, path + ("-stream" * ("converse" in path)), stream=True)))
    (text,) = streamed.parts
    assert text == Text(text=" quick brown fox, jumps café.\n The")
    assert streamed.usage is None or streamed.usage.completion_tokens == TOKENS


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_stream_that_ends_in_another_dialect_is_incomplete(mock: Upstream, tmp_path: Path) -> None:
    right = Load(stream=True, caller=MESSAGES, connections=1, requests=1)
    wrong = attrs.evolve(right, caller=attrs.evolve(MESSAGES, last="[DONE]"))
    results = [run_load(load, local(mock.port), cpus=CPUS, scratch=tmp_path).result for load in (right, wrong)]
    assert [(result.good, result.errors["incomplete"]) for result in results] == [(1, 0), (0, 1)]


@pytest.mark.parametrize("caller", [CHAT, MESSAGES, RESPONSES], ids=lambda caller: caller.name)
def test_requests_are_those_of_their_api_and_as_long_as_asked(caller: Caller) -> None:
    body = caller.body(stream=True, prompt_bytes=1500)
    assert 1480 <= len(body) <= 1520
    dialect = next(dialect for endpoint, dialect in DIALECTS.items() if caller.path.endswith(endpoint.value))
    conversation = dialect.read_request(body)
    assert (conversation.stream, conversation.max_tokens, len(conversation.turns)) == (True, 50, 1)
    assert conversation.lost == ()


# What the figures say.


def _measured(name: str, cpu_us: float, *, failed: int = 0) -> Measurement:
    """A round of one hundred streams, of 50 tokens each, that cost `cpu_us` a token."""
    load = _made.result(good=100, failed=failed, events=100 * 53)
    return measured(name, load=load, cpu_us=cpu_us * 50)


def _outcome(passed: list[Measurement], other: list[Measurement], pair: Pair = PAIRS[1]) -> Outcome:
    scenario = translated.SCENARIOS["translated-16"]
    return Outcome(scenario=scenario, rounds={NATIVE["openai"]: passed, pair: other})


def test_ratios_are_of_the_same_round_and_of_tokens() -> None:
    passed, other = [_measured("p", 100), _measured("p", 50)], [_measured("t", 120), _measured("t", 80)]
    row = translated.rows(_outcome(passed, other))[1]
    assert row.cpu_us == Spread(median=100.0, low=80.0, high=120.0)
    assert row.ratio == Spread(median=1.4, low=1.2, high=1.6)


def test_a_pair_that_fails_shows_fail_and_no_figures() -> None:
    outcome = _outcome([_measured("p", 100)], [_measured("t", 77, failed=1)])
    assert translated.failed(outcome)
    text = translated.markdown(outcome)
    assert "| messages on openai | FAIL " in text
    assert "- messages on openai: FAIL, 1 of 101 requests failed" in text
    assert "77" not in text


def test_a_failed_baseline_gives_no_ratios() -> None:
    rows = translated.rows(_outcome([_measured("p", 100, failed=1)], [_measured("t", 120)]))
    assert [(row.cpu_us is None, row.ratio) for row in rows] == [(True, None), (False, None)]


def test_a_router_that_does_not_start_is_a_failure() -> None:
    outcome = Outcome(scenario=translated.SCENARIOS["translated-16"], rounds={}, missing="no port")
    assert translated.failed(outcome)
    assert "FAIL: no port" in translated.markdown(outcome)


def test_outcomes_can_be_written_as_json() -> None:
    data = translated.as_data(_outcome([_measured("p", 100)], [_measured("t", 120)]))
    assert len(json.loads(msgspec.json.encode(data))["rounds"]) == 2


def test_two_checkouts_are_compared_round_by_round() -> None:
    costs = (("infermux", 100.0), ("before", 80.0), ("infermux", 50.0), ("before", 50.0))
    outcome = _made.outcome(*(_measured(name, cost) for name, cost in costs), scenario="stream-16")
    assert report.against_before(outcome) == Spread(median=1.125, low=1.0, high=1.25)
    assert "infermux: 1.125 (1.000-1.250) times the CPU of before" in report.markdown(outcome)
    alone = attrs.evolve(outcome, measurements=outcome.measurements[:1])
    assert report.against_before(alone) is None
