"""Several credentials of one provider: which one a request takes, which rest, which are retired.

The requests of one conversation stay on one key, because providers keep their prompt caches per organisation or key:
each key draws a number from the hashes of the conversation and of its place, the highest first (rendezvous hashing;
Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998). A key that goes moves only its own
conversations. Requests without a conversation take turns.

A key rests after a 429 (as a provider with one key does: see `cooldown`), and is retired when it is refused (401, 402,
403), until a probe with it succeeds or the operator brings it back. Keys are told apart by their place in the file,
from 0 here, from 1 wherever they are shown.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import attrs

from .cooldown import Cooldown


@attrs.define(eq=False)
class _Key:
    cooldown: Cooldown = attrs.field(factory=Cooldown)
    retired: str | None = None  # why
    looked_at: float = 0.0  # when it was last refused, or probed


class KeyRing:
    """The keys of one provider, at least one. Times are seconds on one monotonic clock."""

    __slots__ = ("_keys", "_turn")

    def __init__(self, keys: int) -> None:
        if keys < 1:
            raise ValueError("a ring has at least one key")
        self._keys = [_Key() for _ in range(keys)]
        self._turn = 0

    def __len__(self) -> int:
        return len(self._keys)

    def choose(self, affinity: bytes, now: float, *, first: int | None = None) -> list[int]:
        """The keys that may be used now, the one to use first; empty when none may.

        `first` goes before all others where it may be used.
        """
        usable = [
            at for at, key in enumerate(self._keys) if key.retired is None and not key.cooldown.blocked_until(now)
        ]
        if len(usable) < 2:
            return usable
        if first in usable:
            return [first, *(at for at in usable if at != first)]
        if affinity:
            return sorted(usable, key=lambda at: _drawn(affinity, at), reverse=True)
        self._turn += 1
        turn = self._turn % len(usable)
        return usable[turn:] + usable[:turn]

    def blocked_until(self, now: float) -> float:
        """0 when some key may be used now, the earliest time at which one may be, inf when all are retired."""
        until = math.inf
        for key in self._keys:
            if key.retired is None:
                rests_until = key.cooldown.blocked_until(now)
                if not rests_until:
                    return 0.0
                until = min(until, rests_until)
        return until

    @property
    def all_retired(self) -> bool:
        return all(key.retired is not None for key in self._keys)

    def rate_limited(self, at: int, now: float, retry_after: float | None) -> None:
        """The provider answered 429 to the key at `at`: it rests."""
        self._keys[at].cooldown.rate_limited(now, retry_after)

    def succeeded(self, at: int, now: float) -> None:
        """A request with the key succeeded. A retired one stays so: a stream that was open before proves nothing."""
        self._keys[at].cooldown.succeeded(now)

    def retire(self, at: int, why: str, now: float) -> None:
        """The key was refused; `why` carries no secret."""
        self._keys[at].retired = why
        self._keys[at].looked_at = now

    def looked(self, at: int, now: float) -> None:
        """A probe with a retired key came to nothing that speaks of the key."""
        self._keys[at].looked_at = now

    def restore(self, at: int) -> None:
        """A probe with the key succeeded."""
        self._keys[at].retired = None

    def reset(self) -> None:
        """All keys may be used again, whatever was."""
        for key in self._keys:
            key.retired = None
            key.cooldown.reset()

    def restore_all(self) -> None:
        """No key is retired any more; those that rest go on resting."""
        for key in self._keys:
            key.retired = None

    def probe_order(self) -> list[int]:
        """All keys, those in use before the retired ones: how a probe tries them."""
        return sorted(range(len(self._keys)), key=lambda at: self._keys[at].retired is not None)

    def retired(self) -> list[int]:
        return [at for at, key in enumerate(self._keys) if key.retired is not None]

    def next_look(self, interval: float) -> float:
        """When the first of the retired keys is to be probed again, `interval` after it was refused; inf: none is."""
        return min((key.looked_at + interval for key in self._keys if key.retired is not None), default=math.inf)

    def statistics(self, now: float) -> list[dict[str, object]]:
        """The keys as they are shown: by place, never by what they are."""
        shown: list[dict[str, object]] = []
        for at, key in enumerate(self._keys):
            until = key.cooldown.blocked_until(now)
            state = "retired" if key.retired is not None else "resting" if until else "ready"
            left = round(until - now, 3) if until else None
            shown.append({"key": str(at + 1), "state": state, "reason": key.retired, "resting_for": left})
        return shown

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)}, {len(self.retired())} retired>"


def _drawn(affinity: bytes, at: int) -> bytes:
    return blake2b(affinity, digest_size=8, salt=b"%d" % at).digest()
