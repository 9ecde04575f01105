"""Scenarios are read like infermux.yml: all problems at once, each with its line and key, and what is allowed."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.bench.scenario import Faulty, Server
from infermux.bench.scenario_file import SCENARIO, SERVER, read, read_text, shipped
from infermux.errors import ConfigError


def problems(text: str | bytes, tmp_path: Path) -> list[str]:
    file = tmp_path / "mine.yml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        read(str(file))
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in raised.value.problems]


def test_a_scenario_says_only_what_is_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text(
        """
scenarios:
  quick: {}
  slow:
    title: slow streams
    stream: true
    callers: 500
    seconds: 1m
    prompt: 10KB
    body: {max_tokens: null, max_completion_tokens: 20}
    server: {interval: 500ms, providers: 3, faulty: {status: null}, config: {routing: {strategy: random}}}
"""
    )
    found = read(str(file))
    assert list(found) == ["quick", "slow"]
    assert (found["quick"].title, found["quick"].server, found["quick"].unit) == ("quick", Server(), "request")
    slow = found["slow"]
    assert (slow.callers, slow.seconds, slow.prompt, slow.unit, slow.name) == (500, 60.0, 10_000, "event", "slow")
    assert slow.server.faulty == Faulty(status=None)
    assert slow.server.config == {"routing": {"strategy": "random"}}
    assert slow.body == {"max_tokens": None, "max_completion_tokens": 20}


def test_every_problem_is_told_with_its_line_and_key(tmp_path: Path) -> None:
    found = problems(
        """\
scenarios:
  one:
    callers: 0
    rates: 5
    api: chats
  two:
    seconds: 2 days
    server: {providers: 2, faulty: {providers: 3, every: often}, limited: {providers: 3}}
  three: {stream: true, api: embeddings, rate: 5, stagger: 1s}
""",
        tmp_path,
    )
    assert found == [
        "mine.yml:3: scenarios.one.callers: must be a whole number from 1 to 20000, not 0",
        'mine.yml:4: scenarios.one.rates: unknown key; did you mean "rate"?',
        'mine.yml:5: scenarios.one.api: must be chat, messages, responses or embeddings, not "chats"; did you mean '
        '"chat"?',
        'mine.yml:7: scenarios.two.seconds: must be a duration from 100ms to 60m, such as 250ms or 3s, not "2 days"',
        'mine.yml:8: scenarios.two.server.faulty.every: must be a whole number from 1 to 1000000, not "often"',
        "mine.yml:8: scenarios.two.server.faulty.providers: must be at most 2, as there are no more",
        "mine.yml:8: scenarios.two.server.limited.providers: must be at most 2, as there are no more",
        "mine.yml:9: scenarios.three.stream: embeddings are not streamed; leave it out",
        "mine.yml:9: scenarios.three.stagger: belongs to a closed loop; leave it or `rate` out",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "mine.yml:1: scenarios: is required"),
        ("scenarios:", "mine.yml:1: scenarios: there is none; write at least one"),
        ("- a list", "(file): must be a mapping of keys, not a list"),
        ("scenarios: [one]", "scenarios: must be scenarios by name, not a list"),
        ("scenarios: {a b: {}}", "the key must be a name"),
        ("scenarios: {all: {}}", "scenarios.all: is what names all of them; call it something else"),
        ("scenarios: {one: {body: [1]}}", "scenarios.one.body: must be a mapping of keys"),
        ("scenarios: {one: {server: {config: text}}}", "scenarios.one.server.config: must be a mapping of keys"),
        ("scenarios: {one: {}, one: {}}", "twice"),
        ("scenarios: {one: {prompt: 1GiB}}", "must be a size of at most 64MiB"),
        ('scenarios: {one: {title: "${NOBODY_SET_THIS}"}}', "scenarios.one.title"),
        ("scenarios: {one: *gone}", "is not valid YAML"),
        (b"scenarios: \xff", "is not UTF-8 text"),
        (b"\x00", "control character"),
    ],
)
def test_garbage_is_refused_with_the_file_and_what_is_allowed(
    text: str | bytes, complaint: str, tmp_path: Path
) -> None:
    found = problems(text, tmp_path)
    assert all(problem.startswith("mine.yml:") for problem in found)
    assert any(complaint in problem for problem in found), found


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read(str(tmp_path / "gone.yml"))
    assert "cannot be read: No such file" in str(raised.value.problems[0])


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_no_text_is_more_than_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert read_text(f"scenarios: {{one: {text}}}", source="any.yml")


def test_what_comes_with_infermux_covers_what_people_ask_for() -> None:
    found = shipped()
    assert {each.api for each in found.values()} == {"chat", "messages", "responses", "embeddings"}
    assert {each.callers for each in found.values() if each.stream} >= {100, 1000, 5000}
    assert {each.prompt for each in found.values()} >= {10_000, 100_000, 1_000_000}
    assert {each.server.providers for each in found.values()} >= {1, 10, 100, 1000}
    assert any(each.rate for each in found.values())
    assert any(each.tools for each in found.values())
    assert any(each.server.faulty for each in found.values())
    assert any(each.server.limited for each in found.values())


def test_as_json_is_valid_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"scenarios": {"one": {"rate": 2.5, "requests": 10}}}')
    assert (read(str(file))["one"].rate, read(str(file))["one"].requests) == (2.5, 10)


def test_the_page_for_users_names_every_key_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarking.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for key in (*SCENARIO.by_name, *(f"server.{name}" for name in SERVER.by_name)):
        assert any(re.search(rf"`{re.escape(key)}[`.]", row.split("|")[1]) for row in rows), key
