"""What several workers say becomes one answer."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infermux.http import combining

PAGE = """\
# HELP infermux_requests_total Requests that have ended.
# TYPE infermux_requests_total counter
infermux_requests_total{{status="200"}} {count}
# HELP infermux_waited_seconds Waited.
# TYPE infermux_waited_seconds histogram
infermux_waited_seconds_bucket{{le="1.0"}} {count}
infermux_waited_seconds_bucket{{le="+Inf"}} {count}
infermux_waited_seconds_count {count}
infermux_waited_seconds_sum 0.5
# HELP infermux_provider_routable Routable.
# TYPE infermux_provider_routable gauge
infermux_provider_routable{{provider="a"}} {routable}
# HELP infermux_ledger_available Available.
# TYPE infermux_ledger_available gauge
infermux_ledger_available {routable}
# HELP infermux_in_flight In flight.
# TYPE infermux_in_flight gauge
infermux_in_flight {count}
"""


def row(**more: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "type": "openai",
        "routable": True,
        "reason": None,
        "health": "healthy",
        "circuit": "closed",
        "in_flight": 2,
        **more,
    }


def test_of_states_the_worst_is_told_and_it_is_routable_where_it_is_anywhere() -> None:
    sick = row(routable=False, reason="circuit_open", circuit="open", in_flight=1)
    whole = combining.provider([(0, row()), (1, sick)])
    assert (whole["routable"], whole["reason"], whole["circuit"], whole["in_flight"]) == (True, None, "open", 3)
    assert [(each["worker"], each["circuit"]) for each in whole["workers"]] == [(0, "closed"), (1, "open")]
    both = combining.provider([(0, sick), (1, sick)])
    assert (both["routable"], both["reason"]) == (False, "circuit_open")


def test_a_described_provider_has_the_sum_of_its_buckets_and_the_mean_of_its_averages() -> None:
    def described(level: float, seconds: float, samples: int, ago: float) -> dict[str, Any]:
        return row(
            blocked_for=None,
            health={"state": "healthy", "error": None},
            circuit={"state": "closed", "consecutive_failures": samples, "window": {"requests": 4, "error_rate": 0.5}},
            buckets={"requests": {"limit": 30, "level": level}, "tokens": None, "max_concurrent": None},
            ewma={"response": {"seconds": seconds, "samples": samples}},
            models=["m"],
            transitions=[{"of": "health", "seconds_ago": ago}],
        )

    whole = combining.provider([(0, described(5, 1.0, 1, 3.0)), (1, described(7, 2.0, 3, 9.0))])
    assert whole["buckets"] == {"requests": {"limit": 60, "level": 12}, "tokens": None, "max_concurrent": None}
    assert whole["ewma"]["response"] == {"seconds": 1.75, "samples": 4}
    assert whole["circuit"]["consecutive_failures"] == 3
    assert whole["circuit"]["window"] == {"requests": 8, "error_rate": 0.5}
    assert whole["models"] == ["m"]
    assert [(each["worker"], each["seconds_ago"]) for each in whole["transitions"]] == [(1, 9.0), (0, 3.0)]


def test_requests_of_all_are_listed_the_oldest_first() -> None:
    said = [
        (0, {"running": 1, "requests": [{"id": "x", "age": 1.0}]}),
        (1, {"running": 2, "requests": [{"id": "y", "age": 5.0}, {"id": "z", "age": 0.5}]}),
    ]
    whole = combining.requests(said, most=2)
    assert whole["running"] == 3
    assert [(each["id"], each["worker"]) for each in whole["requests"]] == [("y", 1), ("x", 0)]


def test_decisions_of_all_are_listed_the_newest_first() -> None:
    said = [(place, {"kept": 10, "decisions": [{"id": str(place), "at": float(place)}]}) for place in range(2)]
    assert combining.decisions(said, 1) == {"kept": 20, "decisions": [{"id": "1", "at": 1.0, "worker": 1}]}


def test_a_key_has_left_what_all_workers_have_left_of_it() -> None:
    def key(left: float, spent: float) -> dict[str, Any]:
        use = {"in_flight": 1, "requests_left": left, "tokens_left": None}
        return {"keys": [{"id": "k", "name": "n", "use": use, "spent_usd": spent}]}

    whole = combining.keys([(0, key(1.5, 2.0)), (1, key(2.0, 2.5))])["keys"][0]
    assert whole["use"] == {"in_flight": 2, "requests_left": 3.5, "tokens_left": None}
    assert whole["spent_usd"] == 2.5


def test_what_a_budget_has_spent_all_know_and_what_it_has_promised_each_knows() -> None:
    def budget(spent: float, reserved: float) -> dict[str, Any]:
        told = {"spent_usd": spent, "reserved_usd": reserved, "left_usd": 1.0, "exceeded": False, "unpriced_answers": 1}
        return {"budgets": [{"budget": "all/day", "hard": True, "limit_usd": 10.0, **told}]}

    (whole,) = combining.budgets([(0, budget(4.0, 1.0)), (1, budget(5.0, 2.0))])["budgets"]
    assert (whole["spent_usd"], whole["reserved_usd"], whole["left_usd"]) == (5.0, 3.0, 2.0)
    assert whole["unpriced_answers"] == 2


def test_steps_of_the_history_are_alike_by_their_age() -> None:
    def overview(now: int, *steps: list[Any]) -> dict[str, Any]:
        return {
            "in_flight": 1,
            "ready": True,
            "providers": [],
            "requests": [],
            "history": {"now": now, "seconds": 5.0, "steps": 120, "providers": {"a": list(steps)}},
        }

    said = [(0, overview(10, [10, 1, 0, 1.0, None])), (1, overview(70, [69, 2, 1, 3.0, 1.0], [70, 3, 0, 2.0, None]))]
    history = combining.overview(said)["history"]
    assert history["providers"]["a"] == [[9, 2, 1, 3.0, 1.0], [10, 4, 0, 1.75, None]]


def test_the_cache_of_all_is_hit_as_often_as_all_are() -> None:
    said = [
        (0, {"enabled": True, "hits": 3, "misses": 1, "hit_rate": 0.75}),
        (1, {"enabled": True, "hits": 0, "misses": 4}),
    ]
    assert combining.cache(said) == {"enabled": True, "hits": 3, "misses": 5, "hit_rate": 0.375}


def test_counters_and_histograms_are_summed_and_states_are_not() -> None:
    pages = [PAGE.format(count=3, routable=1), PAGE.format(count=4, routable=0)]
    body, content_type = combining.metrics(pages, {"infermux_workers": ("Workers.", 2.0)}, "")
    page = body.decode()
    assert content_type.startswith("text/plain")
    for line in (
        'infermux_requests_total{status="200"} 7.0',
        'infermux_waited_seconds_bucket{le="+Inf"} 7.0',
        "infermux_waited_seconds_sum 1.0",
        'infermux_provider_routable{provider="a"} 1.0',
        "infermux_ledger_available 0.0",
        "infermux_in_flight 7.0",
        "infermux_workers 2.0",
    ):
        assert line in page.splitlines()


def test_of_former_pages_only_what_adds_up_is_taken() -> None:
    page, former = PAGE.format(count=3, routable=1), PAGE.format(count=4, routable=0)
    behind = page + combining.totals([former]).decode()  # as a worker has that of who was there before
    for found in (combining.metrics([page], {}, "", [former]), combining.metrics([behind], {}, "")):
        lines = found[0].decode().splitlines()
        for line in (
            'infermux_requests_total{status="200"} 7.0',
            'infermux_waited_seconds_bucket{le="+Inf"} 7.0',
            "infermux_waited_seconds_sum 1.0",
            'infermux_provider_routable{provider="a"} 1.0',
            "infermux_ledger_available 1.0",
            "infermux_in_flight 3.0",
        ):
            assert line in lines


DOLLARS = """\
# HELP infermux_cost_dollars_total Dollars.
# TYPE infermux_cost_dollars_total counter
infermux_cost_dollars_total {}
"""


def dollars(pages: list[str], former: list[str]) -> float:
    return float(combining.metrics(pages, {}, "", former)[0].split()[-1])


@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=2, max_size=6), st.data())
def test_the_least_bit_is_not_lost_whoever_answers(each: list[float], data: st.DataObject) -> None:
    pages = [DOLLARS.format(value) for value in each]
    before = dollars(pages, [])
    split = data.draw(st.integers(0, len(pages)))
    assert dollars(pages[split:], pages[:split]) == before
    assert dollars([*pages[split:], combining.totals(pages[:split]).decode()], []) >= before


def test_the_rules_of_metrics_are_about_metrics_there_are() -> None:
    assert combining.rule("infermux_event_loop_holds")([1.0, 2.0]) == 3.0
    assert combining.rule("infermux_event_loop_delay_seconds")([1.0, 2.0]) == 2.0
    assert combining.rule("infermux_provider_latency_seconds")([1.0, 2.0]) == 1.5
    assert combining.rule("process_start_time_seconds")([1.0, 2.0]) == 1.0
