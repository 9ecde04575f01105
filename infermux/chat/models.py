"""What there is to choose from: every model by itself, and every model of every provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

AUTO = "auto"  # the router's own word for its default


@attrs.frozen(kw_only=True)
class Row:
    """Something to choose. `note`: what is said beside it."""

    value: str
    note: str = ""


@attrs.frozen(kw_only=True)
class Offer:
    """What the router serves. `default`: the name of its default model, None where it does not say."""

    rows: tuple[Row, ...]
    default: str | None = None
    open_ended: bool = False  # a provider takes names that nobody lists

    def has(self, model: str) -> bool:
        """Whether it is worth asking for: listed, or nobody knows."""
        return self.open_ended or any(row.value == model for row in self.rows)

    @property
    def default_name(self) -> str:
        """The default for people: by its name, where that is known."""
        return f"{AUTO} ({self.default})" if self.default else AUTO


def offer(
    models: Sequence[Mapping[str, Any]],
    providers: Sequence[Mapping[str, Any]] | None,
    default: str | None,
) -> Offer:
    """Of `GET /v1/models`, and what management says, where it may be asked: its providers and its default model.

    First the default, then every model and alias as the router would route it, then each provider's own, in the
    order of the configuration.
    """
    by_name = {str(each["id"]): each for each in models}
    first = Row(value=AUTO, note=f"the default: {default}" if default else "the default")
    served = [Row(value=name, note=_note(each)) for name, each in by_name.items()]
    owned = [
        Row(value=f"{provider}/{name}", note=_abilities(by_name[name]))
        for provider, names in _by_provider(models, providers).items()
        for name in names
        if f"{provider}/{name}" not in by_name
    ]
    # Without management it is not known, so a name that is not listed is left to the router to refuse.
    open_ended = providers is None or any(each.get("models") is None for each in providers)
    return Offer(rows=(first, *served, *owned), default=default, open_ended=open_ended)


def _by_provider(
    models: Sequence[Mapping[str, Any]], providers: Sequence[Mapping[str, Any]] | None
) -> dict[str, list[str]]:
    """The listed models of each provider. What a key may not use is not listed, so not here either."""
    found: dict[str, list[str]] = {str(each["name"]): [] for each in providers or ()}
    for model in models:
        for provider in model.get("providers") or ():
            found.setdefault(str(provider), []).append(str(model["id"]))
    return found


def _note(model: Mapping[str, Any]) -> str:
    providers = ", ".join(map(str, model.get("providers") or ()))
    return "; ".join(filter(None, (str(model.get("name") or ""), providers, _abilities(model))))


def _abilities(model: Mapping[str, Any]) -> str:
    window = model.get("context_window")
    words = [f"{window} tokens"] if window else []
    words += ["images"] if model.get("images") else []
    words += ["tools"] if model.get("tools") else []
    return ", ".join(words)
