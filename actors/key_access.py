"""Which models a key may use. Pure: by the name that the request asks for, and the route group that name is in.

Where the answer comes from in the end (an alias, a fallback model) is the operator's own declaration.
"""

from __future__ import annotations

from typing import Final

import attrs

from infermux.errors import ModelNotAllowed
from infermux.keys import Allowance, StoredKey
from infermux.providers.interface import Endpoint

from .catalogue import Catalogue
from .messages import Want

KEPT: Final = 4096  # callers choose the names


def may_use(allows: Allowance, model: str, endpoint: Endpoint, catalogue: Catalogue) -> bool:
    """Whether a key that allows this may ask for `model`; "" and `auto` are the default model."""
    if not allows.models and not allows.groups:
        return True
    route = catalogue.resolve(model, endpoint)
    return allows.allows(route.model, route.group.name if route.group is not None else "")


def check_model(key: StoredKey, want: Want, catalogue: Catalogue) -> None:
    """Raises ModelNotAllowed. A model that nobody serves is not allowed either: what there is, is not told."""
    if may_use(key.allows, want.model, want.endpoint, catalogue):
        return
    name = want.model[:200] or "auto"
    raise ModelNotAllowed(f"the key {key.name!r} may not use the model {name!r}", param="model")


@attrs.define(eq=False)
class ModelRule:
    """`check_model`, which remembers what it let pass: for as long as the key is the same object, and the catalogue."""

    _catalogue: Catalogue | None = None
    _passed: dict[tuple[str, str, Endpoint], StoredKey] = attrs.field(
        factory=dict[tuple[str, str, Endpoint], StoredKey], repr=False
    )

    def check(self, key: StoredKey, want: Want, catalogue: Catalogue) -> None:
        """Raises ModelNotAllowed."""
        if catalogue is not self._catalogue:
            self._catalogue, self._passed = catalogue, {}
        which = (key.id, want.model, want.endpoint)
        if self._passed.get(which) is not key:
            check_model(key, want, catalogue)
            if len(self._passed) >= KEPT:
                self._passed.clear()
            self._passed[which] = key

    def __len__(self) -> int:
        """How many it remembers."""
        return len(self._passed)
