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
import math
import re
import secrets
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import attrs

from .config.values import decimal, duration
from .secret import Secret

PRIORITIES: Final = ("interactive", "default", "batch")
PERIODS: Final = ("day", "week", "month")
LONGEST_NAME: Final = 100

_KEY: Final = re.compile(rb"ifx_([a-z2-7]{12})_([a-z2-7]{52})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]*")
_LONG: Final = re.compile(r"([1-9][0-9]{0,4})(d|w)")
_SECONDS: Final = {"d": 86_400.0, "w": 7 * 86_400.0}


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
    """The same key with a new secret. The one it has stays good for `keep_old` seconds more."""
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


# How what a key allows is written, by the command line and by the API. Each raises ValueError saying what is right.


def read_name(text: str) -> str:
    """A key's name: it shows in logs and headers, and names the caller."""
    if len(text) > LONGEST_NAME or not _NAME.fullmatch(text):
        raise ValueError(f"must be 1 to {LONGEST_NAME} letters, digits and any of . _ @ : / + - (the first no sign)")
    return text


def read_budget(text: str) -> KeyBudget:
    """`50/month`."""
    amount, _, period = text.partition("/")
    try:
        limit = decimal(amount.strip().removeprefix("$"))
    except ValueError:
        limit = math.nan
    if not limit > 0 or period.strip() not in PERIODS:
        raise ValueError(f"must be US dollars per {', '.join(PERIODS[:-1])} or {PERIODS[-1]}, such as 50/month")
    return KeyBudget(limit_usd=limit, period=period.strip())


def read_lifetime(text: str) -> float:
    """Seconds from `90d`, `2w`, `12h` and what else a duration may be; above zero."""
    found = _LONG.fullmatch(text.strip())
    if found is not None:
        return float(found[1]) * _SECONDS[found[2]]
    try:
        seconds = duration(text.strip())
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError("must be a time above zero such as 90d, 2w or 12h")
    return seconds


def read_limit(number: object) -> int:
    """A whole number above zero."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= 2**53:
        raise ValueError("must be a whole number above zero")
    return number


def read_priority(text: str) -> str:
    if text not in PRIORITIES:
        raise ValueError(f"must be {', '.join(PRIORITIES[:-1])} or {PRIORITIES[-1]}")
    return text
