"""What is strange about a new key, though it may be meant: told to whoever makes it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from .config.settings import Config
from .config.workers import workers_of
from .keys import Allowance

_GLOB = frozenset("*?[")


def doubts(allows: Allowance, config: Config) -> Iterator[str]:
    """Groups that nobody declares, what allows nothing that is declared, and limits too small for the workers."""
    declared = {group.name for group in config.routing.groups}
    missing = [name for name in allows.groups if name not in declared]
    for name in missing:
        yield f"the configuration declares no route group named {name!r}"
    if not missing and allows.models and allows.groups and not any(_allowed(allows, config)):
        yield (
            "models and groups both have to allow a request, and no model that the configuration names is in "
            f"{', '.join(allows.groups)} and matches {', '.join(allows.models)}: it may be that this key allows nothing"
        )
    yield from _small_limits(allows, workers_of(config), shared=config.state.url is not None)


def _small_limits(allows: Allowance, workers: int, *, shared: bool) -> Iterator[str]:
    """Each worker has its part of a key's limits; of those a minute not where Redis has them (`shared`)."""
    for name in ("max_concurrent",) if shared else ("requests_per_minute", "tokens_per_minute", "max_concurrent"):
        limit = getattr(allows, name)
        if limit is not None and limit < workers:
            yield f"{name} is smaller than the number of workers ({workers}): {workers - limit} of them refuse this key"


def _allowed(allows: Allowance, config: Config) -> Iterator[bool]:
    for name in _names(allows, config):
        group = next(
            (each.name for each in config.routing.groups if any(fnmatchcase(name, m) for m in each.models)), ""
        )
        yield allows.allows(name, group)


def _names(allows: Allowance, config: Config) -> Iterator[str]:
    """Those that requests may be expected to ask for: with open-ended providers any literal name will do."""
    for provider in config.providers:
        yield from provider.models or ()
        yield from provider.model_aliases
    patterns = (*allows.models, *(model for group in config.routing.groups for model in group.models))
    yield from (pattern for pattern in patterns if not _GLOB & set(pattern))
