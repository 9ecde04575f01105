"""`keys`: hand out, list, revoke and rotate the keys of callers, in the database that the configuration names.

A running router of the same database sees it within two seconds; it need not run for this.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import attrs
import click

from infermux.actors.purse import bounds
from infermux.config import Config, load
from infermux.config.settings import AuthMode
from infermux.database.budgets import NANO, Term
from infermux.database.budgets import load as spent
from infermux.database.keys import KeyFile
from infermux.database.place import Place
from infermux.database.store import Store
from infermux.errors import InvalidRequest
from infermux.key_declaration import read_declaration, read_keep_old
from infermux.key_doubts import doubts
from infermux.keys import PRIORITIES, StoredKey, new_key, pick, rotated

from . import options
from .output import print_json, print_table

_OPTIONS = {
    "requests_per_minute": "--rpm",
    "tokens_per_minute": "--tpm",
    "max_concurrent": "--max-concurrent",
    "keep_old": "--keep-old",
}
_ONCE = "this is the only time the key is shown; what is kept is a hash of it"


@click.group()
def keys() -> None:
    """Hand out, list, revoke and rotate the keys of callers (for auth.mode: keys)."""


@keys.command()
@options.config
@options.as_json
@click.option("--name", required=True, help="Whose key it is; shows in logs and costs.")
@click.option("--models", multiple=True, metavar="GLOB", help="Models it may use; several times, or with commas.")
@click.option("--groups", multiple=True, metavar="NAME", help="Route groups it may use; several times, or with commas.")
@click.option("--rpm", type=int, help="Requests per minute.")
@click.option("--tpm", type=int, help="Tokens per minute.")
@click.option("--max-concurrent", type=int, help="Requests at once.")
@click.option("--budget", metavar="USD/PERIOD", help="US dollars per day, week or month, such as 50/month.")
@click.option("--expires", metavar="TIME", help="How long it is good, such as 90d or 12h.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="The class of its requests; they can ask for less.")
@click.option(
    "--names-callers", is_flag=True, help="Believe X-Infermux-Caller; otherwise the caller is the key's name."
)
def create(path: str | None, as_json: bool, models: Sequence[str], groups: Sequence[str], **given: Any) -> None:
    """Make a key and print it, once."""
    fields = {
        "name": given["name"],
        "models": _listed(models),
        "groups": _listed(groups),
        "requests_per_minute": given["rpm"],
        "tokens_per_minute": given["tpm"],
        "names_callers": given["names_callers"] or None,
        **{field: given[field] for field in ("max_concurrent", "budget", "expires", "priority")},
    }
    try:
        declared = read_declaration(fields)
    except InvalidRequest as wrong:
        raise _usage(wrong) from None
    config, now = load(path), time.time()
    expires_at = None if declared.lifetime is None else now + declared.lifetime
    text, stored = new_key(name=declared.name, allows=declared.allows, now=now, expires_at=expires_at)
    _kept(config).add(stored)
    for doubt in doubts(stored.allows, config):
        click.echo(f"warning: {doubt}", err=True)
    _print_key(config, text.reveal(), stored, now, as_json)


@keys.command("list")
@options.config
@options.as_json
@click.option("--all", "everything", is_flag=True, help="Revoked and expired ones too.")
def list_(path: str | None, as_json: bool, everything: bool) -> None:
    """List the keys."""
    now = time.time()
    found = [key.shown(now) for key in _kept(load(path)).load() if everything or key.state(now) == "active"]
    if as_json:
        print_json({"keys": found})
        return
    rows = [
        (
            *(key[field] for field in ("id", "name", "state")),
            _words(key["models"]),
            _words(key["groups"]),
            _limits(key),
            key["budget"] or "",
            key["priority"],
            key["expires_at"] or "never",
        )
        for key in found
    ]
    print_table(("ID", "NAME", "STATE", "MODELS", "GROUPS", "LIMITS", "BUDGET", "PRIORITY", "EXPIRES"), rows)


@keys.command()
@options.config
@options.as_json
@click.argument("key")
def show(path: str | None, as_json: bool, key: str) -> None:
    """Show all that is kept of KEY, an id or a name; never the key itself."""
    kept, now = _kept(load(path)), time.time()
    wanted = pick(key, kept.load())
    shown = {**wanted.shown(now), "spent_usd": _spent(kept, wanted, now)}
    if as_json:
        print_json(shown)
        return
    width = max(map(len, shown))
    for name, value in shown.items():
        click.echo(f"{name.ljust(width)}  {_said(value)}")


@keys.command()
@options.config
@options.as_json
@click.argument("key")
def revoke(path: str | None, as_json: bool, key: str) -> None:
    """End KEY, an id or a name, for good. Routers that run refuse it within two seconds."""
    now = time.time()

    def revoked(found: Sequence[StoredKey]) -> tuple[StoredKey, None]:
        wanted = pick(key, found)
        return (wanted if wanted.revoked_at is not None else attrs.evolve(wanted, revoked_at=now)), None

    stored, _ = _kept(load(path)).change(revoked)
    if as_json:
        print_json(stored.shown(now))
    else:
        click.echo(f"revoked {stored.name} ({stored.id})")


@keys.command()
@options.config
@options.as_json
@click.argument("key")
@click.option("--keep-old", metavar="TIME", help="How long the old secret stays good too, such as 1h; else not at all.")
def rotate(path: str | None, as_json: bool, key: str, keep_old: str | None) -> None:
    """Give KEY, an id or a name, a new secret and print it, once. Name, limits and budget stay."""
    try:
        seconds = read_keep_old({"keep_old": keep_old})
    except InvalidRequest as wrong:
        raise _usage(wrong) from None
    config, now = load(path), time.time()

    def anew(found: Sequence[StoredKey]) -> tuple[StoredKey, str]:
        wanted = pick(key, found)
        text, changed = rotated(wanted, now=now, keep_old=seconds)
        return changed, text.reveal()

    stored, text = _kept(config).change(anew)
    _print_key(config, text, stored, now, as_json)


def _kept(config: Config) -> KeyFile:
    if config.ledger.url is None:
        raise InvalidRequest(f"{config.source} has ledger.url: null, so there is no database to keep keys in")
    return KeyFile(Store(Place.of(config.ledger.url.reveal())))


def _spent(kept: KeyFile, key: StoredKey, now: float) -> float | None:
    """US dollars of its budget in this period, as far as a running router has written them down."""
    budget = key.allows.budget
    if budget is None:
        return None
    term = Term("key", budget.period, int(bounds(budget.period, now)[0]))
    rows = kept.store.read(lambda session: spent(session, [term], now))
    return sum(row.amount for row in rows if row.name == key.id) / NANO


def _print_key(config: Config, text: str, stored: StoredKey, now: float, as_json: bool) -> None:
    """The key alone on stdout, so that it can be caught; what is to be said about it on stderr."""
    if as_json:
        print_json({"key": text, **stored.shown(now)})
    else:
        click.echo(text)
        click.echo(f"{stored.name} ({stored.id}): {_ONCE}", err=True)
    if config.auth.mode is not AuthMode.KEYS:
        click.echo(
            f"note: {config.source} has auth.mode: {config.auth.mode.value}; keys are asked for with auth.mode: keys",
            err=True,
        )


def _usage(wrong: InvalidRequest) -> click.UsageError:
    field = wrong.param or ""
    option = _OPTIONS.get(field, f"--{field}")
    return click.UsageError(f"{option}{wrong.message.removeprefix(field)}")


def _listed(given: Sequence[str]) -> list[str] | None:
    if not given:
        return None
    return [part.strip() for text in given for part in text.split(",") if part.strip()]


def _said(value: object) -> str:
    if isinstance(value, list):
        return _words(cast("list[str]", value))
    return "-" if value is None else str(value)


def _words(items: Sequence[str]) -> str:
    return ", ".join(items) or "all"


def _limits(key: dict[str, Any]) -> str:
    named = (("requests_per_minute", "rpm"), ("tokens_per_minute", "tpm"), ("max_concurrent", "at once"))
    return ", ".join(f"{key[field]} {word}" for field, word in named if key[field] is not None)
