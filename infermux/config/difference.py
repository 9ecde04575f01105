"""What one configuration says otherwise than another: per provider, per key; pure values, nothing secret in them.

A value that came from `Secret`, a header, a field of `extra_body` and a proxy are compared as they are and shown as
"changed" only. Providers and groups are compared by their names, mappings key by key, every other list as a whole.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import attrs

from infermux.secret import Secret

from .reading import Path, show_path
from .redact import is_masked, masks_values, plain
from .settings import Config, ProviderSettings

# Of a provider. What is in neither set may lead to another upstream or another account: its state begins anew.
SAME_WIRE = frozenset({"weight", "tags", "rate_limits", "health_check", "circuit_breaker"})
SAME_UPSTREAM = SAME_WIRE | {
    "models",
    "model_aliases",
    "timeout",
    "timeouts",
    "default_max_tokens",
    "fetch_images",
    "extra_body",
    "http2",
    "proxy",
    "tls",
}
# Of the whole: sockets are bound once, and what waits to be written belongs to the database it was meant for.
NEEDS_RESTART = frozenset({"listen", "management_listen", "workers", "ledger", "state", "telemetry"})
_NO_SETTING = frozenset({"providers", "providers_file", "source"})


class Impact(enum.IntEnum):
    """What a change does to a running provider.

    KEPT: its connections stay. REWIRED: new requests go over new connections, its state stays. RENEWED: it may be
    another upstream or account, so health, circuit and averages begin anew; limits and what is in flight always stay.
    """

    KEPT = 0
    REWIRED = 1
    RENEWED = 2


@attrs.frozen(kw_only=True)
class Change:
    """One key. `old` and `new` as JSON has them; None: not there, and for a `secret` always."""

    key: str
    old: Any = None
    new: Any = None
    secret: bool = False

    def __str__(self) -> str:
        if self.secret:
            return f"{self.key}: changed"
        old, new = _nameless(self.old), _nameless(self.new)
        if old is not None and new is not None and (old or new):
            return "\n".join((f"{self.key}:", *_items(old, new)))
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}"


@attrs.frozen(kw_only=True)
class ProviderChange:
    """A provider that is in both, declared otherwise."""

    name: str
    changes: tuple[Change, ...]
    impact: Impact


@attrs.frozen(kw_only=True)
class Difference:
    """From an old configuration to a new one. The names of providers are in the new file's order, `removed` in the old.

    `settings` take effect at once, `needs_restart` names what does not; `reordered`: the providers that are in both
    stand in another order, which is what `priority` and ties go by.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[ProviderChange, ...] = ()
    unchanged: tuple[str, ...] = ()
    reordered: bool = False
    settings: tuple[Change, ...] = ()
    needs_restart: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.reordered or self.settings or self.needs_restart)

    def lines(self) -> Iterator[str]:
        """For people; one line each, nothing when there is no difference."""
        for name in self.added:
            yield f"+ provider {name}"
        for name in self.removed:
            yield f"- provider {name} (what is in flight may finish)"
        for provider in self.changed:
            yield f"~ provider {provider.name} ({_IMPACTS[provider.impact]})"
            for change in provider.changes:
                yield f"    {change}"
        if self.reordered:
            yield "~ providers: in another order"
        for change in self.settings:
            yield from f"~ {change}".splitlines()
        for change in self.needs_restart:
            yield f"! {change} (needs a restart)"

    def as_json(self) -> dict[str, Any]:
        """For machines: the same in plain data."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": [
                {
                    "name": provider.name,
                    "impact": provider.impact.name.lower(),
                    "changes": [attrs.asdict(change) for change in provider.changes],
                }
                for provider in self.changed
            ],
            "unchanged": list(self.unchanged),
            "reordered": self.reordered,
            "settings": [attrs.asdict(change) for change in self.settings],
            "needs_restart": [attrs.asdict(change) for change in self.needs_restart],
        }


_IMPACTS = {
    Impact.KEPT: "keeps its connections and its state",
    Impact.REWIRED: "new connections, keeps its state",
    Impact.RENEWED: "starts anew, keeps its limits",
}


def difference(old: Config, new: Config) -> Difference:
    """What `new` says otherwise than `old`."""
    before = {provider.name: provider for provider in old.providers}
    after = {provider.name: provider for provider in new.providers}
    both = [name for name in after if name in before]
    changed = tuple(provider_change(before[name], after[name]) for name in both if before[name] != after[name])
    altered = {provider.name for provider in changed}
    settings = tuple(_changes(old, new, skip=_NO_SETTING))
    late = _bound_at_start(old, new)
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=changed,
        unchanged=tuple(name for name in both if name not in altered),
        reordered=both != [name for name in before if name in after],
        settings=tuple(change for change in settings if not _is_of(change, late)),
        needs_restart=tuple(change for change in settings if _is_of(change, late)),
    )


def provider_change(old: ProviderSettings, new: ProviderSettings) -> ProviderChange:
    """What the declaration `new` of one provider says otherwise than `old`."""
    keys = {name for name in _fields(old) if getattr(old, name) != getattr(new, name)}
    impact = Impact.KEPT if keys <= SAME_WIRE else Impact.REWIRED if keys <= SAME_UPSTREAM else Impact.RENEWED
    return ProviderChange(name=new.name, changes=tuple(_changes(old, new)), impact=impact)


def effective(old: Config, new: Config) -> Config:
    """`new` as far as a running router can have it: what needs a restart stays as it is in `old`."""
    return attrs.evolve(new, **{key: getattr(old, key) for key in _bound_at_start(old, new)})


def _bound_at_start(old: Config, new: Config) -> frozenset[str]:
    """A certificate can be exchanged while the server runs, but a port speaks TLS or not from its start."""
    turned = (old.tls.cert_file is None) != (new.tls.cert_file is None)
    return NEEDS_RESTART | {"tls"} if turned else NEEDS_RESTART


def _is_of(change: Change, keys: frozenset[str]) -> bool:
    return change.key.partition(".")[0] in keys


@attrs.frozen
class _Leaf:
    """A value with nothing to compare below it. `shown` is what may be seen of it."""

    value: Any
    shown: Any
    secret: bool


_ABSENT = _Leaf(None, None, secret=False)


def _changes(old: Any, new: Any, *, skip: frozenset[str] = frozenset()) -> Iterator[Change]:
    before, after = dict(_leaves(old, (), skip)), dict(_leaves(new, (), skip))
    for path in dict.fromkeys((*after, *before)):
        was, now = before.get(path, _ABSENT), after.get(path, _ABSENT)
        if was.value != now.value:
            secret = was.secret or now.secret
            was, now = (_ABSENT, _ABSENT) if secret else (was, now)
            yield Change(key=show_path(path), old=was.shown, new=now.shown, secret=secret)


def _leaves(
    value: Any, path: Path, skip: frozenset[str] = frozenset(), *, secret: bool = False
) -> Iterator[tuple[Path, _Leaf]]:
    sections = _sections(value)
    if attrs.has(value.__class__) and not isinstance(value, Secret):
        for name in _fields(value):
            if name not in skip:
                hidden = secret or is_masked(name) or masks_values(name)
                yield from _leaves(getattr(value, name), (*path, name), secret=hidden)
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from _leaves(item, (*path, key), secret=secret)
    elif sections:
        yield path, _Leaf(list(sections), list(sections), secret=False)  # their order means something
        yield from _leaves(sections, path, secret=secret)
    else:
        secret = secret or _holds_secret(value)
        yield path, _Leaf(value, None if secret else plain(value), secret)


def _fields(value: Any) -> list[str]:
    return [field.name for field in attrs.fields(value.__class__)]


def _sections(value: Any) -> dict[str, Any]:
    """By name, where `value` is a list of sections with a name each, such as groups; else nothing."""
    items = cast("Sequence[Any]", value) if isinstance(value, tuple) else ()
    return {item.name: item for item in items if hasattr(item, "name")}


def _holds_secret(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_secret(item) for item in cast("Sequence[Any]", value))
    return isinstance(value, Secret)


def _nameless(value: object) -> list[dict[str, Any]] | None:
    """`value`, where it is a list of sections without a name, such as budgets."""
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    return cast("list[dict[str, Any]]", items) if all(isinstance(item, dict) for item in items) else None


def _items(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    """Of sections without names, such as budgets: those that have gone and those that have come, each on its line."""
    yield from (f"    - {_brief(item)}" for item in old if item not in new)
    yield from (f"    + {_brief(item)}" for item in new if item not in old)


def _brief(item: Mapping[str, Any]) -> str:
    return _shown({key: value for key, value in item.items() if value is not None})


def _shown(value: Any) -> str:
    return "(none)" if value is None else json.dumps(value, ensure_ascii=False)
