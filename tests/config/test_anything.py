"""Whatever stands in the file, it is loaded, or refused with problems that each have a line of it."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.config import load_text_checked, reference
from infermux.config.schema import json_schema
from infermux.errors import ConfigError
from tests._properties import examples

SOME = (
    "listen: ':8080'\nlog: &l {level: info}\nproviders:\n  - &p\n    name: a\n    type: openai\n"
    "    api_key: '${K:-k}'\n    timeout: 1m30s\n    models: [m]\n  - {<<: *p, name: b}\n"
    "routing:\n  fallbacks: {m: [n]}\n"
    "  groups: [{name: g, models: ['*'], providers: [a]}]\n"
)
KEYS = sorted({key for _, key, _ in reference.keys(json_schema())})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["openai", "1s", "a", "${A}", "${A:-1}", "http://h", ":1", "auto", "open", "1MB"]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner),
    max_leaves=12,
)


def holds(text: str) -> None:
    try:
        _, problems = load_text_checked(text, source="f", environ={"A": "x"})
    except ConfigError as error:
        problems = error.problems
        assert problems
    lines = text.count("\n") + 2
    for problem in problems:
        assert 1 <= problem.line <= lines
        assert "\n" not in str(problem)


@given(
    st.integers(0, len(SOME)), st.integers(0, 12), st.text(alphabet="ab1:-{}[]&*!|>'\"$%@`,#? \n\t\x00é", max_size=6)
)
@settings(max_examples=examples(60), deadline=None)
def test_a_file_with_a_slip_in_it(place: int, length: int, slip: str) -> None:
    holds(SOME[:place] + slip + SOME[place + length :])


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
@settings(max_examples=examples(40), deadline=None)
def test_known_keys_with_values_of_any_kind(values: dict[str, Any]) -> None:
    holds(yaml.safe_dump(values, allow_unicode=True))


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
@settings(max_examples=examples(40), deadline=None)
def test_a_provider_with_values_of_any_kind(values: dict[str, Any]) -> None:
    holds(yaml.safe_dump({"providers": [{"name": "a", "type": "simulated", **values}]}))
