"""What the management API answers, as schemas: the shapes that `overview`, `explain`, `gate_view` and others write.

Where a type of the code says the shape, it is read from there; where a function puts a document together, the shape
stands here and tests hold the two together.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

from infermux.actors.cache import Tally
from infermux.actors.ledger import LedgerStatistics
from infermux.actors.messages import Circuit, Health, Reason
from infermux.config.difference import Change, Impact
from infermux.config.settings import AuthMode, Config, Price
from infermux.costs import GROUPS, KEY_NAME, CostLine
from infermux.keys import PERIODS, PRIORITIES
from infermux.providers.interface import Usage
from infermux.providers.prices import Quote

from .errors import problem
from .provider_documents import provider, transition
from .request_documents import decision, explanation, running
from .shapes import (
    COUNT,
    FLAG,
    MOMENT,
    NUMBER,
    SECONDS,
    TEXT,
    Schema,
    Types,
    listed,
    mapping,
    maybe,
    one_of,
    record,
    ref,
    values_of,
)


def documents() -> dict[str, Schema]:
    """Every schema by its name under `components`."""
    types, config = Types(), Types("Config")
    types.of(Usage)
    types.of(Price)
    types.of(Change)
    config.of(Config)
    return {
        **types.components,
        **config.components,
        "Health": record({"status": {"const": "ok"}, "version": TEXT}),
        "Accepting": record({"accepting": FLAG}, optional={"reason": {"const": "draining"}}),
        "Ready": _merged(_ready()),
        "Status": _merged(_status(), workers=_worker()),
        "Provider": _merged(provider(), workers=_seen_by_worker()),
        "Providers": _merged(record({"providers": listed(ref("Provider"))})),
        "RunningRequest": _from_one(running()),
        "RunningRequests": _merged(record({"running": COUNT, "requests": listed(ref("RunningRequest"))})),
        "Killed": _merged(record({"id": TEXT, "killed": {"type": "integer", "minimum": 1}})),
        "Decision": _from_one(record(decision())),
        "Decisions": _merged(record({"kept": COUNT, "decisions": listed(ref("Decision"))})),
        "Explanation": _merged(_from_one(explanation())),
        "Overview": _merged(record({**_snapshot(), "decisions": listed(ref("Decision"))}), workers=_standing_of_one()),
        "Snapshot": _merged(record({**_snapshot(), "requests_left_out": COUNT}), workers=_standing_of_one()),
        "ProviderChange": _from_one(record({**transition(), "provider": TEXT, "at": NUMBER})),
        "Cache": {"anyOf": [_merged(record({"enabled": {"const": False}})), _merged(_cache())]},
        "CacheEmptied": _merged(record({"entries": COUNT, "bytes": COUNT})),
        "Prices": record({"prices": listed(_priced())}),
        "Budgets": _merged(record({"budgets": listed(_budget())})),
        "ExceededBudget": _from_one(
            record({"budget": TEXT, "limit_usd": NUMBER, "spent_usd": NUMBER, "hard": FLAG, "until": MOMENT})
        ),
        "Costs": _costs(types),
        "Key": _merged(record(_key())),
        "NewKey": _merged(
            record({"key": {**TEXT, "pattern": "^ifx_[a-z2-7]{12}_[a-z2-7]{52}$"}, **_key(), "warnings": listed(TEXT)})
        ),
        "Keys": _merged(record({"keys": listed(ref("Key"))})),
        "Reloaded": _reloaded(),
        "Model": _model(),
        "Models": record({"object": {"const": "list"}, "data": listed(ref("Model"))}),
        "AnthropicModel": _anthropic_model(),
        "AnthropicModels": record(
            {
                "data": listed(ref("AnthropicModel")),
                "has_more": {"const": False},
                "first_id": maybe(TEXT),
                "last_id": maybe(TEXT),
            }
        ),
    }


# Several workers.


def _with(schema: Schema, members: dict[str, Schema]) -> Schema:
    """An object that may have these members too."""
    return {**schema, "properties": {**schema["properties"], **members}}


def _merged(schema: Schema, *, workers: Schema | None = None) -> Schema:
    """An answer that was made of those of several workers: who has not answered, and how each of them is."""
    missing = {**listed(COUNT), "description": "workers that did not answer; absent where there is one process"}
    return _with(schema, {"workers_missing": missing, **({} if workers is None else {"workers": listed(workers)})})


def _from_one(schema: Schema) -> Schema:
    """Something that one of several workers told."""
    return _with(schema, {"worker": {**COUNT, "description": "which worker; absent where there is one process"}})


def _standing_of_one() -> Schema:
    return record({"worker": COUNT, "in_flight": COUNT, "ready": FLAG})


def _worker() -> Schema:
    standing = {key: _standing()[key] for key in ("uptime_seconds", "ready", "draining", "in_flight", "event_loop")}
    return record({"worker": COUNT, **standing, "routable": COUNT})


def _seen_by_worker() -> Schema:
    return record(
        {
            "worker": COUNT,
            "routable": FLAG,
            "reason": maybe(values_of(Reason)),
            "health": values_of(Health),
            "circuit": values_of(Circuit),
            "in_flight": COUNT,
        }
    )


# The router.


def _ready() -> Schema:
    return record({"ready": FLAG}, optional={"reason": one_of(("draining", "no routable provider"))})


def _cache() -> Schema:
    """Of one that is turned on."""
    counted = dict.fromkeys((*attrs.fields_dict(Tally), "max_bytes", "largest_answer", "bytes", "entries"), COUNT)
    return record(
        {
            "enabled": {"const": True},
            "shared": FLAG,
            "ttl_seconds": SECONDS,
            **counted,
            "under_way": COUNT,
            "hit_rate": maybe({**NUMBER, "minimum": 0, "maximum": 1}),
        }
    )


def _event_loop() -> Schema:
    last = record({"task": TEXT, "ms": COUNT})
    return record({"holds": COUNT, "longest_ms": COUNT, "last": maybe(last)})


def _status() -> Schema:
    row = {
        "name": TEXT,
        "type": TEXT,
        "routable": FLAG,
        "reason": maybe(values_of(Reason)),
        "health": values_of(Health),
        "circuit": values_of(Circuit),
        "in_flight": COUNT,
    }
    counts = dict.fromkeys(("nodes", "rounds", "failures", "outages", "written_back"), COUNT)
    state = {"place": TEXT, "degraded": FLAG, "trouble": maybe(TEXT), "node": TEXT, **counts}
    ledger = {"database": TEXT, **Types().members(LedgerStatistics)}
    return record(
        {
            **_standing(),
            "default_model": maybe(TEXT),
            "routable": COUNT,
            "tasks": COUNT,
            "state": maybe(record(state)),
            "ledger": maybe(record(ledger)),
            "providers": listed(_with(record(row), {"workers": listed(_seen_by_worker())})),
        }
    )


def _standing() -> dict[str, Schema]:
    """What `status` and the overview both say."""
    return {
        "version": TEXT,
        "uptime_seconds": SECONDS,
        "ready": FLAG,
        "draining": FLAG,
        "in_flight": COUNT,
        "strategy": TEXT,
        "event_loop": _event_loop(),
    }


def _snapshot() -> dict[str, Schema]:
    step = {
        "type": "array",
        "description": "its number, attempts that went well and that failed, average seconds of an answer and to its "
        "first token",
        "prefixItems": [COUNT, COUNT, COUNT, maybe(SECONDS), maybe(SECONDS)],
        "minItems": 5,
        "maxItems": 5,
    }
    history = {"seconds": SECONDS, "steps": COUNT, "now": COUNT, "providers": mapping(listed(step))}
    return {
        "at": NUMBER,
        **_standing(),
        "ledger": FLAG,
        "auth": values_of(AuthMode),
        "providers": listed(ref("Provider")),
        "requests": listed(ref("RunningRequest")),
        "history": record(history),
    }


# Money.


def _priced() -> Schema:
    told = {name: schema for name, schema in _quote() if name != "until"}
    return record({"provider": TEXT, "model": TEXT, **told})


def _quote() -> Iterator[tuple[str, Schema]]:
    for name, schema in Types().members(Quote).items():
        yield name, maybe(ref("Price")) if name == "price" else schema


def _budget() -> Schema:
    return record(
        {
            "budget": TEXT,
            "scope": one_of(("", "all", "caller", "key", "tag", "group")),
            "name": TEXT,
            "key_name": maybe(TEXT),
            "period": one_of(PERIODS),
            "hard": FLAG,
            "limit_usd": NUMBER,
            "spent_usd": NUMBER,
            "reserved_usd": NUMBER,
            "left_usd": SECONDS,
            "exceeded": FLAG,
            "unpriced_answers": COUNT,
            "since": MOMENT,
            "until": MOMENT,
        }
    )


def _costs(types: Types) -> Schema:
    numbers = {name: schema for name, schema in types.members(CostLine).items() if name != "group"}
    names: dict[str, Schema] = {group: TEXT for group in (*GROUPS, KEY_NAME)}  # noqa: C420 - its keys are texts
    line = {**record(numbers, optional=names), "patternProperties": {"^tag:.": TEXT}}
    return record(
        {
            "since": maybe(MOMENT),
            "until": maybe(MOMENT),
            "group_by": listed(TEXT),
            "costs": listed(line),
            "total": record(numbers),
        }
    )


# Keys.


def _key() -> dict[str, Schema]:
    use = {"in_flight": COUNT, "requests_left": maybe(NUMBER), "tokens_left": maybe(NUMBER)}
    limit = maybe({"type": "integer", "minimum": 1})
    return {
        "id": {**TEXT, "pattern": "^[a-z2-7]{12}$"},
        "name": TEXT,
        "state": one_of(("active", "expired", "revoked")),
        "created_at": MOMENT,
        "expires_at": maybe(MOMENT),
        "revoked_at": maybe(MOMENT),
        "old_secret_until": maybe(MOMENT),
        "models": listed(TEXT),
        "groups": listed(TEXT),
        "requests_per_minute": limit,
        "tokens_per_minute": limit,
        "max_concurrent": limit,
        "budget": maybe(TEXT),
        "priority": one_of(PRIORITIES),
        "names_callers": FLAG,
        "spent_usd": maybe(SECONDS),
        "use": maybe(record(use)),
    }


# The configuration, and the models.


def _reloaded() -> Schema:
    changes = listed(ref("Change"))
    impact = one_of(_lower(Impact))
    difference = {
        "added": listed(TEXT),
        "removed": listed(TEXT),
        "changed": listed(record({"name": TEXT, "impact": impact, "changes": changes})),
        "unchanged": listed(TEXT),
        "reordered": FLAG,
        "settings": changes,
        "needs_restart": changes,
    }
    return record(
        {
            "file": TEXT,
            "dry_run": FLAG,
            "changed": FLAG,
            "difference": record(difference),
            "summary": listed(TEXT),
            "warnings": listed(problem()),
        }
    )


def _lower(kind: type[enum.Enum]) -> Iterator[str]:
    return (member.name.lower() for member in kind)


def _model() -> Schema:
    return record(
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": TEXT,
            "providers": listed(TEXT),
        }
    )


def _anthropic_model() -> Schema:
    return record({"type": {"const": "model"}, "id": TEXT, "display_name": TEXT, "created_at": MOMENT})
