"""The router's own keys: what they look like, what is kept of them, and what one allows. Pure values.

A key is `ifx_ID_SECRET`: 12 and 52 characters of `a-z2-7`. The id is public, it names the key in lists, logs and the
ledger; the secret is 256 random bits. The letters are those of RFC 4648's base32, so a key is one word for a double
click and for a scanner of secrets (`ifx_[a-z2-7]{12}_[a-z2-7]{52}`).

Kept is the SHA-256 of the secret. Slow, salted hashes (argon2, scrypt) make guessing dear where a secret has few bits,
because somebody chose it; 256 random bits cannot be guessed however fast each guess is, and equal secrets, which a salt
would hide, do not occur. A slow hash would be paid with every request instead, by us.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import attrs

from .errors import Conflict, NotFound
from .secret import Secret

PRIORITIES: Final = ("interactive", "default", "batch")
OWN_NAME: Final = "infermux"  # the caller in whose name the router itself asks: no key, and no caller, may have it
PERIODS: Final = ("day", "week", "month")

_KEY: Final = re.compile(rb"ifx_([a-z2-7]{12})_([a-z2-7]{52})")


@attrs.frozen(kw_only=True)
class KeyBudget:
    """At most `limit_usd` US dollars per `period` (day, week or month, UTC)."""

    limit_usd: float
    period: str

    def __str__(self) -> str:
        return f"{self.limit_usd:g}/{self.period}"


@attrs.frozen(kw_only=True)
class Allowance:
    """What a key allows. An empty tuple, and None: no bound.

    `models` are globs over the names that callers use, `groups` names of route groups. `max_concurrent` counts
    requests. `priority` is the class of its requests, which a header may lower. `names_callers`: whether
    `X-Infermux-Caller` is believed; otherwise who asks is the key.
    """

    models: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None
    budget: KeyBudget | None = None
    priority: str = "default"
    names_callers: bool = False

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(fnmatch.translate(glob) for glob in self.models))

    def allows(self, model: str, group: str) -> bool:
        """Whether requests for `model` may be made, which is in the route group `group` ("": in none)."""
        if self.models and self._pattern.fullmatch(model) is None:
            return False
        return not self.groups or group in self.groups


@attrs.frozen(kw_only=True)
class StoredKey:
    """A key as it is kept. Times are seconds since 1970, None: never.

    `digest` is of its secret, `old_digest` of the one before a rotation, which is good until `old_until`. `revision`
    grows with each change.
    """

    id: str
    name: str
    digest: bytes = attrs.field(repr=False)
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    old_digest: bytes | None = attrs.field(default=None, repr=False)
    old_until: float | None = None
    allows: Allowance = Allowance()
    revision: int = 1

    def state(self, now: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"

    def is_of(self, digest: bytes, now: float) -> bool:
        """Whether `digest` is that of its secret; compared in constant time."""
        if hmac.compare_digest(digest, self.digest):
            return True
        old, until = self.old_digest, self.old_until
        return old is not None and until is not None and now < until and hmac.compare_digest(digest, old)

    def shown(self, now: float) -> dict[str, Any]:
        """All that may be shown of it, as JSON has it."""
        allows = self.allows
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state(now),
            "created_at": _iso(self.created_at),
            "expires_at": _iso(self.expires_at),
            "revoked_at": _iso(self.revoked_at),
            "old_secret_until": _iso(self.old_until) if self.old_until is not None and now < self.old_until else None,
            "models": list(allows.models),
            "groups": list(allows.groups),
            "requests_per_minute": allows.requests_per_minute,
            "tokens_per_minute": allows.tokens_per_minute,
            "max_concurrent": allows.max_concurrent,
            "budget": None if allows.budget is None else str(allows.budget),
            "priority": allows.priority,
            "names_callers": allows.names_callers,
        }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(round(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Made, told apart, changed.


def new_key(*, name: str, allows: Allowance, now: float, expires_at: float | None = None) -> tuple[Secret, StoredKey]:
    """A new key: its text, which is shown once, and what is kept. The public id is 60 random bits."""
    secret = _random(32)
    stored = StoredKey(
        id=_random(8)[:12],
        name=name,
        digest=digest_of(secret.encode()),
        created_at=now,
        expires_at=expires_at,
        allows=allows,
    )
    return Secret(f"ifx_{stored.id}_{secret}"), stored


def rotated(key: StoredKey, *, now: float, keep_old: float = 0.0) -> tuple[Secret, StoredKey]:
    """The same key with a new secret. The one it has stays good for `keep_old` seconds more.

    Conflict: it was revoked or has expired, so that no secret could open anything.
    """
    state = key.state(now)
    if state != "active":
        raise Conflict(
            f"the key {key.name!r} {'has expired' if state == 'expired' else 'was revoked'}: create another one"
        )
    secret = _random(32)
    old = (key.digest, now + keep_old) if keep_old > 0 else (None, None)
    changed = attrs.evolve(key, digest=digest_of(secret.encode()), old_digest=old[0], old_until=old[1])
    return Secret(f"ifx_{key.id}_{secret}"), changed


def read_key(text: bytes) -> tuple[str, bytes] | None:
    """The id of a key and the digest of its secret; None for what is no such key."""
    found = _KEY.fullmatch(text)
    return None if found is None else (found[1].decode(), digest_of(found[2]))


def digest_of(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _random(count: int) -> str:
    return base64.b32encode(secrets.token_bytes(count)).decode().lower().rstrip("=")


def pick(name: str, keys: Iterable[StoredKey]) -> StoredKey:
    """The key with the id `name`, or the one of that name that is not revoked. NotFound, Conflict: there are both."""
    found = [key for key in keys if key.id == name or (key.name == name and key.revoked_at is None)]
    if not found:
        raise NotFound(f"there is no key with the id or name {name!r}")
    if len(found) > 1:
        raise Conflict(f"{name!r} is the id of one key and the name of another; use the id of the one that is meant")
    return found[0]
