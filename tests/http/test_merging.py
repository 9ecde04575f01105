"""What the worker that was asked does beside asking the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
import pytest
import trio
from quart_trio import QuartTrio

from infermux.http.merging import add_merged
from infermux.http.siblings import Told

PREFIX = "/_infermux"
ROW = {"routable": True, "reason": None, "health": "healthy", "circuit": "closed", "in_flight": 0}


@attrs.define(eq=False)
class FakeSiblings:
    """`status` is what each worker answers with, None for one that is late."""

    status: list[int | None]
    told: list[tuple[str, str, Sequence[int]]] = attrs.field(factory=list[tuple[str, str, Sequence[int]]])
    asked: list[str] = attrs.field(factory=list[str])

    @property
    def of(self) -> int:
        return len(self.status)

    async def ask_all(self, _method: str, target: str, *, within: float = 1.0) -> Sequence[Told | None]:
        del within
        self.asked.append(target)
        return [
            None if status is None else Told(place=place, status=status, headers={}, body=msgspec.json.encode(ROW))
            for place, status in enumerate(self.status)
        ]

    async def commanded(self, provider: str, verb: str, missed: Sequence[int]) -> None:
        self.told.append((provider, verb, missed))


def app_of(siblings: FakeSiblings, nursery: trio.Nursery) -> QuartTrio:
    app = QuartTrio(__name__)
    made: Any = siblings
    add_merged(app, made, nursery, PREFIX)

    @app.post(f"{PREFIX}/providers/<name>/<verb>")
    async def command(name: str, verb: str) -> dict[str, Any]:
        return {"alone": [name, verb]}

    @app.get(f"{PREFIX}/explain/<path:request_id>")
    async def explain(request_id: str) -> dict[str, Any]:
        return {"alone": request_id}

    @app.post(f"{PREFIX}/keys")
    async def make() -> tuple[dict[str, Any], int]:
        return {"key": "sk-made", "name": "made"}, 201

    @app.delete(f"{PREFIX}/keys/<name>")
    async def revoke(name: str) -> tuple[dict[str, Any], int]:
        return ({"error": "no"}, 404) if name == "unknown" else ({"name": name}, 200)

    return app


@pytest.mark.parametrize(
    ("status", "missed"),
    [([200, 200], []), ([200, None, 200], [1]), ([404, 404], None)],
)
async def test_the_leader_hears_of_a_command_that_was_carried_out_and_who_missed_it(
    status: list[int | None], missed: list[int] | None
) -> None:
    siblings = FakeSiblings(status)
    async with trio.open_nursery() as nursery:
        answer = await app_of(siblings, nursery).test_client().post(f"{PREFIX}/providers/a/disable")
    assert siblings.told == ([] if missed is None else [("a", "disable", missed)])
    assert answer.status_code == max(each or 0 for each in status)
    if missed is not None:
        assert (await answer.get_json())["workers_missing"] == missed


async def test_who_has_not_looked_at_a_changed_key_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        client = app_of(FakeSiblings([200, None, 503]), nursery).test_client()
        made = await client.post(f"{PREFIX}/keys")
        assert made.status_code == 201
        assert await made.get_json() == {"key": "sk-made", "name": "made", "workers_missing": [1, 2]}
        assert "workers 1, 2 have not looked at the keys yet" in caplog.text
        refused = await client.delete(f"{PREFIX}/keys/unknown")
        assert await refused.get_json() == {"error": "no"}
        client = app_of(FakeSiblings([200, 200]), nursery).test_client()
        revoked = await client.delete(f"{PREFIX}/keys/a")
        assert await revoked.get_json() == {"name": "a", "workers_missing": []}


@pytest.mark.parametrize(
    "target",
    ["/explain/a%3Fb%23c%2541", "/explain/a%20b/%C3%A9", "/explain/plain?more=a%26b", "/explain/%3F?c=%23"],
)
async def test_what_was_asked_for_is_asked_of_the_others_as_it_came(target: str) -> None:
    """Callers choose the ids of their requests, which may have what ends a path."""
    siblings = FakeSiblings([200, 200])
    async with trio.open_nursery() as nursery:
        answer = await app_of(siblings, nursery).test_client().get(f"{PREFIX}{target}")
    assert answer.status_code == 200
    assert siblings.asked == [f"{PREFIX}{target}"]
