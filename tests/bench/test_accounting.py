"""CPU time and memory are those of a whole tree, whichever way it is named."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from infermux.bench import accounting
from infermux.bench.machine import placement
from infermux.bench.process import running

CPUS = placement().others


@pytest.mark.slow
def test_cpu_time_and_memory_of_a_whole_tree_are_accounted(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.1: pass\nprint('worked', flush=True)\ntime.sleep(60)"
    tree = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {work!r}])"
    with running("tree", [sys.executable, "-c", tree], cpus=CPUS, scratch=tmp_path) as child:
        deadline = time.monotonic() + 10
        while "worked" not in child.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert accounting.cpu_ns(child.session) > 90_000_000
        assert len(accounting.members(child.session)) == 2
        family = frozenset({child.popen.pid})
        assert accounting.members(family) == accounting.members(child.session)
        assert accounting.cpu_ns(family) > 90_000_000
        assert accounting.memory(child.session).peak >= accounting.memory(child.session).resident > 4000
    assert accounting.members(child.session) == []
