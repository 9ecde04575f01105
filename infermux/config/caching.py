"""What must hold of `cache` and of the groups it is for, beyond the kinds of their values."""

from __future__ import annotations

from .reading import Reading
from .settings import AuthMode, Config


def check_cache(config: Config, reading: Reading) -> None:
    """It takes the section and a group; and nobody is answered whose credential only a provider can judge."""
    if not reading.fine(("cache",)) or not reading.fine(("routing", "groups")):
        return
    groups = [index for index, group in enumerate(config.routing.groups) if group.cache]
    if config.cache.enabled and not groups:
        reading.warn(("cache", "enabled"), "keeps nothing: no route group says `cache: true`")
    if not config.cache.enabled:
        for index in groups:
            reading.warn(("routing", "groups", index, "cache"), "has no effect while cache.enabled is false")
    if config.cache.shared and config.auth.mode is AuthMode.PASSTHROUGH and reading.fine(("auth", "mode")):
        reading.problem(
            ("cache", "shared"),
            "cannot be true with auth.mode: passthrough, where only a provider can tell whether a credential is good: "
            "kept answers would go to anybody",
        )
