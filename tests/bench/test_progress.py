"""Progress: a line that renews itself on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import io
import time

import pytest

from infermux.bench.load import Progress
from infermux.bench.progress import Teller
from tests.bench._made import measured, result


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_line_is_renewed_and_results_stay() -> None:
    terminal = Terminal()
    teller = Teller(terminal)
    teller.going("whole 1/2", "infermux", Progress(good=5, failed=1), share=0.25)
    teller.measured("whole 1/2", measured(cpu_us=80), "request")
    assert terminal.getvalue() == (
        "\r\x1b[K  whole 1/2 infermux: 25%, 5 answers, 1 FAILED"
        "\r\x1b[K  whole 1/2 infermux: 1000 requests/s, 80.0 µs CPU per request\n"
    )


def test_elsewhere_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    file = io.StringIO()
    teller = Teller(file)
    teller.going("whole 1/2", "infermux", Progress(good=5), share=0.25)
    assert file.getvalue() == ""
    now += 10
    teller.going("whole 1/2", "infermux", Progress(good=9), share=0.5)
    teller.going("whole 1/2", "infermux", Progress(good=9), share=0.5)
    teller.measured("whole 1/2", measured(load=result(failed=7)), "request")
    assert file.getvalue() == (
        "  whole 1/2 infermux: 50%, 9 answers\n  whole 1/2 infermux: 1000 requests/s, 7 FAILED\n"
    )
