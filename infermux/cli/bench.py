"""`bench`: a load test of any deployment at a base URL, or of a router that is started for it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from math import ceil
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import click

from infermux.config.values import credential, duration
from infermux.config.values import url as checked_url

from . import options
from .output import print_json, print_table
from .root import FAILURE

if TYPE_CHECKING:
    from infermux.bench.deployment import Deployment
    from infermux.bench.run import Findings
    from infermux.bench.scenario import Scenario

OWN = ("whole-16", "stream-16", "open-500")
THEIRS = ("whole-16", "stream-16")
INTERRUPTED = 130
MOST_CALLERS = 20_000


@click.command()
@click.option("--url", metavar="URL", help="The base URL to load, such as http://127.0.0.1:8080/v1.")
@click.option("--model", metavar="NAME", help="The model that requests to --url ask for.")
@click.option("--key-env", metavar="NAME", help="The environment variable with the key for --url.")
@click.option(
    "--direct", metavar="URL", help="What stands behind --url: asked in turns, for the latency that is added."
)
@click.option("--direct-model", metavar="NAME", help="Its name of the model. Default: --model.")
@click.option("--direct-key-env", metavar="NAME", help="The environment variable with the key for --direct.")
@click.option(
    "--pid", type=click.IntRange(min=1), help="A process of the server, where it cannot be found by its port."
)
@click.option("--scenario", "names", metavar="NAMES", help="Comma-separated, or all. See --list.")
@click.option("--scenarios", "file", metavar="FILE", help="Scenarios of your own, in YAML or JSON.")
@click.option("--list", "listing", is_flag=True, help="List the scenarios and leave.")
@click.option("--seconds", metavar="TIME", help="How long a round sends, instead of the scenario's own.")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), help="How often each is measured, instead of the scenario's own."
)
@click.option("--callers", type=click.IntRange(1, MOST_CALLERS), help="Connections, instead of the scenario's own.")
@click.option("--rate", type=click.FloatRange(0.001, 1_000_000), help="Requests a second, in an open loop.")
@click.option("--requests", type=click.IntRange(1, 10**9), help="No more than these in a round.")
@click.option("--generator", type=click.Choice(["c", "python"]), help="Default: c where it can be, else python.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write bench.json, .md and .svg into this folder."
)
@click.option("--yes", is_flag=True, help="Do not ask before a load that leaves this machine.")
@options.as_json
def bench(
    *,
    url: str | None,
    model: str | None,
    key_env: str | None,
    direct: str | None,
    direct_model: str | None,
    direct_key_env: str | None,
    pid: int | None,
    names: str | None,
    file: str | None,
    listing: bool,
    seconds: str | None,
    rounds: int | None,
    callers: int | None,
    rate: float | None,
    requests: int | None,
    generator: str | None,
    out: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Load a deployment and measure it; without --url, an infermux that is started for it with mock providers.

    Every answer is verified. Exit code 1 when fewer than 99.9 % were right.
    """
    from infermux.bench import run as running
    from infermux.bench.machine import placement
    from infermux.bench.progress import Teller

    if out is not None:  # better told now than after the run
        _check_writable(out)
    known = _known(file)
    if listing:
        _list(known, as_json)
        return
    asked = Asked(seconds=_seconds(seconds), rounds=rounds, callers=callers, rate=rate, requests=requests)
    deployment = _deployment(
        url=url,
        model=model,
        key_env=key_env,
        direct=direct,
        direct_model=direct_model,
        direct_key_env=direct_key_env,
        pid=pid,
    )
    scenarios = [asked.applied(each) for each in chosen(known, names, file, theirs=deployment is not None)]
    if deployment is not None:
        scenarios = _agreed(scenarios, deployment, yes=yes)
    given = running.Options(deployment=deployment, generator=_generator(generator, deployment))
    with tempfile.TemporaryDirectory(prefix="infermux-bench-") as scratch, one_interrupt():
        found = running.run(scenarios, given, cpus=placement(), scratch=Path(scratch), teller=Teller(sys.stderr))
    _tell(found, out, as_json=as_json)
    sys.exit(INTERRUPTED if found.interrupted else FAILURE if found.failed else 0)


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        _wrong("--out", f"cannot be written to: {error.strerror or error}: {out}")


def _tell(found: Findings, out: Path | None, *, as_json: bool) -> None:
    """Print what was measured, and write it into `out`."""
    if as_json:
        click.echo(found.data().decode(), nl=False)
    else:
        click.echo(found.markdown())
    for written in found.write(out) if out is not None else ():
        click.echo(f"written: {written}", err=True)


@attrs.frozen(kw_only=True)
class Asked:
    """What the command line says instead of the scenarios."""

    seconds: float | None
    rounds: int | None
    callers: int | None
    rate: float | None
    requests: int | None

    def applied(self, scenario: Scenario) -> Scenario:
        """`scenario` as it is asked for."""
        changes: dict[str, Any] = {
            key: value for key, value in attrs.asdict(self).items() if value is not None and key != "rate"
        }
        if self.rate is not None:
            changes |= {"rate": self.rate, "stagger": 0.0}
            # As many connections as requests can be under way: they are opened only when they are needed.
            changes.setdefault("callers", min(MOST_CALLERS, max(scenario.callers, ceil(self.rate * scenario.timeout))))
        return attrs.evolve(scenario, **changes, title=f"{scenario.title}{self._told()}")

    def _told(self) -> str:
        """What a title has to say beside the scenario's own."""
        said = [f"{key} {value:g}" for key, value in attrs.asdict(self).items() if value is not None]
        return f" (here: {', '.join(said)})" if said else ""


