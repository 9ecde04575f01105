"""The keys that are known, and what is left of their limits. Pure state, the times are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import attrs

from infermux.errors import KeysUnavailable, Unauthorized
from infermux.keys import StoredKey, read_key

from .bucket import Buckets
from .identity import Identity
from .key_limits import KeyLimits
from .learned import LearnedTokens
from .messages import Priority
from .share import WHOLE, Share

LOOK_EVERY: Final = 2.0  # seconds between two looks at the store
NO_KEY: Final = "this router asks for a key: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
NOT_OURS: Final = "the key that was sent is not this router's"


@attrs.define(eq=False)
class Known:
    """A key in memory. `priority` is the best class its requests may have; `who` who they are from unless they say."""

    stored: StoredKey
    limits: KeyLimits = attrs.field(factory=KeyLimits)
    priority: Priority = attrs.field(init=False)
    who: Identity = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.adopt(self.stored, 0.0)

    def adopt(self, stored: StoredKey, now: float) -> None:
        self.stored = stored
        self.limits.adopt(stored.allows, now)
        self.priority = Priority[stored.allows.priority.upper()]
        self.who = Identity(caller=stored.name, key=stored.id)


@attrs.define(eq=False)
class KeyTable:
    """All keys that are known, by id. It outlives its actor: a crash must not refill a limit. `share` is our part.

    `buckets` makes those of a key, by its id, where limits are shared by way of Redis.

    `mark` is another object after each change: what was found out of the keys before may not be so any more.
    `watched`: callers are asked for keys, so the store is looked at. `loaded`: it was read at least once. `trouble` is
    why it could not be asked last time. `changes` counts what was put in by hand, so that what was read before it is
    not taken for newer.
    """

    share: Share = WHOLE
    keys: dict[str, Known] = attrs.field(factory=dict[str, Known])
    learned: LearnedTokens = attrs.field(factory=LearnedTokens)
    watched: bool = False
    loaded: bool = False
    trouble: str | None = None
    revision: int = -1
    changes: int = 0
    mark: object = attrs.field(factory=object, repr=False)
    buckets: Callable[[str], Buckets] | None = None

    def find(self, given: bytes | None, wall: float) -> Known:
        """The key that `given` is; `wall` in seconds since 1970.

        Raises Unauthorized, and KeysUnavailable for a key that is unknown only because the store cannot be asked. An id
        is public, so that it takes another time to find one that is known than one that is not tells nobody anything;
        secrets are compared in constant time.
        """
        if given is None:
            raise Unauthorized(NO_KEY)
        read = read_key(given)
        if read is None:
            raise Unauthorized(NOT_OURS)
        known = self.keys.get(read[0])
        if known is None:
            if self.trouble is not None or not self.loaded:
                raise KeysUnavailable(
                    "the key that was sent is not known yet, and the router cannot look it up now; try again",
                    retry_after=LOOK_EVERY,
                )
            raise Unauthorized(NOT_OURS)
        stored = known.stored
        if not stored.is_of(read[1], wall):
            raise Unauthorized(NOT_OURS)
        state = stored.state(wall)
        if state != "active":
            raise Unauthorized(f"the key {stored.name!r} {'has expired' if state == 'expired' else 'was revoked'}")
        return known

    def adopt_share(self, share: Share, now: float) -> None:
        """Our part of every key's limits is another one."""
        self.share = share
        for known in self.keys.values():
            known.limits.adopt_share(share, now)

    @property
    def is_over(self) -> bool:
        """Of some key more requests run at once than its part is now."""
        return any(known.limits.is_over for known in self.keys.values())

    def adopt(self, keys: Iterable[StoredKey], now: float) -> None:
        """These are all keys there are."""
        self.mark = object()
        found = {stored.id: stored for stored in keys}
        self.keys = {key_id: known for key_id, known in self.keys.items() if key_id in found}
        for stored in found.values():
            self._set(stored, now)
        self.loaded = True

    def put(self, stored: StoredKey, now: float) -> None:
        """One key is new, or another one than before."""
        self.changes += 1
        self.mark = object()
        self._set(stored, now)

    def _set(self, stored: StoredKey, now: float) -> None:
        known = self.keys.get(stored.id)
        if known is None:
            buckets = None if self.buckets is None else self.buckets(stored.id)
            known = self.keys[stored.id] = Known(stored, KeyLimits(buckets=buckets))
            if not self.share.is_whole:
                known.limits.adopt_share(self.share, now)
        elif known.stored != stored:
            known.adopt(stored, now)
