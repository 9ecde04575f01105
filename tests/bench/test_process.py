"""What the bench starts is surely ended, and its last words are told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infermux.bench.machine import placement
from infermux.bench.process import DidNotStart, running

CPUS = placement().others


@pytest.mark.slow
def test_a_front_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with running("short", [sys.executable, "-c", "print('no such key')"], cpus=CPUS, scratch=tmp_path) as child:
        child.popen.wait(10)
        with pytest.raises(DidNotStart, match="no such key"):
            child.check_alive()
