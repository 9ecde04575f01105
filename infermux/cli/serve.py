"""`serve` and `infer`: load the configuration, then hand over to `infermux.serving`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

import click

from infermux.config import Config, Overrides
from infermux.config.loader import reader
from infermux.config.workers import workers_of
from infermux.errors import Problem
from infermux.workers.orphan import end_with_leader

from . import options
from .output import print_warnings

Load: TypeAlias = Callable[[], tuple[Config, list[Problem]]]


@click.command()
@options.config
@options.demo
@options.listen
@options.log_level
@options.watch
@click.option("--worker", type=(int, int), hidden=True, help="Two descriptors, by which one of several is led.")
@click.option("--background", type=int, hidden=True, help="The pipe by which `infermux start` learns of this process.")
def serve(
    *,
    path: str | None,
    demo: bool,
    listen: str | None,
    log_level: str | None,
    watch: bool,
    background: int | None,
    worker: tuple[int, int] | None,
) -> None:
    """Serve until SIGTERM or Ctrl+C. SIGHUP and `infermux reload` read the configuration again."""
    if worker is not None:
        link, leader = worker
        folders: list[str] = []
        end_with_leader(leader, folders)  # first: whatever comes next takes its time
        sys.exit(_serving().worker_command(link, folders))
    if demo and watch:
        raise click.UsageError("--demo has no file to watch; leave --watch out")
    overrides = Overrides(listen=listen, log_level=log_level)
    daemon = None if background is None else _daemon(background)
    load = _load(path, demo, overrides)
    config = _config(load, overrides)
    if workers_of(config) > 1:
        sys.exit(_leading().lead_command(config, load=load, watch=watch, demo=demo, daemon=daemon))
    sys.exit(_serving().serve_command(config, load=load, watch=watch, demo=demo, daemon=daemon))


@click.command()
@options.config
@options.demo
@options.as_json
@click.option("--stream/--no-stream", default=True, help="Print the answer as it comes.")
@click.argument("model")
@click.argument("prompt")
def infer(*, path: str | None, demo: bool, as_json: bool, stream: bool, model: str, prompt: str) -> None:
    """Send PROMPT to MODEL (`auto` for the default) by the configured providers, without a server."""
    config = _config(_load(path, demo, Overrides()), Overrides())
    sys.exit(_serving().infer_command(config, model=model, prompt=prompt, stream=stream, as_json=as_json))


def _daemon(starter: int) -> Any:
    from infermux.daemon.lock import Home
    from infermux.daemon.running import Daemon

    *arguments, _, _ = sys.argv[2:]  # without `serve`, and what `infermux start` has put behind
    return Daemon.begin(starter, arguments=tuple(arguments), home=Home.of())


def _load(path: str | None, demo: bool, overrides: Overrides) -> Load | None:
    """What reads the configuration, each time it is called; None: the demo's, which is no file."""
    if not demo:
        return reader(path, overrides=overrides)
    if path is not None:
        raise click.UsageError("--demo brings its own configuration; leave -c out")
    return None


def _config(load: Load | None, overrides: Overrides) -> Config:
    if load is None:
        from infermux.config.demo import demo_config

        return demo_config(overrides)
    config, warnings = load()
    print_warnings(warnings)
    return config


def _leading() -> Any:
    with without("rich"):
        return importlib.import_module("infermux.workers.lead")


def _serving() -> Any:
    # Not a plain import: the server brings hypercorn, quart and httpx, and who only mistyped should not wait for them.
    with without("rich"):
        return importlib.import_module("infermux.serving")


@contextmanager
def without(name: str) -> Generator[None]:
    """As if that package was not installed: structlog loads rich for tracebacks that no line has, and keeps 4 MiB."""
    if name in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules[name] = None  # https://docs.python.org/3/reference/import.html#the-module-cache
    try:
        yield
    finally:
        del modules[name]
