"""The schema as it is after the last step of `migrations`, for queries. Times are seconds since 1970 (UTC) or seconds.

Imports SQLAlchemy: only for modules that run in the worker thread or in a command.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, MetaData, Table, Text

METADATA = MetaData()


def _filled(kind: type[Any], *names: str) -> list[Column[Any]]:
    return [Column(name, kind, nullable=False) for name in names]


def _usage() -> list[Column[Any]]:
    """NULL where nobody knows: tokens without usage, `cost` (US dollars) without a price."""
    kinds = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")
    return [*(Column(kind, BigInteger) for kind in kinds), Column("estimated", Boolean), Column("cost", Double)]


SCHEMA_VERSION = Table(
    "schema_version",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("what", Text),
    Column("at", Double),
)

# One row per request that has ended. `seq` is ours and unique over all routers, `id` the caller's where it gave one.
# `day` is that of `at`, as 2026-01-31. `outcome` is an `Ending`, `attempts` how many there were.
REQUESTS = Table(
    "requests",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    *_filled(Text, "id", "day", "caller", "key", "endpoint", "requested", "route_group", "strategy", "provider"),
    *_filled(Text, "model", "outcome", "code", "fault", "cache"),
    *_filled(Integer, "attempts", "rescues", "status"),
    *_filled(Double, "at", "latency", "waited", "overhead"),
    *_filled(Boolean, "stream"),
    Column("first_token", Double),
    *_usage(),
)

# The attempts of requests that had more than one, or one and no provider that answered: whom the tokens and the money
# of each went to.
ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    *_filled(Text, "provider", "model", "outcome"),
    Column("status", Integer),
    *_filled(Double, "started", "ended"),
    Column("first_token", Double),
    *_usage(),
)

TAGS = Table(
    "tags",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# The router's own keys. `digest` and `old_digest` are SHA-256 in hex, `allows` is JSON, `revision` counts changes.
API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    *_filled(Text, "name", "digest"),
    *_filled(Double, "created_at"),
    *(Column(name, Double) for name in ("expires_at", "revoked_at")),
    Column("old_digest", Text),
    Column("old_until", Double),
    *_filled(Text, "allows"),
    *_filled(BigInteger, "revision"),
)

# What budgets have spent, by whose they are and in which period; `amount` in nano-dollars, of all routers together.
# `changed` is by the database's clock.
BUDGETS_SPENT = Table(
    "budgets_spent",
    METADATA,
    *(Column(name, Text, primary_key=True) for name in ("scope", "name", "period")),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("amount", BigInteger, nullable=False),
    Column("changed", Double, nullable=False),
)

# The last batch of amounts that each running router has added, so that none is added twice.
BUDGET_WRITERS = Table(
    "budget_writers",
    METADATA,
    Column("writer", BigInteger, primary_key=True, autoincrement=False),
    Column("batch", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
)

# One row: a name that was drawn when the database was made. Routers that share budgets tell their ledgers apart by it.
IDENTITY = Table("identity", METADATA, *_filled(Text, "name"))
