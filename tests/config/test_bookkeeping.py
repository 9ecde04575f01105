"""The ledger, keys, prices and traces: what cannot work is refused, what will not work as expected is warned about."""

from __future__ import annotations

import pytest

from infermux.config import bookkeeping, load_text, load_text_checked
from infermux.errors import ConfigError

ONE = "providers: [{name: a, type: openai, base_url: 'http://localhost:1/v1', models: [m], model_aliases: {s: big}}]\n"
TOKEN = {"INFERMUX_MANAGEMENT_TOKEN": "t"}
KEYS = "auth: {mode: keys}\n"


def warned(text: str, environ: dict[str, str] | None = None) -> list[str]:
    return [str(warning).partition(":")[2] for warning in load_text_checked(ONE + text, environ=environ or {})[1]]


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(ONE + text, environ=TOKEN)
    return [str(problem).partition(":")[2] for problem in caught.value.problems]


def test_keys_need_a_database() -> None:
    assert refused(KEYS + "ledger: {url: null}\n") == [
        "3: ledger.url: is null, but with auth.mode: keys the keys are kept there: name a database"
    ]


def test_keys_in_memory_end_with_the_process() -> None:
    assert warned(KEYS + "ledger: {url: 'sqlite://'}\n", TOKEN) == [
        "3: ledger.url: is in memory: with auth.mode: keys all keys end with the process"
    ]


def test_keys_that_everybody_can_hand_out_are_warned_about() -> None:
    said = "every process of this machine can hand itself a key: management asks for no token"
    assert warned(KEYS) == [f"2: auth.mode: {said}; set $INFERMUX_MANAGEMENT_TOKEN"]
    assert warned(KEYS, TOKEN) == []
    assert warned(KEYS + "listen: '0.0.0.0:80'\n") == []  # there management has no door without a token


def test_an_empty_path_is_not_in_memory() -> None:
    [problem] = refused("ledger: {url: 'sqlite:///'}\n")
    assert problem.startswith("2: ledger.url: must ")


def test_a_price_of_a_model_the_provider_does_not_have_is_warned_about() -> None:
    assert warned("pricing: {a: {m: {}, big: {}, s: {}, n: {}}}\n") == [
        '2: pricing.a.s: has no effect: provider "a" has no such model: it is an alias of "big"',
        '2: pricing.a.n: has no effect: provider "a" has no such model; there are: m, big',
    ]


def test_two_prices_for_the_same_length_are_refused() -> None:
    text = "pricing: {a: {m: {above: [{prompt_tokens: 5}, {prompt_tokens: 9}, {prompt_tokens: 5}]}}}\n"
    assert refused(text) == ["2: pricing.a.m.above: has two prices for prompts of more than 5 tokens: leave one out"]


def test_a_soft_budget_refuses_nothing() -> None:
    text = "budgets: [{limit_usd: 1, period: day, hard: false, unpriced: refuse}]\n"
    assert warned(text) == ["2: budgets[0].unpriced: has no effect: a soft budget refuses nothing"]


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/traces/", "/otlp/v1/traces"])
def test_a_collector_is_named_by_its_base_url(path: str) -> None:
    assert refused(f"telemetry: {{otlp_endpoint: 'http://localhost:4318{path}'}}\n") == [
        "2: telemetry.otlp_endpoint: must be the collector's base URL, without /v1/traces, which is added to it"
    ]


def test_traces_without_their_packages_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "telemetry: {otlp_endpoint: 'http://localhost:4318'}\n"
    assert warned(text) == []

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(bookkeeping, "find_spec", missing)
    assert warned(text) == [
        "2: telemetry.otlp_endpoint: needs packages, or there are no traces: pip install 'infermux[otel]'"
    ]


def test_state_without_what_speaks_to_redis_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        """No package has this name."""

    monkeypatch.setattr(bookkeeping, "find_spec", nothing)
    assert refused("state: {url: 'redis://:secret@host'}\nledger: {url: null}\n") == [
        "2: state.url: needs a package: pip install 'infermux[redis]'"
    ]


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://user:word@h:1/3", "valkey://h:6379", "valkeys://[::1]/", "unix:///run/redis.sock?db=2"],
)
def test_a_url_of_redis_or_valkey_is_taken(url: str) -> None:
    taken = load_text(ONE + f"state: {{url: '{url}', prefix: mine}}\n", environ=TOKEN).state
    assert taken.url is not None
    assert (taken.url.reveal(), taken.prefix) == (url, "mine")
    assert "word" not in repr(taken)


def test_who_shares_limits_is_asked_how_many_they_are() -> None:
    [said] = warned("state: {url: 'redis://h'}\n")
    assert said.startswith("2: state.url: is shared, but state.nodes does not say by how many routers")
    assert warned("state: {url: 'redis://h', nodes: 1}\n") == []
    assert warned("state: {nodes: 3}\n") == []
