"""From a provider's declaration to its adapter.

Built-in types are imported when the first provider of that type is made. Further types come from the entry-point group
`infermux.providers`: the name is the type, the value a factory `(ProviderSettings) -> Adapter`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infermux.config.settings import ProviderSettings

from .interface import Adapter

if TYPE_CHECKING:
    from .dialects.kept_thinking import ThinkingStore

ENTRY_POINTS = "infermux.providers"

AdapterFactory = Callable[[ProviderSettings], Adapter]

ThinkingStores = dict[tuple[str, str | None], "ThinkingStore"]
"""By who signed it: what one API has signed it takes back, whichever of its providers is asked next. See `signer`."""

# type -> module of this package with `make(settings, *, environ) -> Adapter`
_BUILT_IN = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure_openai": "azure_openai",
    "ollama": "ollama",
    "bedrock": "bedrock",
    "process": "process.adapter",
    "simulated": "simulated",
}
_KEEP_THINKING = frozenset({"bedrock", "process"})
"""Types whose adapters may translate by themselves, and then keep what has to be kept for that."""


class TypeNotAvailable(Exception):
    """No adapter can be made for a provider's type. `reason` is one sentence for the operator."""

    def __init__(self, type_: str, reason: str) -> None:
        super().__init__(reason)
        self.type = type_
        self.reason = reason


def known_types() -> frozenset[str]:
    """Every type name a configuration may use: built in, of a later version, and registered by plugins."""
    return frozenset(_BUILT_IN) | frozenset(_plugins().names)


def make_adapter(
    settings: ProviderSettings, *, environ: Mapping[str, str], kept: ThinkingStores | None = None
) -> Adapter:
    """The adapter of one provider, which serves callers of every dialect it can be translated to.

    `environ` is where proxy variables are looked up; `kept` holds the thinking that adapters share.

    Raises `TypeNotAvailable` when the type is unknown, its plugin cannot be loaded, or the settings
    are not such that an adapter can be made (a proxy in the environment that is no URL). Makes no connection.
    """
    from .dialects.kept_thinking import ThinkingStore  # only here: reading a configuration needs no dialects
    from .translated import translating

    store = ({} if kept is None else kept).setdefault(signer(settings), ThinkingStore())
    adapter = _built_in(settings, environ, store) if settings.type in _BUILT_IN else _made_by_plugin(settings)
    return translating(adapter, settings, store)


def signer(settings: ProviderSettings) -> tuple[str, str | None]:
    """Who signs the thinking of a provider's models.

    Anthropic's own API and Bedrock take each other's signatures of a Claude: "values generated on one platform will be
    compatible with another" (https://platform.claude.com/docs/en/build-with-claude/extended-thinking). An API that only
    speaks like Anthropic's, at an address of its own, may have any models behind it.
    """
    host = urlsplit(settings.base_url or "").hostname or ""
    hosted = settings.type == "anthropic" and (not settings.base_url or host.endswith(".anthropic.com"))
    if hosted or settings.type == "bedrock":
        return "claude", None
    return settings.type, settings.base_url


def _built_in(settings: ProviderSettings, environ: Mapping[str, str], store: ThinkingStore) -> Adapter:
    module = importlib.import_module(f".{_BUILT_IN[settings.type]}", __package__)
    more = {"kept": store} if settings.type in _KEEP_THINKING else {}
    try:
        adapter: Adapter = module.make(settings, environ=environ, **more)
    except ValueError as error:
        raise TypeNotAvailable(settings.type, f"these settings cannot be used: {error}") from error
    return adapter


def _made_by_plugin(settings: ProviderSettings) -> Adapter:
    factory = _load_plugin(settings.type)
    try:
        return factory(settings)
    except Exception as error:  # its text may hold the key it was given
        from .classify import mask, secrets_of  # only here: most processes never need it before the first provider

        secrets = secrets_of(settings.keys, settings.headers)
        said = mask(f"{type(error).__name__}: {error}".encode(), secrets).decode()
        raise TypeNotAvailable(
            settings.type, f"the plugin for provider type {settings.type!r} failed: {said}"
        ) from None


def _load_plugin(type_: str) -> AdapterFactory:
    found = tuple(_plugins().select(name=type_))
    if not found:
        raise TypeNotAvailable(
            type_, f"unknown provider type {type_!r}; known types: {', '.join(sorted(known_types()))}"
        )
    try:
        factory: AdapterFactory = found[0].load()
    except Exception as error:  # a plugin may fail in any way at import: its provider is not routable, the others are
        raise TypeNotAvailable(
            type_, f"the plugin for provider type {type_!r} ({found[0].value}) cannot be loaded: {error}"
        ) from error
    return factory


def _plugins() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=ENTRY_POINTS)
