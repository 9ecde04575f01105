"""What a second worker costs is told apart from what sharing a core costs, round by round."""

from __future__ import annotations

import pytest

from bench.workers import Found, Round, main, report


def rounds(*cpu_us: float, rate: float = 1000.0, failed: int = 0) -> list[Round]:
    return [Round(rate=rate, cpu_us=used, failed=failed) for used in cpu_us]


def test_where_workers_share_a_core_the_goal_is_for_what_they_use_beyond_routers_that_are_apart() -> None:
    found = Found(workers=2, one=rounds(100, 200), crew=rounds(126, 252), apart=rounds(120, 240))
    lines, met = report(found)
    assert met
    assert "of 2 workers to 2 routers apart, which is what being a crew costs: 1.05 times" in lines[-2]
    assert any(
        "to one's, which has the core to itself: 1.26 times (half of the rounds: 1.26 to 1.26)" in line
        for line in lines
    )
    assert any("what sharing a core costs: 1.20 times" in line for line in lines)


def test_a_crew_that_costs_more_than_that_misses_it() -> None:
    assert not report(Found(workers=2, one=rounds(100), crew=rounds(135), apart=rounds(120)))[1]


@pytest.mark.parametrize(("crew_us", "rate", "met"), [(109, 1900, True), (111, 1900, False), (109, 1700, False)])
def test_where_there_are_cores_for_all_they_are_compared_with_one(crew_us: float, rate: float, met: bool) -> None:
    lines, reached = report(Found(workers=2, one=rounds(100), crew=rounds(crew_us, rate=rate)))
    assert reached is met
    assert not any("routers" in line for line in lines)


def test_a_request_that_failed_is_no_goal_reached() -> None:
    assert not report(Found(workers=2, one=rounds(100), crew=rounds(100, failed=1), apart=rounds(100)))[1]


@pytest.mark.parametrize("option", ["--workers", "--rounds", "--connections"])
@pytest.mark.parametrize("number", ["0", "-1", "some"])
def test_less_than_one_of_anything_is_refused_by_the_name_of_its_option(
    option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([option, number])
    assert f"argument {option}: {number!r} is not a number from 1 on" in capsys.readouterr().err
