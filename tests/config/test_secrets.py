"""Nothing that came from outside the file, and nothing that is a credential, is ever shown."""

from __future__ import annotations

import json

import pytest

from infermux.config import load_text, load_text_checked, redacted
from infermux.errors import ConfigError

CANARY = "c4n4ry-do-not-show"
ENVIRON = {"CANARY": CANARY, "BREAK": f"{CANARY}\n{CANARY}", "URL": f"http://u:{CANARY}@h/"}

# One line each, put where it stands into a provider; every one is refused.
LEAKS = [
    "timeout: ${CANARY}",
    "weight: ${CANARY}",
    'weight: "1${CANARY}"',
    "http2: ${CANARY}",
    "base_url: ${URL}",
    "base_url: http://u:c4n4ry-do-not-show-${CANARY}@h",
    "api_key: ${BREAK}",
    f"api_key: {CANARY} {CANARY}",
    f"api_key: [{CANARY}]",
    f"api_key: {{value: {CANARY}}}",
    f"api_keys: [a, {CANARY} {CANARY}]",
    f"api_keys: {CANARY}",
    f"api_key: !{CANARY} x",
    f"api_key: *{CANARY}",
    f"api_key: '${{{CANARY} x}}'",
    f"api_key: ${{NOT_SET}}-{CANARY}",
    "headers: {X-Key: '${BREAK}'}",
    f'headers: {{X-Key: "{CANARY}\\r\\n"}}',
    f"headers: {{X-Key: [{CANARY}]}}",
    f'proxy: "socks5://u:{CANARY}@h"',
    "health_check: {method: '${CANARY}'}",
    "rate_limits: {requests_per_minute: '${CANARY}'}",
    "extra_body: {a: !x '${CANARY}'}",
    "models: ['${EMPTY:-}', '${CANARY}']",
    "model_aliases: {'${CANARY}': ''}",
    f"base_url: http://h/v1?api_key={CANARY}",
    f"tls: {{ca_file:{CANARY}}}",
    f"headers: {{Authorization:Bearer-{CANARY}}}",
    f"headers: {{'Authorization: Bearer {CANARY}': }}",
    f"headers: {{'Authorization: Bearer {CANARY}': [x]}}",
]


@pytest.mark.parametrize("line", LEAKS)
def test_no_problem_shows_a_secret(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"providers:\n  - name: a\n    type: ollama\n    {line}\n", environ=ENVIRON)
    for shown in (str(caught.value), repr(caught.value), *map(repr, caught.value.problems)):
        assert CANARY not in shown


def test_a_key_without_a_space_after_its_colon_is_named_without_its_value() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"providers: [{{name: a, type: openai, api_key:{CANARY}, wait:{CANARY}}}]")
    first, second = caught.value.problems
    assert (first.path, first.message) == ("providers[0].api_key", "needs a space after its colon")
    assert second.path == 'providers[0]["wait:..."]'
    assert second.message.startswith("unknown key; known here: name, type")
    assert CANARY not in str(caught.value)


REFERRING = [
    "routing: {default_model: '${CANARY}'}",
    "routing: {groups: [{name: '${CANARY}', models: [a]}, {name: '${CANARY}', models: [b]}]}",
    "routing: {groups: [{name: g, models: ['${CANARY}'], providers: ['${CANARY}']}]}",
    "routing: {groups: [{name: g, models: ['${CANARY}'], providers: [b-]}]}",
    "routing: {strategy: '${CANARY}'}",
    "listen: ${CANARY}",
    "auth: {mode: static_key, key: '${BREAK}'}",
    f"auth: {{mode: static_key, key: '{CANARY} x'}}",
    "auth: {mode: '${CANARY}'}",
    "workers: '${CANARY}'",
    "budgets: ['${CANARY}']",
    "ledger: {url: '${CANARY}'}",
    "providers_file: ${CANARY}",
    f"zz: {CANARY}",
]


@pytest.mark.parametrize("line", REFERRING)
def test_no_check_of_names_shows_a_secret(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(
            f"providers:\n  - {{name: b, type: ollama, models: ['${{CANARY}}-m', b-m]}}\n{line}\n", environ=ENVIRON
        )
    assert CANARY not in str(caught.value)


def test_no_warning_shows_what_came_from_elsewhere() -> None:
    text = """\
providers:
  - {name: b, type: ollama, models: [m]}
routing:
  fallbacks: {m: ['${CANARY}'], '${CANARY}': [m], other: [m]}
  groups:
    - {name: '${CANARY}', models: ['*']}
    - {name: g, models: [m]}
pricing: {'${CANARY}': {m: {}}}
"""
    config, warnings = load_text_checked(text, environ=ENVIRON)
    assert len(warnings) >= 4
    assert CANARY in config.pricing
    assert CANARY not in "".join(map(str, warnings))


WITH_SECRETS = f"""\
auth: {{mode: static_key, key: '${{CANARY}}'}}
providers:
  - name: a
    type: anthropic
    api_key: '${{CANARY}}'
    headers: {{X-Extra: {CANARY}}}
    extra_body: {{user: {CANARY}, deep: {{a: [{CANARY}]}}}}
    proxy: http://u:{CANARY}@proxy:3128
    timeout: 30s
"""


def test_the_loaded_configuration_does_not_show_its_secrets() -> None:
    config = load_text(WITH_SECRETS, environ=ENVIRON)
    assert CANARY not in repr(config)
    assert CANARY not in str(config.providers[0])
    key = config.providers[0].api_key
    assert key is not None
    assert key.reveal() == CANARY


def test_the_redacted_configuration_is_json_and_keeps_everything_else() -> None:
    shown = redacted(load_text(WITH_SECRETS, environ=ENVIRON))
    assert CANARY not in json.dumps(shown)
    provider = shown["providers"][0]
    assert provider["api_key"] == provider["proxy"] == "***"
    assert provider["headers"] == {"X-Extra": "***"}
    assert provider["extra_body"] == {"user": "***", "deep": "***"}
    assert (provider["name"], provider["timeout"], provider["models"]) == ("a", 30.0, None)
    assert provider["health_check"]["method"] == "auto"
    assert shown["auth"] == {"mode": "static_key", "key": "***"}


def test_what_is_not_set_is_shown_as_such() -> None:
    shown = redacted(load_text("providers: [{name: a, type: ollama}]"))
    assert shown["auth"]["key"] is None
    assert shown["providers"][0]["api_key"] is None
    assert shown["providers"][0]["proxy"] is None
