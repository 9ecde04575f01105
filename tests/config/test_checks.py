"""What must fit together, and what is only warned about."""

from __future__ import annotations

import attrs
import pytest

from infermux.config import load_text, load_text_checked
from infermux.config.checks import EXTRA_CHECKS, Served
from infermux.config.reading import Reading
from infermux.config.settings import Config, ProviderSettings
from infermux.errors import ConfigError

TWO = "providers:\n  - {name: a, type: ollama, models: [m, n]}\n  - {name: b, type: ollama, models: ['o:latest']}\n"
ANYTHING = "providers: [{name: a, type: ollama}]\n"


def warned(text: str, environ: dict[str, str] | None = None) -> list[str]:
    return [str(warning).partition(":")[2] for warning in load_text_checked(text, environ=environ or {})[1]]


def test_fallbacks_to_models_nobody_serves_are_warned_about() -> None:
    text = TWO + "routing:\n  fallbacks:\n    m: [n, gone]\n"
    assert warned(text) == ['6: routing.fallbacks.m[1]: no provider serves "gone"']


def test_an_open_ended_provider_serves_every_fallback() -> None:
    assert warned(ANYTHING + "routing: {fallbacks: {m: [anything]}}\n") == []


def test_fallbacks_that_lead_back_are_warned_about() -> None:
    text = TWO + "routing:\n  fallbacks:\n    m: [n]\n    n: [o]\n    o: [m]\n    'x': [x]\n"
    assert warned(text) == [
        '6: routing.fallbacks.m[0]: the fallbacks of "n" lead back here',
        '7: routing.fallbacks.n[0]: the fallbacks of "o" lead back here',
        '8: routing.fallbacks.o[0]: the fallbacks of "m" lead back here',
        '9: routing.fallbacks.x[0]: no provider serves "x"',
        "9: routing.fallbacks.x[0]: is the model itself: it is not tried twice",
    ]


def test_a_group_that_is_never_reached_is_warned_about() -> None:
    text = TWO + "routing:\n  groups:\n    - {name: all, models: ['*']}\n    - {name: some, models: [m, 'n*']}\n"
    assert warned(text) == ['7: routing.groups[1].models: is never reached: group "all" before it matches all of them']


def test_a_cache_without_a_group_and_a_group_without_a_cache_are_warned_about() -> None:
    group = "routing:\n  groups:\n    - {name: all, models: ['*'], cache: %s}\n"
    on = "cache: {enabled: true}\n"
    assert warned(ANYTHING + on) == ["2: cache.enabled: keeps nothing: no route group says `cache: true`"]
    assert warned(ANYTHING + group % "true") == [
        "4: routing.groups[0].cache: has no effect while cache.enabled is false"
    ]
    assert warned(ANYTHING + on + group % "true") == []
    assert warned(ANYTHING + group % "false") == []


def test_answers_are_not_shared_among_callers_that_only_a_provider_can_tell_apart() -> None:
    text = "providers: [{name: a, type: openai}]\nauth: {mode: passthrough}\ncache: {shared: true}\n"
    with pytest.raises(ConfigError, match=r"3: cache\.shared: cannot be true with auth\.mode: passthrough"):
        load_text(text, environ={})
    load_text(text.replace("passthrough", "open").replace("type: openai", "type: ollama"), environ={})


def test_a_group_that_is_partly_shadowed_is_fine() -> None:
    assert warned(TWO + "routing: {groups: [{name: a, models: ['m*']}, {name: b, models: [m, n]}]}\n") == []


def test_prices_of_unknown_providers_are_warned_about() -> None:
    assert warned(TWO + "pricing: {c: {m: {input_per_million: 1}}}\n") == [
        "4: pricing.c: no provider has that name; there are: a, b"
    ]


def test_settings_of_another_type_are_warned_about() -> None:
    text = "providers:\n  - name: a\n    type: ollama\n    azure_deployment: x\n"
    assert warned(text) == [
        "4: providers[0].azure_deployment: has no effect: it is for type azure_openai, this is ollama"
    ]


BEDROCK = "providers:\n  - name: a\n    type: bedrock\n"


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "eusc-de-east-1", "us-isob-east-1", "ap-southeast-7"])
def test_a_region_of_aws_is_one(region: str) -> None:
    assert warned(BEDROCK + f"    region: {region}\n") == []