def _known(file: str | None) -> Mapping[str, Scenario]:
    """Those that come with infermux, and before them those of the file."""
    from infermux.bench.scenario_file import read, shipped

    return shipped() if file is None else {**read(file), **shipped(), **read(file)}


def _list(known: Mapping[str, Scenario], as_json: bool) -> None:
    if as_json:
        print_json([scenario.shown() for scenario in known.values()])
    else:
        print_table(("SCENARIO", "WHAT"), [(name, scenario.title) for name, scenario in known.items()])


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = duration(text)
    except ValueError:
        found = -1.0
    if not 0.1 <= found <= 3600:
        _wrong("--seconds", f"{text!r} is not a duration from 100ms to 1h, such as 3s")
    return found


def chosen(known: Mapping[str, Scenario], names: str | None, file: str | None, *, theirs: bool) -> list[Scenario]:
    """Those that were named; else those of the file; else a few."""
    from infermux.bench.scenario_file import ALL, read

    if names == ALL:
        return [each for each in known.values() if each.is_plain or not theirs]
    if names is None:
        names = ",".join((THEIRS if theirs else OWN) if file is None else read(file))
    wanted = [name.strip() for name in names.split(",")]
    if "" in wanted:
        _wrong("--scenario", f"a name is missing in {names!r}; --list shows them")
    if ALL in wanted:
        _wrong("--scenario", f"{ALL} is said alone, without further names")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        _wrong("--scenario", f"there is no {', '.join(unknown)}; there are: all, {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def _deployment(
    *,
    url: str | None,
    model: str | None,
    key_env: str | None,
    direct: str | None,
    direct_model: str | None,
    direct_key_env: str | None,
    pid: int | None,
) -> Deployment | None:
    from infermux.bench.deployment import Deployment

    if url is None:
        given = {"--model": model, "--key-env": key_env, "--direct": direct, "--pid": pid}
        given |= {"--direct-model": direct_model, "--direct-key-env": direct_key_env}
        if extra := [name for name, value in given.items() if value is not None]:
            raise click.UsageError(f"{', '.join(extra)}: only with --url; without it an infermux is started")
        return None
    if model is None:
        raise click.UsageError("--url needs --model, the model that requests ask for")
    if direct is None and (direct_model is not None or direct_key_env is not None):
        raise click.UsageError("--direct-model and --direct-key-env belong to --direct")
    return Deployment(
        url=_url("--url", url),
        model=model,
        key=_key("--key-env", key_env),
        direct=None if direct is None else _url("--direct", direct),
        direct_model=direct_model,
        direct_key=_key("--direct-key-env", direct_key_env),
        pid=None if pid is None else _process(pid),
    )


def _process(pid: int) -> int:
    with contextlib.suppress(PermissionError):  # somebody else's, and there
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            _wrong("--pid", f"there is no process {pid} on this machine")
    return pid


def _url(option: str, text: str) -> str:
    try:
        return checked_url(text)
    except ValueError:
        _wrong(option, "must be an http:// or https:// URL with a host, without user information, query or fragment")


def _key(option: str, name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return credential(os.environ[name])
    except KeyError:
        _wrong(option, f"there is no environment variable {name}; it takes the name of one, not the key itself")
    except ValueError:
        _wrong(option, f"the value of {name} is no key: visible ASCII without spaces")


def _agreed(scenarios: Sequence[Scenario], deployment: Deployment, *, yes: bool) -> list[Scenario]:
    """The scenarios with a bound each, told what they come to and agreed to where that leaves this machine."""
    from infermux.bench.deployment import bounded, cost, load_alone

    scenarios = [load_alone(scenario) for scenario in scenarios]
    if deployment.is_local:
        return scenarios
    bound = [bounded(scenario) for scenario in scenarios]
    requests = tokens_in = tokens_out = 0
    for scenario in bound:
        each = cost(scenario, targets=len(deployment.urls))
        requests, tokens_in = requests + each.requests, tokens_in + each.tokens_in
        tokens_out += each.tokens_out
    click.echo(
        f"This sends at most {requests} requests to {' and '.join(deployment.urls)}: about {tokens_in} tokens in "
        f"and {tokens_out} out, which may cost money.",
        err=True,
    )
    if not yes and not _is_interactive():
        raise click.UsageError("this load leaves the machine; say --yes to agree to it")
    if not yes:
        click.confirm("Go on?", abort=True, err=True)
    return bound


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _generator(named: str | None, deployment: Deployment | None) -> str | None:
    """The one that was asked for, if it can be that."""
    from infermux.bench.load import C, generator_for
    from infermux.bench.tools import CannotCompile, compiled

    if named != C:
        return named
    try:
        compiled("load")
    except CannotCompile as problem:
        _wrong("--generator", problem)
    if deployment is not None and any(generator_for(url) != C for url in deployment.urls):
        _wrong("--generator", "the one in C speaks plain http over IPv4 only; leave it out, or say python")
    return named


def _wrong(option: str, problem: object) -> NoReturn:
    raise click.BadParameter(str(problem), param_hint=option)


@contextlib.contextmanager
def one_interrupt() -> Generator[None]:
    """The first Ctrl-C or SIGTERM ends what runs; further ones must not cut the cleaning up short."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
