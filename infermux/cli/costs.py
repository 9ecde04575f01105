"""`costs`: what requests have cost, read from the ledger's database, whether a server runs or not."""

from __future__ import annotations

import time

import click

from infermux.config import load
from infermux.costs import GROUPS, CostQuery, Costs
from infermux.errors import InfermuxError, InvalidRequest

from . import options
from .output import print_json, print_table


class NoLedger(InfermuxError):
    """There is no ledger to read."""


@click.command()
@options.config
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "--group-by", default="caller,model", metavar="KEYS", show_default=True, help=f"{', '.join(GROUPS)}, tag:NAME."
)
@click.option("--since", default="", metavar="WHEN", help="An age (7d, 24h, 30m, 4w), or a date in UTC: 2026-01-31.")
@click.option("--until", default="", metavar="WHEN", help="The same; the moment itself is no longer in it.")
def costs(*, path: str | None, as_json: bool, as_csv: bool, group_by: str, since: str, until: str) -> None:
    """Tell what requests have cost, the dearest first, from the ledger that the configuration names.

    UNPRICED counts requests whose price nobody knows: they are missing in COST.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    try:
        query = CostQuery.of(group_by=group_by, since=since, until=until, now=time.time())
    except InvalidRequest as refused:
        raise click.UsageError(refused.message.replace("group_by", "--group-by")) from None
    config = load(path)
    if config.ledger.url is None:
        raise NoLedger(f"{config.source}: ledger.url is null: nothing is written down")
    found = _ask(config.ledger.url.reveal(), query)
    if as_json:
        print_json(found.as_json())
    elif as_csv:
        click.echo(found.as_csv(), nl=False)
    else:
        heads, rows = found.as_table()
        print_table(heads, list(rows))


def _ask(url: str, query: CostQuery) -> Costs:
    from infermux.database.costs import costs as ask
    from infermux.database.place import Place
    from infermux.database.store import Store

    place = Place.of(url)
    if place.in_memory:
        raise NoLedger(f"{place}: only the running server has it; ask GET /_infermux/costs")
    store = Store(place, create=False)
    try:
        return store.ask(lambda connection: ask(connection, query))
    finally:
        store.close()