@pytest.mark.parametrize("region", ["eu", "EU-WEST-1", "eu_west_1", "us-east-1.", "us-east-1 ", "-east-1"])
def test_what_is_no_region_of_aws_is_refused(region: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(BEDROCK + f"    region: {region!r}\n", environ={})
    assert [problem.line for problem in caught.value.problems] == [4]


def test_a_region_that_only_the_aws_profile_can_have_is_warned_about() -> None:
    assert warned(BEDROCK) == [
        "2: providers[0].region: is not set, nor is $AWS_REGION or $AWS_DEFAULT_REGION: "
        "only the AWS profile can have the region"
    ]
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        assert warned(BEDROCK, {name: "eu-west-1"}) == []
    assert warned(BEDROCK + "    base_url: https://bedrock.example\n    api_key: k\n") == []


def test_a_key_without_effect_is_warned_about() -> None:
    assert warned(ANYTHING + "auth: {key: k}\n") == [
        "2: auth.key: has no effect with mode open; set auth.mode: static_key to ask callers for it"
    ]


def test_management_for_strangers_without_a_token_is_warned_about() -> None:
    text = ANYTHING + "management_listen: ':9000'\n"
    assert "is not loopback: management needs $INFERMUX_MANAGEMENT_TOKEN" in warned(text)[0]
    assert warned(text, {"INFERMUX_MANAGEMENT_TOKEN": "t"}) == []
    assert warned(ANYTHING + "management_listen: '[::1]:9000'\n") == []


KEYED = "  - {name: a, type: anthropic, api_key: k}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"listen: ':80'\nproviders:\n{KEYED}",
        f"listen: '0.0.0.0:80'\nproviders:\n{KEYED}",
        f"listen: '[::]:80'\nproviders:\n{KEYED}",
        f"listen: 'example.org:80'\nproviders:\n{KEYED}",
        "listen: ':80'\nproviders:\n  - {name: a, type: ollama, headers: {Authorization: x}}\n",
        "listen: ':80'\nproviders:\n  - {name: a, type: ollama, headers: {X-Api-Key: x}}\n",
        f"listen: ':80'\nproviders:\n  - {{name: z, type: ollama, timeout: 0}}\n{KEYED}",
    ],
)
def test_credentials_are_not_lent_to_strangers(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a loopback address") as caught:
        load_text(text, environ={})
    for way_out in ("127.0.0.1:8080", "auth.mode: static_key", "credentials out of the providers"):
        assert way_out in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"listen: '127.0.0.1:80'\nproviders:\n{KEYED}",
        f"listen: 'localhost:80'\nproviders:\n{KEYED}",
        f"listen: ':80'\nauth: {{mode: static_key, key: k}}\nproviders:\n{KEYED}",
        "listen: ':80'\nproviders:\n  - {name: a, type: ollama, headers: {X-Team: x}}\n",
    ],
)
def test_credentials_behind_a_door_are_fine(text: str) -> None:
    load_text(text, environ={})


@pytest.mark.parametrize("model", ["m", "o", "o:latest", "m:latest", "a/m", "b/o", "a/n:latest"])
def test_a_model_is_served_by_name_by_tag_and_by_provider(model: str) -> None:
    assert load_text(TWO + f"routing: {{default_model: '{model}'}}\n", environ={}).routing.default_model == model


@pytest.mark.parametrize("model", ["x", "m:other", "b/m", "c/m", "a/", "/m"])
def test_a_default_that_nobody_serves_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="no provider serves"):
        load_text(TWO + f"routing: {{default_model: '{model}'}}\n", environ={})


def test_aliases_are_served_and_a_provider_with_aliases_only_stays_open_ended() -> None:
    listed = ProviderSettings(name="a", type="openai", models=("m",), model_aliases={"smart": "m"})
    assert "smart" in Served([listed])
    assert "other" not in Served([listed])
    assert "other" in Served([attrs.evolve(listed, models=None)])


def test_further_checks_run_when_nothing_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(config: Config, reading: Reading) -> None:
        reading.problem(("providers", 0, "name"), f"is not to my taste: {config.providers[0].type}")

    monkeypatch.setattr("infermux.config.checks.EXTRA_CHECKS", [*EXTRA_CHECKS, refuse])
    with pytest.raises(ConfigError, match=r"infermux\.yml:2: .*is not to my taste: ollama"):
        load_text(TWO, environ={})
    with pytest.raises(ConfigError) as caught:
        load_text(TWO + "bogus: 1\n", environ={})
    assert "taste" not in str(caught.value)
