"""The names a provider's `type` and a `strategy` may have: the built-in ones and those of installed plugins."""

from __future__ import annotations

BUILT_IN_TYPES = ("openai", "anthropic", "ollama", "azure_openai", "bedrock", "process", "simulated")
BUILT_IN_STRATEGIES = (
    "round_robin",
    "least_latency",
    "cost_weighted",
    "random",
    "priority",
    "least_busy",
    "peak_ewma",
    "sticky",
)
# Types whose keys are given out by a hosting company: without one every request would be a 401.
HOSTED_TYPES = frozenset({"openai", "anthropic", "azure_openai"})


def known_types() -> frozenset[str]:
    """Built-in provider types and the entry points of group `infermux.providers`."""
    return frozenset(BUILT_IN_TYPES) | _names("infermux.providers")


def known_strategies() -> frozenset[str]:
    """Built-in strategies and the entry points of group `infermux.strategies`."""
    return frozenset(BUILT_IN_STRATEGIES) | _names("infermux.strategies")


def is_known_type(name: str) -> bool:
    """Looks at the installed packages only when the name is not built in: that takes milliseconds."""
    return name in BUILT_IN_TYPES or name in known_types()


def is_known_strategy(name: str) -> bool:
    return name in BUILT_IN_STRATEGIES or name in known_strategies()


def _names(group: str) -> frozenset[str]:
    from importlib.metadata import entry_points  # 20 ms, wanted only for names that are not built in

    return frozenset(point.name for point in entry_points(group=group))
