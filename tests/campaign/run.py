"""Plays random schedules and says which invariant broke with which seed: `python -m tests.campaign.run --seeds 1000`.

`--seed N` replays one exactly, and prints its schedule.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.campaign._play import Outcome, play
from tests.campaign._schedule import schedule

COMMAND = "python -m tests.campaign.run --seed {seed}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules, default 1000")
    parser.add_argument("--first", type=int, default=0, help="the first seed, default 0")
    parser.add_argument("--seed", type=int, help="only this one")
    given = parser.parse_args()
    if given.seed is not None:
        made = schedule(given.seed)
        print(made)
        return 1 if _tell(given.seed, play(made)) else 0
    began = time.perf_counter()
    failed = [
        seed for seed in range(given.first, given.first + given.seeds) if _tell(seed, play(schedule(seed)), quiet=True)
    ]
    print(f"{given.seeds} schedules in {time.perf_counter() - began:.0f} s, {len(failed)} failed")
    return 1 if failed else 0


def _tell(seed: int, outcome: Outcome, *, quiet: bool = False) -> bool:
    if not quiet:
        print(f"{outcome.answered} of {outcome.requests} answered, digest {outcome.digest}")
    for line in outcome.wrong:
        print(f"seed {seed}: {line}")
    if outcome.wrong:
        print(f"replay: {COMMAND.format(seed=seed)}", flush=True)
    return bool(outcome.wrong)


if __name__ == "__main__":
    sys.exit(main())
