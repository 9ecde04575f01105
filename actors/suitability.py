"""Which candidates a request can be given to, by what their providers say of the models. Pure.

What nobody says of a model never stands in the way. Images and tools are never sent to a model that takes none. A
prompt that does not fit goes where it fits, other models for longer prompts included; where it fits nowhere every
candidate stays, as our count of the tokens is an estimate and the provider's own refusal is better than ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from infermux.errors import InvalidRequest
from infermux.providers.interface import ModelInfo

from .catalogue import Candidate, Route
from .messages import Want

TOO_LONG = "the prompt is longer than its context window"


def lacks(candidate: Candidate, want: Want) -> str:
    """What the model has not that the request needs, in words; "" where nothing is known to be missing."""
    info = candidate.info
    if info is None:
        return ""
    if want.images and info.images is False:
        return "it takes no images"
    return "it takes no tools" if want.tools and info.tools is False else ""


def fits(info: ModelInfo | None, want: Want) -> bool:
    """Whether prompt and answer have room in the model's context window, as far as both are known."""
    if info is None or info.context_window is None:
        return True
    return want.prompt_tokens + (want.max_tokens or 0) <= info.context_window


def is_too_long(route: Route, want: Want) -> bool:
    """Whether a prompt fits none of the route's own candidates, and a model for longer ones has room for it."""
    if not route.longer or any(_takes(c, want) for tier in route.tiers for c in tier):
        return False
    return any(_takes(c, want) for longer in route.longer for tier in longer.tiers for c in tier)


def unsuited(tier: Iterable[Candidate], route: Route, want: Want) -> dict[tuple[str, str], str]:
    """The candidates of `tier` that the request cannot be given to, by provider and model, and why.

    `route` is the request's own: where some candidate of it has room for the prompt, those without are unsuited.
    """
    others = [c for each in (route, *route.fallbacks, *route.longer) for tiers in each.tiers for c in tiers]
    choosy = any(_takes(candidate, want) for candidate in others)
    found: dict[tuple[str, str], str] = {}
    for candidate in tier:
        why = lacks(candidate, want)
        if not why and choosy and not fits(candidate.info, want):
            why = TOO_LONG
        if why:
            found[candidate.entry.name, candidate.model] = why
    return found


def nobody_suited(model: str, found: dict[tuple[str, str], str]) -> InvalidRequest:
    """The refusal of a request whose every candidate is unsuited."""
    said = "; ".join(f"{provider} ({name}): {why}" for (provider, name), why in found.items())
    return InvalidRequest(f"no provider of model {model!r} can be given this request: {said}", param="messages")


def _takes(candidate: Candidate, want: Want) -> bool:
    return not lacks(candidate, want) and fits(candidate.info, want)
