"""Management of the router's keys: what `infermux keys` does by the database, by a running router instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import msgspec
import trio
from quart import request
from quart_trio import QuartTrio
from werkzeug.routing import PathConverter

from infermux.actors.fleet import Fleet
from infermux.actors.keys import Keys
from infermux.errors import InvalidRequest, KeysUnavailable
from infermux.key_declaration import read_declaration, read_keep_old
from infermux.key_doubts import doubts
from infermux.keys import StoredKey, new_key, pick

from .door_log import did

PATH = "/_infermux/keys"


class KeyName(PathConverter):
    """A key's id or name. A name may have slashes; one that ends as a command does has to be told by its id."""

    regex = r"(?!.*/rotate$)[^/].*?"


def add_keys(app: QuartTrio, keys_of: Callable[[], Keys | None], fleet: Fleet) -> None:
    """The pages below `/_infermux/keys`. A key's text is in the answer to POST, once, and nowhere else."""
    app.url_map.converters["key"] = KeyName

    def shown(keys: Keys, key: StoredKey) -> dict[str, Any]:
        known = keys.table.keys.get(key.id)
        use = None if known is None else known.limits.levels(trio.current_time())
        spent = None if key.allows.budget is None else fleet.treasury.spent_by_key(key.id, key.allows.budget.period)
        return {**key.shown(keys.wall()), "spent_usd": spent, "use": use}

    @app.get(PATH)
    async def keys() -> dict[str, Any]:
        found = _keys(keys_of)
        return {"keys": [shown(found, key) for key in await found.all()]}

    @app.get(f"{PATH}/<key:name>")
    async def key(name: str) -> dict[str, Any]:
        found = _keys(keys_of)
        return shown(found, pick(name, await found.all()))

    @app.post(PATH)
    async def create() -> tuple[dict[str, Any], int]:
        found = _keys(keys_of)
        declared = read_declaration(await _fields())
        now = found.wall()
        expires_at = None if declared.lifetime is None else now + declared.lifetime
        text, stored = new_key(name=declared.name, allows=declared.allows, now=now, expires_at=expires_at)
        await found.create(stored)
        warnings = list(doubts(stored.allows, fleet.config))
        did(key=stored.id, name=stored.name)
        return {"key": text.reveal(), **shown(found, stored), "warnings": warnings}, 201

    @app.delete(f"{PATH}/<key:name>")
    async def revoke(name: str) -> dict[str, Any]:
        found = _keys(keys_of)
        stored = await found.revoke(name)
        did(key=stored.id, name=stored.name)
        return shown(found, stored)

    @app.post(f"{PATH}/<path:name>/rotate")
    async def rotate(name: str) -> dict[str, Any]:
        found = _keys(keys_of)
        text, stored = await found.rotate(name, keep_old=read_keep_old(await _fields()))
        did(key=stored.id, name=stored.name)
        return {"key": text.reveal(), **shown(found, stored), "warnings": []}


def _keys(keys_of: Callable[[], Keys | None]) -> Keys:
    keys = keys_of()
    if keys is None:
        raise KeysUnavailable("this router has no database to keep keys in; set ledger.url")
    return keys


async def _fields() -> dict[str, object]:
    """The body: an object, or nothing."""
    body = await request.get_data(as_text=False)
    try:
        fields: Any = msgspec.json.decode(body) if body.strip() else {}
        if fields:
            json.loads(body, object_pairs_hook=_once)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRequest('the body must be a JSON object such as {"name": "team-a", "budget": "50/month"}')
    return cast("dict[str, object]", fields)


def _once(pairs: list[tuple[str, object]]) -> None:
    """Of a name that is there twice nobody knows which one is meant. Raises InvalidRequest."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"{name[:100]!r} is given twice", param=name[:100])
