"""Several processes on one port: how many, and what must hold for them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

from infermux.database.place import Place

from .quota import quota
from .reading import Path, Reading
from .settings import Config

MOST = 1024
SMALL_PART = 0.01  # US dollars: what a short answer of a dear model costs


def workers_of(config: Config) -> int:
    """How many processes serve `config`."""
    return config.workers if isinstance(config.workers, int) else processors()


def processors() -> int:
    """How many of the machine's processors this process may use; at least one.

    A container may run on all of them for a part of the time: of 2.5 processors' worth two are told.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bound = quota()
    return there if bound is None else min(there, max(int(bound), 1))


def shares_ports() -> bool:
    """Whether the system spreads connections over the sockets that listen on one port: Linux does.

    See SO_REUSEPORT in socket(7): elsewhere it is missing, or the last one that listens gets all of them.
    """
    return sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")


def check_workers(config: Config, reading: Reading) -> None:
    """They need a system that shares ports and a database that they can share, and each a part of every limit."""
    spot: Path = ("workers",)
    workers = workers_of(config)
    if not reading.fine(spot):
        return
    if workers > MOST:
        reading.problem(spot, f"must be {MOST} at most")
    elif workers > 1 and not shares_ports():
        reading.problem(spot, "must be 1 on this system: only Linux spreads connections over several processes")
    elif config.state.url is not None:
        _few_slots(config, workers, reading)
    elif workers > 1:
        _small_limits(config, workers, reading)
        _small_budgets(config, workers, reading)
    if workers > 1:
        _own_databases(config, reading)


def _own_databases(config: Config, reading: Reading) -> None:
    url, path = config.ledger.url, ("ledger", "url")
    if url is not None and reading.fine(path) and Place.of(url.reveal()).in_memory:
        reading.problem(
            path,
            "is in memory, where each of several workers would have its own: name a file or a server that they share, "
            "or null",
        )


def _small_limits(config: Config, workers: int, reading: Reading) -> None:
    for spot, limit in _limits(config, "requests_per_minute", "tokens_per_minute", "max_concurrent"):
        if limit < workers:
            reading.warn(
                spot,
                f"is smaller than the number of workers ({workers}): {workers - limit} of them have no part of it "
                "and refuse what comes to them",
            )


def _few_slots(config: Config, workers: int, reading: Reading) -> None:
    """By way of Redis all limits are shared but what may run at once: of that each process has its part."""
    processes = workers * config.state.nodes
    for spot, limit in _limits(config, "max_concurrent"):
        if limit < processes:
            said = f"{workers} workers" if config.state.nodes == 1 else f"state.nodes x workers = {processes}"
            reading.warn(
                spot,
                f"is smaller than the number of processes that share it ({said}): where so many run, "
                f"{processes - limit} of them have no part of it and refuse what comes to them",
            )


def _limits(config: Config, *names: str) -> Iterator[tuple[Path, int]]:
    for index, provider in enumerate(config.providers):
        for name in names:
            limit = getattr(provider.rate_limits, name)
            if isinstance(limit, int):
                yield ("providers", index, "rate_limits", name), limit


def _small_budgets(config: Config, workers: int, reading: Reading) -> None:
    """Workers lend each other what they do not need, but what a request may cost has to be one worker's."""
    for index, budget in enumerate(config.budgets):
        if budget.hard and budget.limit_usd < SMALL_PART * workers:
            reading.warn(
                ("budgets", index, "limit_usd"),
                f"is dealt out to {workers} workers, less than ${SMALL_PART} for each: a request that may cost more is "
                "refused until the others have given theirs back, and while they use it",
            )
