"""Faults as the command line writes them, and what is wrong with those it does not take."""

from __future__ import annotations

import math

import pytest

from infermux.providers.simulated_script import Step
from infermux.simulation.faults import Fault, parse_assigned, parse_fault

NAMES = ("openai", "a.b")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("openai=429@10m..12m", Fault("openai", Step(status=429), 1.0, 600.0, 720.0)),
        ("openai=refuse", Fault("openai", Step(refuse=True))),
        ("openai=reset@..30", Fault("openai", Step(cut_after=0), 1.0, 0.0, 30.0)),
        ("a.b=hang@1h..", Fault("a.b", Step(hang=True), 1.0, 3600.0, math.inf)),
        ("a.b=malformed@..", Fault("a.b", Step(malformed=True))),
        ("a.b=cut", Fault("a.b", Step(cut_after=10))),
        ("a.b=cut(3)", Fault("a.b", Step(cut_after=3))),
        ("a.b=stall(0)@1s..2s", Fault("a.b", Step(stall_after=0), 1.0, 1.0, 2.0)),
        ("a.b=slow", Fault("a.b", slow=10.0)),
        ("a.b=slow(x2.5)", Fault("a.b", slow=2.5)),
        ("a.b=slow(3)", Fault("a.b", slow=3.0)),
    ],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    assert parse_fault(text, NAMES) == fault


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("openai", "'openai' is not NAME=KIND@FROM..TO such as openai=429@10m..12m"),
        ("openai=429@10m", "'openai=429@10m' is not NAME=KIND@FROM..TO such as openai=429@10m..12m"),
        ("claude=429", "there is no provider named 'claude'; there are: openai, a.b"),
        ("openai=200", "'200' is no fault; it is one of a status from 400 to 599, refuse, reset,"),
        ("openai=429(1)", "'429(1)' is no fault"),
        ("openai=explode", "'explode' is no fault"),
        ("openai=cut(x)", "'cut(x)': the number of tokens is a whole number, 0 or more"),
        ("openai=slow(x0)", "'slow(x0)': how many times slower is a number above 0"),
        ("openai=slow(inf)", "'slow(inf)': how many times"),
        ("openai=429@later..", "'later' is not a time such as 90s, 10m or 1h30m"),
        ("openai=429@2m..1m", "'openai=429@2m..1m' ends before it begins"),
    ],
)
def test_a_wrong_fault_is_told_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_fault(text, NAMES)
    assert str(caught.value).startswith(problem)


def test_an_assignment_names_a_provider() -> None:
    assert parse_assigned("a.b=300ms", NAMES, "1s") == ("a.b", "300ms")
    with pytest.raises(ValueError, match=r"'a\.b=' is not NAME=VALUE such as openai=1s"):
        parse_assigned("a.b=", NAMES, "1s")
    with pytest.raises(ValueError, match="there is no provider named 'c'"):
        parse_assigned("c=1", NAMES, "1s")
