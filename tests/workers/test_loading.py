"""A reload is checked once, taken by one worker after the other, and by all or by none."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from infermux.config import load_text
from infermux.config.settings import Config
from infermux.errors import ConfigError, Problem
from infermux.workers.loading import Reloads
from infermux.workers.messages import Done, Load, NotLoaded


def configuration(strategy: str) -> Config:
    return load_text(f"providers: [{{name: a, type: ollama}}]\nrouting: {{strategy: {strategy}}}\n")


OLD, NEW = configuration("random"), configuration("priority")


@attrs.define(eq=False)
class FakeChild:
    place: int
    refuses: Exception | None = None
    gone: bool = False
    taken: list[str] = attrs.field(factory=list[str])
    listens: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class FakeCrew:
    """What `Reloads` needs of a crew."""

    children: dict[int, FakeChild]
    config: Config = OLD
    draining: bool = False
    words: dict[str, str] = attrs.field(factory=dict[str, str])
    drained_after: FakeChild | None = None
    loading: trio.Lock = attrs.field(factory=trio.Lock)

    async def ask(self, child: FakeChild, message: Any) -> Any:
        assert isinstance(message, Load)
        if child.gone:
            return None
        if child.refuses is not None:
            raise child.refuses
        child.taken.append(("? " if message.dry_run else "") + message.config.routing.strategy)
        self.draining = child is self.drained_after
        return Done(told={"changed": True, "summary": []}, lines=("something",))


def crew(*children: FakeChild) -> FakeCrew:
    for child in children:
        child.listens.set()
    return FakeCrew({child.place: child for child in children})


def reloads(of: FakeCrew, config: Config = NEW, warnings: tuple[Problem, ...] = ()) -> Reloads:
    made: Any = Reloads(lambda: (config, list(warnings)), of)  # type: ignore[arg-type]
    return made  # type: ignore[no-any-return]


async def test_all_workers_take_it_and_those_that_start_later_too() -> None:
    both = crew(FakeChild(0), FakeChild(1))
    warning = Problem("f", 3, "x", "has no effect")
    told = await reloads(both, warnings=(warning,)).asked(False)
    assert [child.taken for child in both.children.values()] == [["priority"], ["priority"]]
    assert both.config.routing.strategy == "priority"
    assert told["warnings"] == [attrs.asdict(warning)]


@pytest.mark.parametrize("error", [NotLoaded("it does not start"), RuntimeError("it does not start")])
async def test_where_one_cannot_take_it_those_that_have_go_back(error: Exception) -> None:
    both = crew(FakeChild(0), FakeChild(1, refuses=error))
    with pytest.raises(type(error), match="does not start"):
        await reloads(both).asked(False)
    assert both.children[0].taken == ["priority", "random"]
    assert both.config is OLD


async def test_when_the_end_comes_between_two_nobody_has_to_go_back(caplog: pytest.LogCaptureFixture) -> None:
    both = crew(FakeChild(0), FakeChild(1, refuses=NotLoaded("the router is shutting down")))
    both.drained_after = both.children[0]
    with pytest.raises(NotLoaded, match="shutting down"):
        await reloads(both).asked(False)
    assert both.children[0].taken == ["priority"]
    assert "cannot go back" not in caplog.text


async def test_what_was_said_of_a_provider_that_is_no_more_is_forgotten() -> None:
    both = crew(FakeChild(0))
    both.words = {"a": "disable", "gone": "disable"}
    await reloads(both).asked(True)
    assert both.words.keys() == {"a", "gone"}
    await reloads(both).asked(False)
    assert both.words == {"a": "disable"}


async def test_a_dry_run_asks_one_and_changes_none() -> None:
    both = crew(FakeChild(0), FakeChild(1))
    await reloads(both).asked(True)
    assert [child.taken for child in both.children.values()] == [["? priority"], []]
    assert both.config is OLD


async def test_a_worker_that_is_gone_takes_it_when_it_comes_back() -> None:
    both = crew(FakeChild(0, gone=True), FakeChild(1))
    await reloads(both).asked(False)
    assert both.config.routing.strategy == "priority"


async def test_what_is_wrong_with_the_file_no_worker_hears_of() -> None:
    both = crew(FakeChild(0))

    def read() -> tuple[Config, list[Problem]]:
        raise ConfigError([Problem("f", 1, "providers", "is bad")])

    with pytest.raises(NotLoaded) as caught:
        await Reloads(read, both).asked(False)  # type: ignore[arg-type]
    assert [problem.path for problem in caught.value.problems] == ["providers"]
    assert both.children[0].taken == []


@pytest.mark.parametrize("draining", [True, False])
async def test_without_a_file_or_while_it_ends_there_is_none(draining: bool) -> None:
    both = crew(FakeChild(0))
    both.draining = draining
    with pytest.raises(NotLoaded, match="shutting down" if draining else "nothing to reload"):
        await Reloads(None, both).asked(False)  # type: ignore[arg-type]


async def test_that_nobody_answers_is_told() -> None:
    with pytest.raises(NotLoaded, match="no worker answers"):
        await reloads(crew(FakeChild(0, gone=True))).asked(False)
