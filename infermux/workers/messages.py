"""What the process that leads and its workers say to each other."""

from __future__ import annotations

import attrs

from infermux.actors.bank import Account
from infermux.actors.share import Share
from infermux.config.settings import Config
from infermux.errors import Problem

from .link import Refused

Address = tuple[str, int]


# To a worker.


@attrs.frozen(kw_only=True)
class Begin:
    """The first one: serve `config`, which listens on ports that are fixed by now.

    `folder` holds the sockets by which workers ask each other, `cookies` is the key that all of them seal cookies with.
    `words`: see `Obey`.
    """

    config: Config
    share: Share
    place: int
    of: int
    folder: str
    cookies: bytes = attrs.field(repr=False)
    words: dict[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen
class Adopt:
    """That is your part of every limit from now on. Answered by whether more runs at once than it allows."""

    share: Share


@attrs.frozen
class Load:
    """Serve this configuration, which is checked, or with `dry_run` say what it would change. Answered by `Done`."""

    config: Config
    dry_run: bool = False


@attrs.frozen
class See:
    """How is it? Answered by `Seen`."""


@attrs.frozen
class Obey:
    """What an operator has last said of providers, by their names: `enable`, `disable` or `drain`."""

    words: dict[str, str]


@attrs.frozen
class Now:
    """End at once. It is not answered."""


# To the one that leads.


@attrs.frozen
class CatchUp:
    """What has changed since I was told? I am about to listen. Answered by `Latest`."""


@attrs.frozen(kw_only=True)
class Ready:
    """It listens there."""

    addresses: tuple[Address, ...]
    management_addresses: tuple[Address, ...]


@attrs.frozen
class Turn:
    """What budgets a worker has spent of since its last turn. Answered by grants; see `actors.bank`."""

    accounts: list[Account]


@attrs.frozen
class Reload:
    """An operator asked a worker for it. Answered by what the operator is told."""

    dry_run: bool


@attrs.frozen
class Word:
    """An operator has said `verb` of a provider: remember it. The workers at the places `missed` have not heard it."""

    provider: str
    verb: str
    missed: tuple[int, ...] = ()


# Answers.


@attrs.frozen
class Latest:
    """The configuration in force, None where it is the one that was told; and `Obey`, as what was told is obeyed."""

    config: Config | None
    words: dict[str, str]


@attrs.frozen(kw_only=True)
class Seen:
    """`over`: more runs at once than its part of some limit allows."""

    in_flight: int
    draining: bool
    over: bool


@attrs.frozen(kw_only=True)
class Done:
    """What a reload changed: `told` as the operator is told it, `lines` for the log."""

    told: dict[str, object]
    lines: tuple[str, ...]


class NotLoaded(Refused):
    """A configuration was not taken. `problems` where something is wrong with the file; `status` and `code` of HTTP."""

    def __init__(self, message: str, problems: tuple[Problem, ...] = (), status: int = 400, code: str = "") -> None:
        super().__init__(message, problems, status, code)  # all of them, or it could not be unpickled
        self.message = message
        self.problems = problems
        self.status = status
        self.code = code
