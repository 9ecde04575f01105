"""What a provider's actor is asked and told, but for leases: see `router_messages.Acquire` and `lease`."""

from __future__ import annotations

import enum

import attrs
import trio

from infermux.errors import UpstreamFailure
from infermux.providers.interface import Adapter, ModelInfo, Usage


class Verb(enum.Enum):
    """What an operator can ask of a provider."""

    ENABLE = "enable"
    DISABLE = "disable"
    DRAIN = "drain"
    PROBE = "probe"
    RESET = "reset"


@attrs.frozen
class Command:
    """Answered with the `Description` after it was carried out; PROBE after the probe has ended."""

    verb: Verb


@attrs.frozen
class Describe:
    """Answered with a `Description`."""


@attrs.frozen
class Revoke:
    """End every attempt that runs under a lease of this provider; `last_word`: the requests end too."""

    why: str
    last_word: bool = False


@attrs.frozen(eq=False)
class Redeclared:
    """The gate has other settings: go on with `adapter`. Once `known` is set no lease is granted on another one."""

    adapter: Adapter
    known: trio.Event = attrs.field(factory=trio.Event)


@attrs.frozen
class ProbeEnded:
    """What a probe came to. `failure` None: healthy. `key`: the place of the key it was made with, where it has one."""

    failure: UpstreamFailure | None
    usage: Usage | None
    key: int | None = None
    models: tuple[ModelInfo, ...] | None = None


@attrs.frozen
class LimitsChanged:
    """What is ours of its limits is another part: what is published of it is old, and who waits may have room."""


@attrs.frozen
class LookAgain:
    """What the provider runs on has come up, or gone down: a probe may now say something else."""

    up: bool
