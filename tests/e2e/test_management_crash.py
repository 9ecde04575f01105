"""Management while a provider's actor is restarting: its page and the list of all say so."""

from __future__ import annotations

from typing import NoReturn

import pytest

from infermux.actors import opening
from infermux.actors.supervisor import Backoff
from tests.e2e._router import provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream


class Poison:
    """Matching this against anything is a crash."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError("poison")


async def test_a_restarting_provider_is_listed_as_crashed_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "RESTARTS", Backoff(base=0.6, max=0.6))  # looked at three times meanwhile
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), provider("two", upstream), crashes=True) as router,
    ):
        assert router.application is not None
        router.application.fleet.members["one"].ref.tell(Poison())
        rows = (await router.web.get("/_infermux/providers")).json()["providers"]
        assert [(row["name"], row["routable"], row["reason"]) for row in rows] == [
            ("one", False, "crashed"),
            ("two", True, None),
        ]
        assert (await router.provider("one"))["reason"] == "crashed"
        status = await router.status()
        assert [row["reason"] for row in status["providers"]] == ["crashed", None]
        assert status["routable"] == 1
        await router.wait_for("one", routable=True)
