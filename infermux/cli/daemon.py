"""`start`, `stop`, `restart`, `status`: the router in the background, one for each home."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import click

from infermux.daemon.control import Ending, NotStarted, Runs
from infermux.daemon.control import start as start_daemon
from infermux.daemon.lock import Facts, Home, holder
from infermux.errors import InfermuxError

from . import options
from .asking import NoAnswer, ask, of_daemon
from .output import counted, print_json
from .root import FAILURE

STATUS_PATH = "/_infermux/status"


class NotEnded(InfermuxError):
    """The daemon did not end when it was told to."""


@click.command()
@options.config
@options.demo
@options.listen
@options.log_level
@options.watch
@options.as_json
def start(
    *, path: str | None, demo: bool, listen: str | None, log_level: str | None, watch: bool, as_json: bool
) -> None:
    """Serve in the background: `infermux serve` with the same options, its output in ~/.infermux/daemon.log.

    Waits until it listens. If it ends before that, everything it wrote is printed and its exit code is this one's.
    """
    _start(_arguments(path, demo, listen, log_level, watch), as_json=as_json)


@click.command()
@click.option("--now", is_flag=True, help="Do not wait for requests under way.")
@options.as_json
def stop(*, now: bool, as_json: bool) -> None:
    """Stop the router in the background once its requests are finished, after `shutdown_grace` at the latest.

    Ctrl+C leaves it to finish them by itself; a second one stops it at once.
    """
    facts = _stop(Home.of(), now=now, quiet=as_json)
    if as_json:
        print_json({"stopped": facts is not None, "pid": None if facts is None else facts.pid})
    else:
        click.echo("no infermux runs in the background" if facts is None else f"stopped (process {facts.pid})")


@click.command()
@options.config
@options.demo
@options.listen
@options.log_level
@options.watch
@options.as_json
def restart(
    *, path: str | None, demo: bool, listen: str | None, log_level: str | None, watch: bool, as_json: bool
) -> None:
    """Stop the router in the background and start it again: as it was started, unless options are given here.

    The configuration is checked first: with anything wrong the router goes on as it is.
    """
    home, cwd = Home.of(), None
    arguments = _arguments(path, demo, listen, log_level, watch)
    before = holder(home)
    if before is not None:
        if not arguments:
            arguments, cwd = list(before.arguments), before.cwd
        _refuse_mistakes(arguments, cwd, as_json=as_json)
        _stop(home, now=False, quiet=as_json)
    _start(arguments, as_json=as_json, cwd=cwd)


@click.command()
@options.as_json
def status(*, as_json: bool) -> None:
    """Say whether a router runs in the background, since when, where, and how its providers are.

    Exit code 0: it runs, 1: it does not.
    """
    home = Home.of()
    facts = holder(home)
    if facts is None:
        if as_json:
            print_json({"running": False, "log": str(home.log)})
        else:
            click.echo("no infermux runs in the background; `infermux start` starts one")
        sys.exit(FAILURE)
    found, trouble = _asked(facts)
    if as_json:
        print_json(_as_json(facts, home) | {"router": found, "trouble": trouble})
        return
    _print(facts, home)
    if found is None:
        click.echo(f"providers  unknown: {trouble}")
        return
    providers = found["providers"]
    routable = sum(each["routable"] for each in providers)
    click.echo(
        f"providers  {routable} of {len(providers)} routable, {counted(found['in_flight'], 'request')} in flight"
    )
    for each in providers:
        if not each["routable"]:
            click.echo(f"           {each['name']}: {each['reason']}{_why(facts, each['name'])}")
    click.echo(f"ready      {'yes' if found['ready'] else 'no'}")


def _arguments(path: str | None, demo: bool, listen: str | None, log_level: str | None, watch: bool) -> list[str]:
    """The options of `serve`, as they were given."""
    given = {"--config": None if path is None else os.path.abspath(path), "--listen": listen, "--log-level": log_level}
    arguments = [part for name, value in given.items() if value is not None for part in (name, value)]
    return arguments + ["--demo"] * demo + ["--watch"] * watch


def _refuse_mistakes(arguments: Sequence[str], cwd: str | None, *, as_json: bool) -> None:
    """Leave where what is to be started would be refused for its configuration.

    By a process of its own: what will be started may be a newer infermux than this, in another folder.
    """
    if "--demo" in arguments:
        return
    given = arguments[(at := arguments.index("--config")) : at + 2] if "--config" in arguments else ()
    check = [sys.executable, "-m", "infermux", "check", *given]
    done = subprocess.run(check, cwd=cwd, capture_output=True, encoding="utf-8", errors="replace", check=False)  # noqa: S603
    if done.returncode:
        _not_started("the router in the background goes on as it is", done.stderr, as_json=as_json)
        sys.exit(done.returncode)


def _start(arguments: list[str], *, as_json: bool, cwd: str | None = None) -> None:
    home = Home.of()
    try:
        facts = start_daemon(home, arguments, cwd=cwd)
    except Runs as error:
        if as_json:
            print_json({"started": False, "problem": error.message, "output": ""})
            sys.exit(FAILURE)
        raise
    except NotStarted as error:
        _not_started(error.message, error.wrote, as_json=as_json)
        sys.exit(error.exit_code)
    if as_json:
        print_json({"started": True} | _as_json(facts, home))
    else:
        click.echo(f"infermux {facts.version} runs as process {facts.pid} and listens on {facts.url} ({facts.config})")
        click.echo(f"its log is {home.log}")


def _not_started(problem: str, output: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"started": False, "problem": problem, "output": output})
    else:
        click.echo(f"{output.rstrip()}\ninfermux: {problem}", err=True)


def _stop(home: Home, *, now: bool, quiet: bool) -> Facts | None:
    """Stop the daemon; returns what it was, None where none runs."""
    ending = Ending.of(home)
    if ending is None:
        return None
    try:
        if now:
            ending.stop_now()
        else:
            _drain(ending, quiet)
    finally:
        ending.close()
    return ending.facts


def _drain(ending: Ending, quiet: bool) -> None:
    said: str | None = None

    def say(facts: Facts) -> None:
        nonlocal said
        left = 0.0 if facts.until is None else max(0.0, facts.until - time.time())
        what = f"waiting for {counted(facts.in_flight, 'request')}"
        if not quiet and facts.in_flight and what != said:
            said = what
            click.echo(f"{what}, at most {left:.0f} s", err=True)

    try:
        try:
            ended = ending.drained(say)
        except KeyboardInterrupt:
            click.echo("it goes on finishing its requests; Ctrl+C again stops it at once", err=True)
            ended = ending.drained(say, told=True)
    except KeyboardInterrupt:
        ending.stop_now()
        return
    if not ended:
        raise NotEnded(f"process {ending.facts.pid} has not ended in its time; `infermux stop --now` kills it")


def _asked(facts: Facts) -> tuple[dict[str, Any] | None, str | None]:
    """What the router says of itself, or why it says nothing."""
    if facts.management is None:
        return None, f"it is {facts.state}"
    try:
        code, answer = ask(of_daemon(facts), "GET", STATUS_PATH)
    except NoAnswer as error:
        return None, f"it is {facts.state}" if facts.state != "ready" else error.message
    if code != 200:
        return None, f"its management answered {code}; is $INFERMUX_MANAGEMENT_TOKEN right?"
    return answer, None


def _why(facts: Facts, provider: str) -> str:
    """The error that keeps a provider from being used, if one does, below its reason."""
    try:
        _, answer = ask(of_daemon(facts), "GET", f"/_infermux/providers/{quote(provider, safe='')}")
    except NoAnswer:
        return ""
    error: str | None = answer.get("health", {}).get("error")
    return "" if error is None else f": {error}".replace("\n", "\n           ")


def _as_json(facts: Facts, home: Home) -> dict[str, Any]:
    return {
        "running": True,
        "pid": facts.pid,
        "state": facts.state,
        "since": _since(facts).isoformat(timespec="seconds"),
        "uptime_seconds": round(time.time() - facts.since, 1),
        "version": facts.version,
        "url": facts.url,
        "management": facts.management,
        "config": facts.config,
        "cwd": facts.cwd,
        "log": str(home.log),
    }


def _print(facts: Facts, home: Home) -> None:
    rows = {
        "process": f"{facts.pid} ({facts.state}), infermux {facts.version}",
        "since": f"{_since(facts):%Y-%m-%d %H:%M:%S} ({_lasting(time.time() - facts.since)})",
        "address": facts.url or "none yet",
        "config": facts.config or "none yet",
        "log": str(home.log),
    }
    for name, value in rows.items():
        click.echo(f"{name:<10} {value}")


def _since(facts: Facts) -> datetime:
    return datetime.fromtimestamp(facts.since).astimezone()


def _lasting(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days}d"] * bool(days) + [f"{hours}h"] * bool(hours) + [f"{minutes}m"] * bool(minutes) + [f"{rest}s"]
    return " ".join(parts[:2])
