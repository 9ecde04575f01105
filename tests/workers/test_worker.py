"""What a worker does with what it is told by the one that leads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from infermux.actors.kit_errors import ActorDied
from infermux.actors.share import WHOLE
from infermux.config import load_text
from infermux.config.settings import Config
from infermux.errors import ConfigError, Problem, ShuttingDown
from infermux.workers.messages import Begin, Load, NotLoaded
from infermux.workers.worker import Worker

OLD, NEW = (
    load_text(f"providers: [{{name: a, type: ollama}}]\nrouting: {{strategy: {strategy}}}\n")
    for strategy in ("random", "priority")
)


def worker(application: Any, config: Config = OLD) -> Worker:
    link: Any = None
    begin = Begin(config=config, share=WHOLE, place=0, of=2, folder="/nowhere", cookies=b"")
    return Worker(link, begin, config, application)


def failing(error: Exception) -> Any:
    async def reload(*, dry_run: bool) -> None:
        raise error

    return SimpleNamespace(reloader=SimpleNamespace(reload=reload))


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [
        (ConfigError([Problem("f", 1, "a", "is bad")]), "is bad", 400),
        (ShuttingDown("it ends"), "it ends", 503),
        (ActorDied("router"), "ActorDied", 500),
        (KeyError("sk-secret"), "failed at it: KeyError", 500),
    ],
)
async def test_a_configuration_that_fails_is_refused_whatever_the_reason(
    error: Exception, said: str, status: int
) -> None:
    one = worker(failing(error))
    with pytest.raises(NotLoaded, match=said) as caught:
        await one.answer(Load(NEW))
    assert (caught.value.status, one.latest) == (status, OLD)
    assert "sk-secret" not in caught.value.message


async def test_one_that_is_starting_says_so() -> None:
    with pytest.raises(NotLoaded, match="starting"):
        await worker(None).answer(Load(NEW))
