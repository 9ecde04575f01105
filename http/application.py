"""One router with its front end: what `infermux serve` runs, and what any ASGI server can run."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from infermux.actors.fleet import ROUTER_SLACK, AdapterMaker, Fleet
from infermux.actors.keys import Keys, start_keys
from infermux.actors.ledger import Books, open_ledger
from infermux.actors.opening import open_fleet
from infermux.actors.share import WHOLE, Share
from infermux.config.settings import AuthMode, Config
from infermux.config.values import address
from infermux.database.budgets import DatabaseBudgets
from infermux.database.keys import DatabaseKeys
from infermux.database.place import Place
from infermux.database.worker import Database
from infermux.errors import NotFound
from infermux.providers.arrivals import running
from infermux.secret import Secret
from infermux.watchdog import Watchdog

from .asgi_exchange import AsgiApp, Message, Receive, Scope, Send
from .caching import caching_of
from .dashboard import pages
from .door_log import DoorLog
from .errors import error_answer
from .inference import Inference
from .management import PREFIX, Management, local_app, local_polled, management_app, management_polled
from .observing import observe, overlook
from .polled import Polled
from .reloading import Load, Reloader
from .rules import Rules
from .siblings import Siblings
from .sign_in import Door, Visits

CLOSE_GRACE = 2.0  # seconds the database has to close
FLUSH_PATIENCE = 1.0  # ... and its rows, to be written before budgets are looked up in them
TOKEN_VARIABLE = "INFERMUX_MANAGEMENT_TOKEN"


@attrs.frozen(kw_only=True)
class Application:
    """A running router and its handlers: `inference` for exchanges, `app` (ASGI) for everything else on `listen`,

    `management_app` for `management_listen` where that is set, `local_app` for the other workers, if there are any: it
    answers for this one alone. Of each of these, `polled` is what the express lane can answer in its place. `door_log`
    is to be told of heads that a server refuses.
    """

    fleet: Fleet
    inference: Inference
    reloader: Reloader
    door_log: DoorLog
    app: Any
    management_app: Any | None
    local_app: Any | None = None
    polled: Polled | None = None
    management_polled: Polled | None = None
    local_polled: Polled | None = None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.fleet.config


@asynccontextmanager
async def open_application(
    config: Config,
    *,
    environ: Mapping[str, str] | None = None,
    adapters: AdapterMaker | None = None,
    load: Load | None = None,
    share: Share = WHOLE,
    siblings: Siblings | None = None,
) -> AsyncGenerator[Application]:
    """Run the actors of `config` and make the handlers for them. Leaving the block ends the actors.

    `load` reads the configuration again for a reload; without it there is none. `share` is what is ours of every limit,
    `siblings` are all workers where there are several: whichever is asked answers for all. Whoever holds the event loop
    meanwhile is logged and counted.
    """
    env = os.environ if environ is None else environ
    watchdog = Watchdog()
    async with (
        _database(config) as database,
        # Each with threads and connections of its own: a long report must not put a revocation off, nor what others
        # have spent; and budgets take the ledger's rows along, whose table may be locked.
        _database(config) as of_keys,
        _database(config) as of_budgets,
        open_fleet(
            config,
            environ=env,
            adapters=adapters,
            budget_store=(budgets := _budgets(database, of_budgets)),
            share=share,
        ) as fleet,
        _books(fleet, database) as books,
    ):
        if books is not None and budgets is not None:
            budgets.company = books.ledger.lend
            fleet.treasury.keeper.flush = partial(books.flush, FLUSH_PATIENCE)
        fleet.treasury.purses.banked = siblings is not None and fleet.supply is None
        inference = Inference(fleet, Rules.of(config))
        inference.caching = caching_of(fleet)
        reloader = Reloader(fleet=fleet, inference=inference, load=load)
        if of_keys is not None:
            inference.keys = await _open_keys(fleet, of_keys, reloader)
        token = env.get(TOKEN_VARIABLE)
        management = Management(
            fleet=fleet,
            inference=inference,
            reloader=reloader,
            token=Secret(token) if token else None,
            token_required=not address(config.management_listen or config.listen).is_loopback,
            started_at=trio.current_time(),
            watchdog=watchdog,
            metrics=observe(inference, watchdog, books),
            hub=overlook(inference, watchdog),
            books=books,
            door_log=DoorLog(),
            siblings=siblings,
            door=Door(PREFIX, pages(PREFIX), Visits() if siblings is None else Visits(key=siblings.cookies)),
        )
        management.metrics.more.append(management.door_log.values)
        application = _application(management, reloader)
        with watchdog.watching():  # not while the pages are put together, which takes its time
            if (arrivals := running()) is not None:
                arrivals.be_last()
            yield application


def _application(management: Management, reloader: Reloader) -> Application:
    """The handlers: of one address, or of management at its own."""
    door_log, separate = management.door_log, management.fleet.config.management_listen is not None
    alone = management.siblings is None
    return Application(
        fleet=management.fleet,
        inference=management.inference,
        reloader=reloader,
        door_log=door_log,
        app=let_finish(management_app(management, managed=not separate), door_log),
        management_app=let_finish(management_app(management, public=False), door_log) if separate else None,
        local_app=None if alone else local_app(management),
        polled=None if separate else management_polled(management),
        management_polled=management_polled(management, public=False) if separate else None,
        local_polled=None if alone else local_polled(management),
    )


@asynccontextmanager
async def _database(config: Config) -> AsyncGenerator[Database | None]:
    """That of `ledger.url`, opened on first use."""
    if config.ledger.url is None:
        yield None
        return
    database = Database.at(Place.of(config.ledger.url.reveal()))
    try:
        yield database
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_GRACE):
            await database.aclose()


@asynccontextmanager
async def _books(fleet: Fleet, database: Database | None) -> AsyncGenerator[Books | None]:
    if database is None:
        yield None
        return
    async with open_ledger(fleet.supervisor, fleet.journal, database) as books:
        yield books


def _budgets(database: Database | None, own: Database | None) -> DatabaseBudgets | None:
    """In `own`, the same by other connections. A database in memory is another one for each."""
    if database is None or own is None:
        return None
    return DatabaseBudgets(database if database.place.in_memory else own)


async def _open_keys(fleet: Fleet, database: Database, reloader: Reloader) -> Keys:
    """The keys of `database`, read before anybody is let in, unless that takes too long."""
    capacity = fleet.config.limits.max_concurrent_requests + ROUTER_SLACK
    buckets = None if fleet.supply is None else fleet.supply.of_key
    keys = await start_keys(fleet.supervisor, DatabaseKeys(database), capacity=capacity, buckets=buckets)
    keys.table.adopt_share(fleet.share, trio.current_time())
    fleet.sharers.append(keys.table)

    def adopt(config: Config) -> None:
        wanted = config.auth.mode is AuthMode.KEYS
        keys.watch(wanted=wanted)
        fleet.treasury.key_budget = keys.budget_of if wanted else None
        fleet.treasury.key_name = keys.name_of

    adopt(fleet.config)
    reloader.then.append(adopt)
    if fleet.config.auth.mode is AuthMode.KEYS:
        await keys.look()
    return keys


async def refuse_websocket(send: Send) -> None:
    """Answer the opening of a web socket: there are none."""
    headers, body = error_answer(NotFound("there are no web sockets here"))
    await send({"type": "websocket.http.response.start", "status": 404, "headers": list(headers)})
    await send({"type": "websocket.http.response.body", "body": body})


def let_finish(app: Any, door_log: DoorLog) -> AsgiApp:
    """`app` without web sockets, and not told that the caller left once it has said its last word.

    Hypercorn says so from within the last `send`, before it closes a connection that is not to be kept; quart-trio
    cancels the request on hearing it, that `send` included, and the connection would stay open for ever.
    """

    async def heard_out(scope: Scope, receive: Receive, send: Send) -> None:
        ended = False
        if scope["type"] == "websocket":
            door_log.note_refused(404, NotFound.code, scope.get("client"), method="GET", path=scope["path"])
            await refuse_websocket(send)
            return

        async def hear() -> Message:
            message = await receive()
            if ended and message["type"] == "http.disconnect":
                await trio.sleep_forever()  # until the application, which has nothing more to do, ends
            return message

        async def say(message: Message) -> None:
            nonlocal ended
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body", False))
            await send(message)

        await app(scope, *((hear, say) if scope["type"] == "http" else (receive, send)))

    return heard_out
