"""Which models a key may use. Pure: by the name that the request asks for, and the route group that name is in.

Where the answer comes from in the end (an alias, a fallback model) is the operator's own declaration.
"""

from __future__ import annotations

from infermux.errors import ModelNotAllowed
from infermux.keys import Allowance, StoredKey
from infermux.providers.interface import Endpoint

from .catalogue import Catalogue
from .messages import Want


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
