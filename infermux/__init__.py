"""infermux: an LLM inference router whose every provider is a trio actor.

Embedded: `async with infermux.open_router("infermux.yml") as router`, then `await router.chat({...})`; see `Router`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Config", "ConfigError", "InfermuxError", "Router", "__version__", "load_config", "open_router"]

if TYPE_CHECKING:
    from .config import load as load_config
    from .config.settings import Config
    from .embedding import Router, open_router
    from .errors import ConfigError, InfermuxError

_HOMES = {
    "Config": ("infermux.config.settings", "Config"),
    "ConfigError": ("infermux.errors", "ConfigError"),
    "InfermuxError": ("infermux.errors", "InfermuxError"),
    "Router": ("infermux.embedding", "Router"),
    "load_config": ("infermux.config", "load"),
    "open_router": ("infermux.embedding", "open_router"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import infermux` alone costs nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home[0]), home[1])
    globals()[name] = value
    return value
