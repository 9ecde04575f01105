"""The page of plots: well-formed, every target on it, and none where nothing counts."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import attrs

from infermux.bench.plot import plot
from tests.bench._made import measured, outcome, result

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*names: str) -> tuple[ET.Element, list[str]]:
    found = outcome(*(measured(name, cpu_us=80) for name in names))
    text = plot([found])
    assert text is not None
    root = ET.fromstring(text)
    return root, [each.text or "" for each in root.iter(f"{SVG}text")]


def test_each_target_has_a_line_in_each_panel_it_has_a_figure_for() -> None:
    _, texts = drawn("infermux", "other")
    assert texts.count("whole-16 infermux") == texts.count("whole-16 other") == 4
    assert "CPU µs per request" in texts
    assert "CPU µs per event" not in texts


def test_medians_stand_beside_their_dots_without_powers_of_ten() -> None:
    text = plot([outcome(measured(cpu_us=80, load=result(good=54321)))])
    assert text is not None
    assert ">54321<" in text
    assert ">80<" in text


def test_names_are_escaped() -> None:
    _, texts = drawn("<&>")
    assert "whole-16 <&>" in texts


def test_everything_lies_on_the_page() -> None:
    root, _ = drawn("infermux")
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for dot in root.iter(f"{SVG}circle"):
        assert 250 <= float(dot.attrib["cx"]) <= width
        assert 0 <= float(dot.attrib["cy"]) <= height


def test_times_below_a_microsecond_have_a_place_too() -> None:
    assert plot([outcome(measured(load=result(milliseconds=[0.0] * 10)))]) is not None


def test_nothing_that_counts_is_no_page() -> None:
    assert plot([outcome(measured(load=result(good=0, failed=9)))]) is None
    assert plot([]) is None
    assert plot([attrs.evolve(outcome(), missing={"server": "gone"})]) is None


def test_colours_are_told_and_the_page_turns_dark_with_what_it_stands_on() -> None:
    text = plot([outcome(measured(cpu_us=80))])
    assert text is not None
    assert all(f">● {name}</tspan>" in text for name in ("p50", "p99", "p99.9"))
    assert "prefers-color-scheme: dark" in text
    assert 'fill="white"' not in text
