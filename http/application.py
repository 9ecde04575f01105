"""One router with its front end: what `infermux serve` runs, and what any ASGI server can run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from infermux.actors.fleet import AdapterMaker, Fleet, open_fleet
from infermux.config.settings import Config
from infermux.config.values import address
from infermux.secret import Secret

from .access import HostRule
from .inference import Inference
from .management import Management, management_app

TOKEN_VARIABLE = "INFERMUX_MANAGEMENT_TOKEN"  # noqa: S105 - the name of a variable


@attrs.frozen(kw_only=True)
class Application:
    """A running router and its handlers: `inference` for exchanges, `app` (ASGI) for everything else on `listen`,

    `management_app` for `management_listen` where that is set."""

    config: Config
    fleet: Fleet
    inference: Inference
    app: Any
    management_app: Any | None


@asynccontextmanager
async def open_application(
    config: Config, *, environ: Mapping[str, str] | None = None, adapters: AdapterMaker | None = None
) -> AsyncIterator[Application]:
    """Run the actors of `config` and make the handlers for them. Leaving the block ends the actors."""
    env = os.environ if environ is None else environ
    async with open_fleet(config, environ=env, adapters=adapters) as fleet:
        listens = [config.listen, *([config.management_listen] if config.management_listen else [])]
        rule = HostRule.made(config, listens)
        inference = Inference(fleet, config, rule)
        token = env.get(TOKEN_VARIABLE)
        management = Management(
            fleet=fleet,
            config=config,
            inference=inference,
            host_rule=rule,
            token=Secret(token) if token else None,
            token_required=not address(listens[-1]).is_loopback,
            started_at=trio.current_time(),
        )
        separate = config.management_listen is not None
        yield Application(
            config=config,
            fleet=fleet,
            inference=inference,
            app=management_app(management, managed=not separate),
            management_app=management_app(management, public=False) if separate else None,
        )
