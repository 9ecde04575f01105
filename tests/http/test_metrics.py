"""What is counted of records, under which labels, and how many of them there can be."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
import trio
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from infermux.actors.record import Ending, Record, Tried
from infermux.config.settings import RateLimits
from infermux.errors import Fault
from infermux.http.exposition import SHORT, Metrics
from infermux.http.inference import Inference
from infermux.http.live_values import Value, live_values
from infermux.http.loop_delay import LoopDelay
from infermux.http.metrics import MOST_LEARNED, MOST_LISTED, Counts, Distribution
from infermux.http.rules import Rules
from infermux.providers.interface import ModelInfo, Usage
from infermux.watchdog import Watchdog
from tests.actors._scripted import PRIORITY, crash, provider, two, world

USAGE = Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=4, reasoning_tokens=2, cache_write_tokens=1)
TRIED = Tried(provider="a", model="m", started=0, ended=1, usage=USAGE, cost=0.5)
ANSWERED = Record(
    id="r",
    at=0,
    endpoint="chat",
    stream=True,
    requested="m",
    provider="a",
    model="m",
    attempts=(TRIED,),
    usage=USAGE,
    cost=0.5,
    latency=3.0,
    first_token=1.0,
    overhead=0.0004,
)


def refused(**more: object) -> Record:
    return Record(id="r", at=0, endpoint="chat", ending=Ending.REFUSED, status=404, **more)  # type: ignore[arg-type]


async def test_an_answer_is_counted_with_its_times_tokens_and_money(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        counts = Counts(w.fleet)
        counts.note(ANSWERED)
        counts.note(ANSWERED)
    assert counts.requests == {("chat", "m", "a", "ok", 200, "", ""): 2}
    times = counts.times["chat", "a", "m"]
    assert (times.duration.sum, times.first_token.sum, times.gap.sum) == (6.0, 2.0, 1.0)
    assert counts.attempts == {("a", "ok", ""): 2}
    used = counts.used["a", "m"]
    assert (used.input, used.output, used.cache_read, used.cache_creation, used.reasoning) == (20, 10, 8, 2, 4)
    assert (used.cost, used.unpriced) == (1.0, 0)


async def test_what_failed_is_counted_by_whose_fault_it_was(autojump_clock: MockClock) -> None:
    tried = [
        Tried(provider="a", model="m", started=0, ended=1, outcome=outcome)
        for outcome in ("server_error", "caller_error", "credentials", "cancelled")
    ]
    async with world(provider("a", "m")) as w:
        counts = Counts(w.fleet)
        counts.note(refused(code="upstream_error", fault=Fault.PROVIDER, attempts=tuple(tried)))
    assert counts.requests == {("chat", "", "", "refused", 404, "upstream_error", "provider"): 1}
    assert set(counts.attempts) == {
        ("a", "server_error", "provider"),
        ("a", "caller_error", "caller"),
        ("a", "credentials", "policy"),
        ("a", "cancelled", ""),
    }
    assert not counts.times


async def test_however_requests_and_attempts_alternate_each_is_counted_once(autojump_clock: MockClock) -> None:
    rng, requests, attempts = random.Random(1), Counter[str](), Counter[tuple[str, str]]()
    async with world(provider("a", "m"), provider("b", "m")) as w:
        counts = Counts(w.fleet)
        for n in range(300):
            names = rng.choices("ab", k=rng.choice((1, 1, 1, 2)))
            outcomes = rng.choices(("ok", "server_error"), k=len(names))
            tried = [
                Tried(provider=name, model="m", started=0, ended=1, outcome=outcome, usage=USAGE, cost=1.0)
                for name, outcome in zip(names, outcomes, strict=True)
            ]
            model = rng.choice(("m", f"made-up-{n}"))
            counts.note(Record(id="r", at=0, requested=model, provider=names[-1], model="m", attempts=tuple(tried)))
            requests[names[-1]] += 1
            attempts.update(zip(names, outcomes, strict=True))
            if rng.random() < 0.1:  # read in between, and in a copy
                assert sum(counts.copy().requests.values()) == n + 1
                assert sum(counts.attempts.values()) == attempts.total()
    assert {key[2]: count for key, count in counts.requests.items()} == requests
    assert {key[:2]: count for key, count in counts.attempts.items()} == attempts
    assert sum(used.cost for used in counts.used.values()) == attempts.total()


async def test_tokens_at_a_price_nobody_knows_are_counted_apart(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        counts = Counts(w.fleet)
        counts.note(Record(id="r", at=0, attempts=(Tried(provider="a", model="m", started=0, ended=1, usage=USAGE),)))
    assert counts.used["a", "m"].unpriced == 1


async def test_names_that_callers_choose_make_no_labels(autojump_clock: MockClock) -> None:
    aliased = provider("a", "m", model_aliases={"smart": "m-2"})
    async with world(aliased, provider("any")) as w:
        counts = Counts(w.fleet)
        for n in range(1000):
            counts.note(refused(requested=f"made-up-{n}", code=f"code-{n}"))
            counts.note(Record(id="r", at=0, provider="any", model=f"open-{n}"))
        labels = {key[1] for key in counts.requests}
        codes = {key[5] for key in counts.requests}
        assert counts.model("smart") == "smart"
        assert counts.model("m-2") == "m-2"
    assert "other" in labels
    assert len(labels) == MOST_LEARNED + 1
    assert len(codes) == MOST_LEARNED + 2


HOSTILE = ["a\x00b", "a\x1b[31mb", "a b", "a\nb", "é", "x" * 129]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
async def test_a_name_that_is_no_plain_word_has_no_label_even_where_it_is_answered(
    autojump_clock: MockClock, name: str
) -> None:
    async with world(provider("any")) as w:
        counts = Counts(w.fleet)
        counts.note(Record(id="r", at=0, provider="any", model=name))
    assert {key[1] for key in counts.requests} == {"other"}


async def test_names_that_were_never_answered_take_no_room(autojump_clock: MockClock) -> None:
    async with world(provider("any")) as w:
        counts = Counts(w.fleet)
        for n in range(1000):
            counts.note(Record(id="r", at=0, provider="any", model=f"x-{n}", ending=Ending.BROKEN))
            counts.note(refused(requested=f"y-{n}"))
        assert counts.model("real", answered=True) == "real"


async def test_a_model_that_its_provider_lists_has_its_own_label_when_the_room_is_taken(
    autojump_clock: MockClock,
) -> None:
    async with world(provider("any")) as w:
        counts = Counts(w.fleet)
        for n in range(MOST_LEARNED):
            assert counts.model(f"junk-{n}", answered=True) == f"junk-{n}"
        assert counts.model("real", answered=True) == "other"
        listed = ("real", "x" * 129, *(f"listed-{n}" for n in range(MOST_LISTED)))
        w.fleet.members["any"].gate.found_models = tuple(ModelInfo(id=name) for name in listed)
        assert counts.model("real", answered=True) == "real"
        assert counts.model("x" * 129, answered=True) == "other"
        labels = {counts.model(f"listed-{n}", answered=True) for n in range(MOST_LISTED)}
    assert len(labels - {"other"}) == MOST_LISTED - 1  # "real" has a label of them too


async def test_a_model_that_a_reload_brings_has_its_own_label(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        counts = Counts(w.fleet)
        assert counts.model("new") == "other"
        await w.fleet.add(provider("b", "new"))
        assert counts.model("new") == "new"


def test_a_distribution_counts_what_is_at_most_its_bound() -> None:
    values = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 5.0):
        values.note(value)
    assert (values.counts, values.sum, values.count) == ([2, 1, 1], 8.0, 4)


def test_the_longest_delay_is_of_the_last_minute() -> None:
    delay = LoopDelay()
    assert delay.longest(0.0) == 0.0
    delay.note(10.5, 10.0)
    delay.note(40.1, 40.0)
    assert (round(delay.last, 3), delay.longest(60.0)) == (0.1, 0.5)
    assert round(delay.longest(71.0), 3) == 0.1


async def values_of(inference: Inference) -> dict[tuple[str, ...], float]:
    found = await live_values(inference, Watchdog(), LoopDelay())
    return {(value.name, *value.labels.values()): value.value for value in found}


async def test_live_values_tell_the_state_of_every_provider(autojump_clock: MockClock) -> None:
    limited = provider("a", "m", rate_limits=RateLimits(requests_per_minute=60, max_concurrent=3))
    async with world(limited, provider("b", "m"), routing=PRIORITY) as w:
        inference = Inference(w.fleet, Rules.of(w.fleet.config))
        await w.chat()
        await w.settled()
        found = await values_of(inference)
        assert found["infermux_provider_routable", "a"] == 1
        assert found["infermux_provider_bucket_level", "a", "requests"] == 59
        assert found["infermux_provider_bucket_limit", "a", "requests"] == 60
        assert found["infermux_provider_concurrency_limit", "a"] == 3
        assert found["infermux_provider_circuit", "a", "closed"] == 1
        assert found["infermux_provider_circuit", "a", "open"] == 0
        assert found["infermux_queue_length",] == 0
        crash(w, "b")
        await w.settled()
        found = await values_of(inference)
        assert found["infermux_provider_routable", "b"] == 0
        assert found["infermux_provider_blocked", "b", "crashed"] == 1


async def test_the_page_is_in_prometheus_format() -> None:
    async with world(*two()) as w:
        metrics = Metrics(Inference(w.fleet, Rules.of(w.fleet.config)), Watchdog(), Counts(w.fleet))
        metrics.more.append(lambda: [Value("infermux_ledger_shed", 3, kind="counter", help="Rows.")])
        metrics.counts.note(ANSWERED)
        body, content_type = await metrics.page()
    assert content_type.startswith("text/plain; version=")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["infermux_ledger_shed_total", ()] == 3
    assert samples["infermux_waited_seconds_count", ()] == 0
    labels = (("endpoint", "chat"), ("model", "m"), ("provider", "a"))
    assert samples["infermux_request_duration_seconds_count", labels] == 1
    assert samples["infermux_request_duration_seconds_sum", labels] == 3.0
    assert samples["infermux_request_duration_seconds_bucket", (*labels[:1], ("le", "2.5"), *labels[1:])] == 0
    tokens = (("gen_ai_token_type", "input"), ("model", "m"), ("provider", "a"))
    assert samples["infermux_tokens_total", tokens] == 10


async def test_a_page_that_was_short_the_last_time_wakes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[Any] = []
    run_sync = trio.to_thread.run_sync

    async def counted(work: Any, *given: Any) -> Any:
        threads.append(work)
        return await run_sync(work, *given)

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    async with world(provider("a", "m")) as w:
        metrics = Metrics(Inference(w.fleet, Rules.of(w.fleet.config)), Watchdog(), Counts(w.fleet))
        first, _ = await metrics.page()
        again, _ = await metrics.page()
        assert len(threads) == 1
        assert first.count(b"\n") == again.count(b"\n")
        for number in range(200):
            metrics.counts.note(msgspec.structs.replace(ANSWERED, provider=f"p{number}"))
        grown = [len((await metrics.page())[0]) for _ in range(2)]
    assert grown[0] > SHORT
    assert len(threads) == 2


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", ""])
async def test_the_page_is_in_the_format_that_is_asked_for(accept: str) -> None:
    async with world(provider("a", "m")) as w:
        metrics = Metrics(Inference(w.fleet, Rules.of(w.fleet.config)), Watchdog(), Counts(w.fleet))
        body, content_type = await metrics.page(accept)
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain")
    assert body.endswith(b"# EOF\n") is bool(accept)
    of_openmetrics: Any = openmetrics_parser
    read = of_openmetrics.text_string_to_metric_families if accept else text_string_to_metric_families
    families = read(body.decode())
    assert {"infermux_requests", "process_cpu_seconds", "python_gc_collections"} <= {each.name for each in families}
