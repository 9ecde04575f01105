"""The difference of two configurations: what is named, what it does to a provider, and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.config import load_text
from infermux.config.difference import NEEDS_RESTART, SAME_UPSTREAM, Change, Impact, difference, effective
from infermux.config.settings import Config, ProviderSettings
from tests._properties import examples

CANARY = "c4n4ry-do-not-show"
BASE: dict[str, Any] = {"name": "one", "type": "openai", "api_key": "sk-1", "models": ["m"]}
OTHER: dict[str, Any] = {**BASE, "name": "two"}


def config(*providers: dict[str, Any], **more: Any) -> Config:
    return load_text(json.dumps({"providers": providers or [BASE], **more}))


def test_a_configuration_does_not_differ_from_itself() -> None:
    found = difference(config(BASE, OTHER), config(BASE, OTHER))
    assert not found
    assert found.unchanged == ("one", "two")
    assert list(found.lines()) == []


def test_providers_that_come_go_and_stay_are_told_apart_by_their_names() -> None:
    third = {**BASE, "name": "three"}
    found = difference(config(BASE, OTHER), config(third, {**OTHER, "weight": 2}))
    assert (found.added, found.removed, found.unchanged) == (("three",), ("one",), ())
    [changed] = found.changed
    assert (changed.name, changed.changes) == ("two", (Change(key="weight", old=1.0, new=2.0),))
    assert list(found.lines()) == [
        "+ provider three",
        "- provider one (what is in flight may finish)",
        "~ provider two (keeps its connections and its state)",
        "    weight: 1.0 -> 2.0",
    ]


def test_another_order_of_the_same_providers_is_a_difference_of_its_own() -> None:
    found = difference(config(BASE, OTHER), config(OTHER, BASE))
    assert found
    assert found.reordered
    assert found.unchanged == ("two", "one")


@pytest.mark.parametrize(
    ("more", "impact"),
    [
        ({"weight": 3}, Impact.KEPT),
        ({"rate_limits": {"requests_per_minute": 5}, "tags": ["eu"]}, Impact.KEPT),
        ({"health_check": {"interval": "5s"}, "circuit_breaker": {"consecutive_failures": 9}}, Impact.KEPT),
        ({"models": ["m", "n"]}, Impact.REWIRED),
        ({"timeouts": {"connect": "1s"}, "weight": 3}, Impact.REWIRED),
        ({"extra_body": {"a": 1}}, Impact.REWIRED),
        ({"api_key": "sk-2"}, Impact.RENEWED),
        ({"base_url": "https://other.example/v1", "weight": 3}, Impact.RENEWED),
        ({"headers": {"X-Org": "b"}}, Impact.RENEWED),
        ({"type": "anthropic"}, Impact.RENEWED),
    ],
)
def test_what_changed_says_what_becomes_of_a_providers_state(more: dict[str, Any], impact: Impact) -> None:
    [changed] = difference(config(), config({**BASE, **more})).changed
    assert changed.impact is impact


def test_the_keys_that_keep_the_state_are_keys_of_a_provider() -> None:
    assert {field.name for field in attrs.fields(ProviderSettings)} >= SAME_UPSTREAM


def test_another_database_needs_a_restart_and_its_password_is_not_shown() -> None:
    found = difference(config(), config(ledger={"url": f"postgresql://somebody:{CANARY}@host/ledger"}))
    assert list(found.lines()) == ["! ledger.url: changed (needs a restart)"]
    assert CANARY not in json.dumps(found.as_json())
    assert effective(config(), config(ledger={"url": None})).ledger == config().ledger


def test_what_is_bound_at_the_start_needs_a_restart_and_the_rest_does_not() -> None:
    old = config(log={"level": "info"})
    new = config(
        listen="127.0.0.1:9", management_listen="127.0.0.1:10", log={"level": "debug"}, retry={"max_attempts": 2}
    )
    found = difference(old, new)
    assert [change.key for change in found.needs_restart] == ["listen", "management_listen"]
    assert [change.key for change in found.settings] == ["log.level", "retry.max_attempts"]
    applied = effective(old, new)
    assert (applied.listen, applied.management_listen) == (old.listen, None)
    assert (applied.log.level, applied.retry.max_attempts) == ("debug", 2)
    assert difference(applied, new).needs_restart == found.needs_restart
    assert list(found.lines())[-2:] == [
        '! listen: "127.0.0.1:8080" -> "127.0.0.1:9" (needs a restart)',
        '! management_listen: (none) -> "127.0.0.1:10" (needs a restart)',
    ]


def test_a_certificate_may_be_exchanged_but_tls_is_not_turned_on_or_off() -> None:
    plain, secure = Config(), attrs.evolve(Config(), tls=attrs.evolve(Config().tls, cert_file="a", key_file="b"))
    other = attrs.evolve(secure, tls=attrs.evolve(secure.tls, cert_file="c"))
    assert [change.key for change in difference(plain, secure).needs_restart] == ["tls.cert_file", "tls.key_file"]
    assert effective(plain, secure) == plain
    assert effective(secure, plain) == secure
    assert effective(secure, other) == other
    assert not difference(secure, other).needs_restart


def test_groups_are_compared_by_name_and_mappings_key_by_key() -> None:
    groups = [{"name": "fast", "models": ["a*"]}, {"name": "slow", "models": ["b*"]}]
    old = config(
        routing={"groups": groups, "fallbacks": {"m": ["x"]}}, pricing={"one": {"m": {"input_per_million": 1}}}
    )
    new = config(
        routing={"groups": [groups[1], {**groups[0], "strategy": "random"}], "fallbacks": {"m": ["y"]}},
        pricing={"one": {"m": {"input_per_million": 2}}},
    )
    assert {str(change) for change in difference(old, new).settings} == {
        'routing.groups: ["fast", "slow"] -> ["slow", "fast"]',
        'routing.groups.fast.strategy: (none) -> "random"',
        'routing.fallbacks.m: ["x"] -> ["y"]',
        "pricing.one.m.input_per_million: 1.0 -> 2.0",
    }


@pytest.mark.parametrize(
    "more",
    [
        {"api_key": CANARY},
        {"api_key": None, "api_keys": ["sk-1", CANARY]},
        {"headers": {"X-Key": CANARY}},
        {"extra_body": {"user": {"token": CANARY}}},
        {"proxy": f"http://u:{CANARY}@127.0.0.1:9"},
    ],
)
def test_a_secret_is_shown_as_changed_and_never_itself(more: dict[str, Any]) -> None:
    one, other = config(), config({**BASE, **more})
    for found in (difference(one, other), difference(other, one)):
        [changed] = found.changed
        assert any(change.secret for change in changed.changes)
        assert "changed" in "\n".join(found.lines())
        for text in ("\n".join(found.lines()), json.dumps(found.as_json()), repr(found)):
            assert CANARY not in text
            assert "sk-1" not in text


def test_the_key_of_callers_is_a_secret_too() -> None:
    old = config(auth={"mode": "static_key", "key": "k-old"})
    found = difference(old, config(auth={"mode": "static_key", "key": "k-new"}))
    assert [str(change) for change in found.settings] == ["auth.key: changed"]
    assert "k-" not in json.dumps(found.as_json())


_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "weight": st.integers(1, 3),
        "models": st.sampled_from([["m"], ["m", "n"], None]),
        "api_key": st.sampled_from(["k1", "k2"]),
        "timeout": st.sampled_from(["1s", "2s"]),
    },
)
_CONFIGS = st.lists(
    st.tuples(st.sampled_from("abcd"), _BODIES), min_size=1, max_size=4, unique_by=lambda pair: pair[0]
).map(lambda pairs: config(*({**BASE, "name": name, **body} for name, body in pairs)))


@settings(max_examples=examples(60), deadline=None)
@given(old=_CONFIGS, new=_CONFIGS)
def test_it_is_empty_exactly_when_both_are_equal_and_counts_every_provider_once(old: Config, new: Config) -> None:
    found = difference(old, new)
    assert bool(found) == (old != new)
    named = [*found.added, *found.unchanged, *(provider.name for provider in found.changed)]
    assert sorted(named) == sorted(provider.name for provider in new.providers)
    back = difference(new, old)
    assert (set(back.added), set(back.removed)) == (set(found.removed), set(found.added))
    json.dumps(found.as_json())


def test_budgets_that_come_and_go_have_a_line_each() -> None:
    one = "providers: [{name: a, type: ollama}]\nbudgets: [{caller: x, limit_usd: 1, period: day}%s]\n"
    before = load_text(one % ", {limit_usd: 2, period: week}", environ={})
    after = load_text(one % ", {limit_usd: 3, period: week}", environ={})
    assert list(difference(before, after).lines()) == [
        "~ budgets:",
        '    - {"limit_usd": 2.0, "period": "week", "hard": true, "unpriced": "allow"}',
        '    + {"limit_usd": 3.0, "period": "week", "hard": true, "unpriced": "allow"}',
    ]


def test_the_guide_names_all_that_needs_a_restart() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    (said,) = (line for line in page.splitlines() if line.endswith("need a restart;"))
    assert {name for name in NEEDS_RESTART if f"`{name}`" not in said} == set()
