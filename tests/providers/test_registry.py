"""From a declaration to an adapter: built in, by plugin, or with a reason why not."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import Any

import pytest

from infermux.config.settings import ProviderSettings
from infermux.providers import registry
from infermux.providers.interface import Adapter, Endpoint
from infermux.providers.registry import ThinkingStores, TypeNotAvailable, known_types, make_adapter
from infermux.providers.simulated import Simulated
from infermux.providers.translate import DIALECTS
from infermux.providers.translated import Translating
from infermux.secret import Secret


def torn(settings: ProviderSettings) -> Simulated:
    """A plugin's factory that fails, and says too much."""
    raise RuntimeError(f"no use for {settings.api_key.reveal() if settings.api_key else 'nothing'}")


def settings(type_: str, **more: Any) -> ProviderSettings:
    return ProviderSettings(name="p", type=type_, **more)


def made(type_: str, **more: Any) -> Adapter:
    """The adapter itself, without what translates for it."""
    adapter = make_adapter(settings(type_, **more), environ={})
    return adapter.adapter if isinstance(adapter, Translating) else adapter


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    points = importlib.metadata.EntryPoints(
        importlib.metadata.EntryPoint(name, value, registry.ENTRY_POINTS)
        for name, value in (
            ("mine", "infermux.providers.simulated:Simulated"),
            ("gone", "no_such_module_here:factory"),
            ("torn", "tests.providers.test_registry:torn"),
        )
    )
    monkeypatch.setattr(registry, "_plugins", lambda: points)


def test_a_simulated_provider_is_made() -> None:
    assert isinstance(made("simulated"), Simulated)


@pytest.mark.parametrize("type_", ["openai", "anthropic", "ollama", "simulated"])
def test_every_type_serves_callers_of_every_conversation(type_: str) -> None:
    served = make_adapter(settings(type_), environ={}).endpoints
    assert served >= {Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.COUNT_TOKENS, *DIALECTS}


@pytest.mark.parametrize("type_", ["openai", "azure_openai", "anthropic", "ollama", "simulated"])
def test_what_a_type_does_not_speak_is_left_to_translation(type_: str) -> None:
    spoken = made(type_, base_url="http://a", azure_api_version="v1").endpoints & {*DIALECTS, Endpoint.COUNT_TOKENS}
    assert spoken == {
        "openai": {Endpoint.CHAT, Endpoint.RESPONSES},
        "anthropic": {Endpoint.MESSAGES, Endpoint.COUNT_TOKENS},
    }.get(type_, {Endpoint.CHAT})


def test_providers_of_one_api_share_the_thinking_they_keep() -> None:
    kept: ThinkingStores = {}
    for base_url in ("http://a", "http://a", "http://b"):
        make_adapter(settings("anthropic", base_url=base_url), environ={}, kept=kept)
    assert list(kept) == [("anthropic", "http://a"), ("anthropic", "http://b")]


def test_anthropic_and_bedrock_share_what_claudes_have_signed() -> None:
    kept: ThinkingStores = {}
    for declared in (
        settings("anthropic"),
        settings("anthropic", base_url="https://api.anthropic.com/v1"),
        settings("bedrock", region="eu-west-1", api_key=Secret("k-1234")),
    ):
        make_adapter(declared, environ={}, kept=kept)
    assert len(kept) == 1
    for base_url in ("https://anthropic.com.example", "https://notanthropic.com"):
        make_adapter(settings("anthropic", base_url=base_url), environ={}, kept=kept)
    assert len(kept) == 3


def test_settings_that_no_adapter_can_be_made_of_are_refused() -> None:
    with pytest.raises(TypeNotAvailable, match="needs a `command`") as caught:
        make_adapter(settings("process"), environ={})
    assert caught.value.type == "process"


@pytest.mark.usefixtures("plugins")
def test_a_plugin_registers_its_type() -> None:
    assert {"mine", "openai", "simulated"} <= known_types()
    assert isinstance(made("mine"), Simulated)


@pytest.mark.usefixtures("plugins")
def test_a_plugin_that_cannot_be_loaded_says_why() -> None:
    with pytest.raises(TypeNotAvailable, match="no_such_module_here") as caught:
        make_adapter(settings("gone"), environ={})
    assert "cannot be loaded" in caught.value.reason


@pytest.mark.usefixtures("plugins")
def test_a_plugin_that_fails_is_one_provider_less() -> None:
    declared = ProviderSettings(name="p", type="torn", api_key=Secret("sk-canary"))
    with pytest.raises(TypeNotAvailable, match=r"failed: RuntimeError: no use for \*\*\*"):
        make_adapter(declared, environ={})


def test_settings_that_cannot_be_used_are_one_provider_less() -> None:
    with pytest.raises(TypeNotAvailable, match="needs base_url"):
        make_adapter(settings("azure_openai"), environ={})


def test_an_unknown_type_names_the_known_ones() -> None:
    with pytest.raises(TypeNotAvailable, match=r"unknown provider type 'opneai'.*azure_openai.*simulated"):
        make_adapter(settings("opneai"), environ={})


def test_adapters_are_imported_only_when_needed() -> None:
    script = "import infermux.providers.registry, sys; print(*(n for n in sys.modules if 'providers.' in n))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) <= {"infermux.providers.registry", "infermux.providers.interface"}
