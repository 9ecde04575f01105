"""Provider types and strategies of plugins."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from infermux.config import load_text, types
from infermux.errors import ConfigError
from infermux.providers import registry

PLUGINS = EntryPoints(
    [
        EntryPoint(name="acme", value="acme:make", group="infermux.providers"),
        EntryPoint(name="other", value="acme:make", group="infermux.providers"),
        EntryPoint(name="cleverest", value="acme:make", group="infermux.strategies"),
    ]
)


@pytest.fixture
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> EntryPoints:
        return PLUGINS.select(group=group)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


@pytest.mark.usefixtures("_plugins")
def test_types_and_strategies_of_plugins_are_known() -> None:
    text = "routing: {strategy: cleverest}\nproviders:\n  - {name: a, type: acme}\n  - {name: b, type: other}\n"
    config = load_text(text, environ={})
    assert [provider.type for provider in config.providers] == ["acme", "other"]
    assert config.routing.strategy == "cleverest"


def test_without_the_plugin_they_are_not() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("routing: {strategy: cleverest}\nproviders: [{name: a, type: acme}]\n", environ={})
    assert [problem.path for problem in caught.value.problems] == ["routing.strategy", "providers[0].type"]


def test_the_built_in_names_are_those_of_the_registry() -> None:
    assert {*types.BUILT_IN_TYPES} <= registry.known_types()
