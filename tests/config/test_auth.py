"""`auth.mode`: what it lets in, what it lets go without, and what it is warned about."""

from __future__ import annotations

import pytest

from infermux.config import load_text, load_text_checked
from infermux.config.difference import Impact, difference
from infermux.config.settings import AuthMode
from infermux.errors import ConfigError

HOSTED = (
    "providers:\n  - {name: a, type: openai}\n  - {name: b, type: anthropic}\n"
    "  - {name: c, type: azure_openai, base_url: 'https://x.example', azure_api_version: v}\n"
)
OWN = "providers: [{name: a, type: openai, api_key: sk-1}]\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_text(text, environ={})
    return [problem.path for problem in refused.value.problems]


def test_with_passthrough_hosted_providers_need_no_key_and_borrow_the_callers() -> None:
    config = load_text("auth: {mode: passthrough}\n" + HOSTED, environ={})
    assert config.auth.mode is AuthMode.PASSTHROUGH
    assert [provider.borrows for provider in config.providers] == [True] * 3
    assert problems("auth: {mode: keys}\n" + HOSTED) == [f"providers[{i}].api_key" for i in range(3)]


@pytest.mark.parametrize(
    "provider",
    [
        "{name: a, type: openai, api_key: sk-1}",
        "{name: a, type: openai, api_keys: [sk-1, sk-2]}",
        "{name: a, type: openai, base_url: 'https://x.example/v1', headers: {X-Api-Token: t}}",
        "{name: a, type: bedrock, api_key: k}",
        "{name: a, type: ollama}",
        "{name: a, type: simulated}",
    ],
)
def test_nothing_is_lent_to_a_provider_with_a_credential_or_without_need_of_one(provider: str) -> None:
    config = load_text(f"auth: {{mode: passthrough}}\nproviders: [{provider}]\n", environ={})
    assert not config.providers[0].borrows


@pytest.mark.parametrize("mode", ["open", "keys", "{mode: static_key, key: k}"])
def test_nothing_is_lent_in_any_other_mode(mode: str) -> None:
    section = mode if mode.startswith("{") else f"{{mode: {mode}}}"
    config = load_text(
        f"auth: {section}\nproviders: [{{name: a, type: openai, base_url: 'http://x/v1'}}]\n", environ={}
    )
    assert not config.providers[0].borrows


def test_bedrock_cannot_borrow_and_that_is_said_at_the_start() -> None:
    text = "auth: {mode: passthrough}\nproviders: [{name: a, type: bedrock, region: eu-west-1}]\n"
    config, warnings = load_text_checked(text, environ={})
    assert config.providers[0].borrows
    assert [warning.path for warning in warnings] == ["providers[0].type"]
    assert "cannot be called with a caller's credential" in warnings[0].message


def test_keys_lift_the_rule_on_listen_and_passthrough_does_not() -> None:
    everywhere = "listen: ':8080'\n"
    load_text(everywhere + "auth: {mode: keys}\n" + OWN, environ={})
    load_text(everywhere + "auth: {mode: static_key, key: k}\n" + OWN, environ={})
    load_text(everywhere + "auth: {mode: passthrough}\n" + HOSTED, environ={})
    for mode in ("open", "passthrough"):
        text = f"{everywhere}auth: {{mode: {mode}}}\n{OWN}"
        assert problems(text) == ["listen"]
        with pytest.raises(ConfigError, match=f"while auth.mode is {mode} "):
            load_text(text, environ={})


@pytest.mark.parametrize("mode", ["open", "keys", "passthrough"])
def test_a_static_key_in_another_mode_is_warned_about(mode: str) -> None:
    _, warnings = load_text_checked(
        f"auth: {{mode: {mode}, key: k}}\nproviders: [{{name: a, type: ollama}}]\n",
        environ={"INFERMUX_MANAGEMENT_TOKEN": "t"},
    )
    assert [str(warning.path) for warning in warnings] == ["auth.key"]
    assert f"no effect with mode {mode}" in warnings[0].message


def test_a_reload_into_passthrough_begins_those_anew_that_borrow() -> None:
    text = "providers: [{name: a, type: openai, base_url: 'http://x/v1'}, {name: b, type: ollama}]\n"
    change = difference(load_text(text, environ={}), load_text("auth: {mode: passthrough}\n" + text, environ={}))
    assert [(each.name, each.impact) for each in change.changed] == [("a", Impact.RENEWED)]
    assert change.unchanged == ("b",)
