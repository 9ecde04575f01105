"""Asks a real router everything its own description allows, and much that it does not.

    python -m tests.api_fuzz.run                     # make api-fuzz
    python -m tests.api_fuzz.run --examples 10       # what continuous integration runs
    python -m tests.api_fuzz.run --seconds 3600      # for as long as that
    python -m tests.api_fuzz.run --seed 7            # other values

Schemathesis (https://schemathesis.readthedocs.io) makes the requests, with all of its checks; `schemathesis.toml` says
what is special. Once with `auth.mode: open`, once with `keys`. Exit code 1: the API or its description is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.api_fuzz._router import ROOT, TOKEN, Router, router, traffic, upstream

MODES = ("open", "keys")
CONFIG = Path(__file__).with_name("schemathesis.toml")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.api_fuzz.run", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=100, help="per operation and phase, default 100")
    parser.add_argument("--seconds", type=int, help="repeat with other values for so long, in each mode")
    parser.add_argument("--mode", choices=MODES, action="append", help="auth.mode, default all")
    given, more = parser.parse_known_args()
    bound = ["--max-examples", str(given.examples), "--seed", str(given.seed)]
    if given.seconds is not None:
        bound += ["--max-time", str(given.seconds)]
    failed = [mode for mode in given.mode or MODES if not _campaign(mode, [*bound, *more])]
    print(f"failed with auth.mode {' and '.join(failed)}" if failed else "the API is as it says")
    return 1 if failed else 0


def _campaign(mode: str, arguments: Sequence[str]) -> bool:
    print(f"auth.mode: {mode}", flush=True)
    with tempfile.TemporaryDirectory() as name, upstream() as base_url, router(Path(name), mode, base_url) as served:
        description = Path(name, "openapi.json")
        description.write_text(json.dumps(served.ask("/_infermux/openapi.json")))
        with traffic(served):
            fine = _schemathesis(served, description, arguments)
        return _is_well(served) and fine


def _schemathesis(served: Router, description: Path, arguments: Sequence[str]) -> bool:
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", str(description)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "FUZZ_TOKEN": TOKEN, "FUZZ_KEY": served.key or "none"}
    environ["HOME"] = str(description.parent)  # its own files, such as those for a replay
    done = subprocess.run([*command, "--url", served.url, *arguments], cwd=description.parent, env=environ, check=False)
    return done.returncode == 0


def _is_well(served: Router) -> bool:
    """After all of that it answers, nothing is left in flight, and nothing crashed."""
    status = served.ask("/_infermux/status")
    said = served.log.read_text()
    if status["in_flight"] or "Traceback" in said:
        print(f"in flight: {status['in_flight']}\n{said[-6000:]}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
