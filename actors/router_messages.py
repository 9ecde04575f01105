"""What the router's actor is asked and told."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from infermux.config.settings import Config

from .catalogue import Catalogue
from .plan import Plan
from .ref import Ref
from .strategy import Choice


class Advance(msgspec.Struct, frozen=True):
    """Take `plan` to its next candidate. Answered with a lease, or with an `InfermuxError` when nobody is left."""

    plan: Plan


class Again(msgspec.Struct, frozen=True):
    """Ask the provider of `plan.last` once more, then the next candidates. Answered as `Advance`."""

    plan: Plan


class Longer(msgspec.Struct, frozen=True):
    """The prompt was too long: go on with the models declared for that. Answered as `Advance`, None: there are none."""

    plan: Plan


class Stay(enum.Enum):
    """The answer to `Advance` where `plan.staying`: another model, or nobody, would be next, and a retry is allowed."""

    HERE = "here"


class Acquire(msgspec.Struct, frozen=True):
    """A provider's turn: grant a lease on `choice`, or send the plan back to `router`.

    `number` counts what the router has sent to this provider: what a crash lost on the way is seen in the next one.
    """

    plan: Plan
    choice: Choice
    router: Ref[Any]
    number: int = 0


@attrs.frozen
class HealthKnown:
    """A provider's first probe has ended."""

    provider: str


@attrs.frozen
class CountWaiting:
    """Answered with how many requests wait: in the queue, and for a first health result."""


@attrs.frozen
class TurnAway:
    """Whoever waits is told `why`; nobody waits from then on."""

    why: str


@attrs.frozen
class Serve:
    """The world as it is from now on: the catalogue, the providers' refs, and the configuration where it is another."""

    catalogue: Catalogue
    refs: Mapping[str, Ref[Any]]
    config: Config | None = None
