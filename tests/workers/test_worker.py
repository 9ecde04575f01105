"""What a worker does with what it is told by the one that leads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.kit_errors import ActorDied
from infermux.actors.provider_messages import Verb
from infermux.actors.share import WHOLE, Share
from infermux.config import load_text
from infermux.config.settings import Config
from infermux.errors import ConfigError, InfermuxError, NotFound, Problem, ShuttingDown
from infermux.workers.link import LinkLost
from infermux.workers.messages import Begin, CatchUp, Latest, Load, NotLoaded, Obey, Word
from infermux.workers.worker import Worker

OLD, NEW = (
    load_text(f"providers: [{{name: a, type: ollama}}]\nrouting: {{strategy: {strategy}}}\n")
    for strategy in ("random", "priority")
)
SHARED = load_text("providers: [{name: a, type: ollama}]\nstate: {url: 'redis://h', nodes: 2}\n")


def worker(application: Any, link: Any = None, config: Config = OLD) -> Worker:
    begin = Begin(config=config, share=WHOLE, place=0, of=2, folder="/nowhere", cookies=b"")
    return Worker(link, begin, config, application)


def test_its_part_while_redis_is_away_is_the_same_however_many_others_run_just_now() -> None:
    begin = worker(None).begin
    dealt = Share(1, 2, late=True)  # of four, two of which are about to be started again
    for config, part in ((OLD, dealt), (SHARED, Share(3, 4))):
        began = attrs.evolve(begin, config=config, share=dealt, place=3, of=4)
        link: Any = None
        assert Worker(link, began, config).share == part


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


async def test_it_does_as_an_operator_has_said_with_the_providers_that_it_has() -> None:
    done: list[tuple[str, Verb]] = []

    async def command(name: str, verb: Verb) -> None:
        if name == "unknown":
            raise NotFound("no")
        if name == "restarting":
            raise ActorDied(name)
        done.append((name, verb))

    one = worker(SimpleNamespace(fleet=SimpleNamespace(command=command)))
    await one.answer(Obey({"a": "disable", "unknown": "drain", "restarting": "drain", "b": "drain"}))
    assert done == [("a", Verb.DISABLE), ("b", Verb.DRAIN)]


def reloading(done: list[Any], refused: Exception | None = None) -> Any:
    """An application that reloads, and does what operators say."""

    async def reload(*, dry_run: bool) -> Any:
        if refused is not None:
            raise refused
        done.append("reloads")
        return SimpleNamespace(as_json=dict, difference=SimpleNamespace(lines=list))

    async def command(name: str, verb: Verb) -> None:
        done.append((name, verb))

    return SimpleNamespace(reloader=SimpleNamespace(reload=reload), fleet=SimpleNamespace(command=command))


def telling(latest: Latest | None) -> Any:
    """A link to a leader that says what has changed; None: it is gone."""

    async def ask(message: Any) -> Latest:
        assert message == CatchUp()
        if latest is None:
            raise LinkLost
        return latest

    return SimpleNamespace(ask=ask)


@pytest.mark.parametrize(
    ("latest", "changed", "done"),
    [
        (Latest(NEW, {"a": "drain"}), True, ["reloads", ("a", Verb.DRAIN)]),
        (Latest(None, {}), False, []),
        (None, False, []),
    ],
)
async def test_before_it_listens_it_takes_what_has_changed_while_it_was_starting(
    latest: Latest | None, changed: bool, done: list[Any]
) -> None:
    happened: list[Any] = []
    one = worker(None, telling(latest))
    assert await one.catch_up(reloading(happened)) is changed
    assert happened == done
    assert one.latest is (NEW if changed else OLD)


async def test_one_that_cannot_take_what_has_changed_does_not_listen() -> None:
    refused = ConfigError([Problem("f", 1, "a", "is bad")])
    with pytest.raises(InfermuxError, match=r"reloaded meanwhile cannot be taken: .* is bad"):
        await worker(None, telling(Latest(NEW, {}))).catch_up(reloading([], refused))


@pytest.mark.parametrize("verb", list(Verb))
async def test_it_tells_the_leader_what_is_to_last(verb: Verb) -> None:
    told: list[Any] = []

    async def ask(message: Any) -> None:
        told.append(message)

    await worker(None, SimpleNamespace(ask=ask)).siblings.commanded("a", verb.value, [1])
    lasts = verb in (Verb.ENABLE, Verb.DISABLE, Verb.DRAIN)
    assert told == ([Word("a", verb.value, (1,))] if lasts else [])


async def test_a_leader_that_is_stopped_holds_up_no_operator(autojump_clock: MockClock) -> None:
    async def ask(_message: Any) -> None:
        await trio.sleep_forever()

    with trio.fail_after(5):
        await worker(None, SimpleNamespace(ask=ask)).siblings.commanded("a", "disable", [1])
