"""The schema's versions, and how a database comes from its own to the newest.

A step, once released, is never changed: databases are out there that went through it. A new step goes to the end of
`STEPS` with the next number, and `tables` says what the schema is afterwards; a test compares the two.
"""

from __future__ import annotations

import time
from typing import Final

import attrs

from infermux.errors import SchemaTooNew

from .place import Place
from .session import Session

_LOCK = 7_293_417_001  # any number: PostgreSQL's name for "somebody is migrating an infermux database"


@attrs.frozen
class Step:
    """From version `version - 1` to `version`. In its statements `{int64}` is a whole number of 64 bits, `{random}` 128
    bits drawn by chance, in hex.

    SQLite's own word for a key that is the row's number is INTEGER; elsewhere that has 32 bits.
    """

    version: int
    what: str
    statements: tuple[str, ...]


STEPS = (
    Step(
        1,
        "requests, their attempts, their tags",
        (
            """CREATE TABLE requests (
                seq {int64} PRIMARY KEY, id TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, day TEXT NOT NULL,
                caller TEXT NOT NULL, key TEXT NOT NULL, endpoint TEXT NOT NULL, stream BOOLEAN NOT NULL,
                requested TEXT NOT NULL, route_group TEXT NOT NULL, strategy TEXT NOT NULL, provider TEXT NOT NULL,
                model TEXT NOT NULL, attempts INTEGER NOT NULL, rescues INTEGER NOT NULL, outcome TEXT NOT NULL,
                status INTEGER NOT NULL, code TEXT NOT NULL, fault TEXT NOT NULL, cache TEXT NOT NULL,
                prompt_tokens {int64}, cached_tokens {int64}, cache_write_tokens {int64}, completion_tokens {int64},
                reasoning_tokens {int64}, estimated BOOLEAN, cost DOUBLE PRECISION, latency DOUBLE PRECISION NOT NULL,
                first_token DOUBLE PRECISION, waited DOUBLE PRECISION NOT NULL, overhead DOUBLE PRECISION NOT NULL
            )""",
            "CREATE INDEX requests_at ON requests (at)",
            """CREATE TABLE attempts (
                seq {int64} NOT NULL REFERENCES requests ON DELETE CASCADE, number INTEGER NOT NULL,
                provider TEXT NOT NULL, model TEXT NOT NULL, outcome TEXT NOT NULL, status INTEGER,
                started DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, first_token DOUBLE PRECISION,
                prompt_tokens {int64}, cached_tokens {int64}, cache_write_tokens {int64}, completion_tokens {int64},
                reasoning_tokens {int64}, estimated BOOLEAN, cost DOUBLE PRECISION,
                PRIMARY KEY (seq, number)
            )""",
            """CREATE TABLE tags (
                seq {int64} NOT NULL REFERENCES requests ON DELETE CASCADE, name TEXT NOT NULL, value TEXT NOT NULL,
                PRIMARY KEY (seq, name)
            )""",
        ),
    ),
    Step(
        2,
        "keys",
        (
            """CREATE TABLE api_keys (
                id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
                expires_at DOUBLE PRECISION, revoked_at DOUBLE PRECISION, old_digest TEXT, old_until DOUBLE PRECISION,
                allows TEXT NOT NULL, revision {int64} NOT NULL
            )""",
            "CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL",
        ),
    ),
    Step(
        3,
        "what budgets have spent",
        (
            """CREATE TABLE budgets_spent (
                scope TEXT NOT NULL, name TEXT NOT NULL, period TEXT NOT NULL, start {int64} NOT NULL,
                amount {int64} NOT NULL, PRIMARY KEY (scope, name, period, start)
            )""",
        ),
    ),
    Step(
        4,
        "budgets of several routers",
        (
            "ALTER TABLE budgets_spent ADD COLUMN changed DOUBLE PRECISION NOT NULL DEFAULT 0",
            """CREATE TABLE budget_writers (
                writer {int64} PRIMARY KEY, batch {int64} NOT NULL, at DOUBLE PRECISION NOT NULL
            )""",
        ),
    ),
    Step(
        5,
        "a name of its own",
        ("CREATE TABLE identity (name TEXT NOT NULL)", "INSERT INTO identity VALUES ({random})"),
    ),
)
_KINDS: Final = {
    "postgresql": {"int64": "BIGINT", "random": "md5(random()::text || clock_timestamp()::text)"},
    "sqlite": {"int64": "INTEGER", "random": "lower(hex(randomblob(16)))"},
}
NEWEST = STEPS[-1].version


def migrate(session: Session, place: Place, steps: tuple[Step, ...] = STEPS) -> list[Step]:
    """Bring the database to the newest version, in the transaction of `session`: all of it or nothing.

    Returns what was done; it is done when that is committed.

    Two processes that start at once do it one after the other, and the second finds nothing to do. Raises SchemaTooNew
    where a newer infermux was here.
    """
    if session.postgresql:  # until the end of the transaction; SQLite's own began as a writer, and there is but one
        session.rows("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
    session.change(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, what TEXT, at DOUBLE PRECISION)"
    )
    version = session.rows("SELECT max(version) FROM schema_version")[0][0] or 0
    newest = steps[-1].version
    if version > newest:
        raise SchemaTooNew(
            f"{place} has schema version {version}, written by a newer infermux; this one knows versions up to "
            f"{newest}. Upgrade infermux, or name another database in ledger.url"
        )
    for step in steps[version:]:
        for statement in step.statements:
            session.change(statement.format_map(_KINDS["postgresql" if session.postgresql else "sqlite"]))
        session.change("INSERT INTO schema_version VALUES (?, ?, ?)", (step.version, step.what, time.time()))
    return list(steps[version:])
