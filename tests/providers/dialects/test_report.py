"""The report of what was not carried, as it goes into a header."""

from __future__ import annotations

from infermux.providers.dialects.report import Loss


def test_names_stand_once_in_the_order_they_were_found() -> None:
    loss = Loss("b", "a", "b")
    loss.clamp("temperature")
    loss.change("document", "as text")
    loss.extend(Loss("a", "c"))
    assert loss.names == ("b", "a", "temperature(clamped)", "document(as text)", "c")
    assert loss.header == "b, a, temperature(clamped), document(as text), c"
    assert repr(loss).startswith("Loss('b', 'a'")


def test_nothing_lost_is_nothing() -> None:
    assert not Loss()
    assert Loss("a")


def test_a_name_cannot_break_out_of_the_header() -> None:
    """Callers choose the names of unknown fields."""
    loss = Loss("a\r\nSet-Cookie: x", "ünï,code", "x" * 500)
    assert loss.header.isascii()
    assert loss.header.isprintable()
    assert len(loss.names) == 3
    assert all("," not in name and len(name) <= 80 for name in loss.names)


def test_a_thousand_unknown_fields_make_a_short_header() -> None:
    loss = Loss(*(f"field{number}" for number in range(1000)))
    assert len(loss.names) == 65
    assert loss.names[-1] == "..."
