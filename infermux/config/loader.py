"""Find the file, read it, check it: text in, `Config` out, or everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from infermux.errors import ConfigError, Problem

from . import document
from .checks import check
from .installed import read_installed
from .reading import Reading
from .sections import ROOT, joined
from .settings import Config
from .source_text import text_of

VARIABLE = "INFERMUX_CONFIG"
HERE = "infermux.yml"
AT_HOME = ".infermux/infermux.yml"
PROVIDERS_AT_HOME = ".infermux/providers.json"


@attrs.frozen(kw_only=True)
class Overrides:
    """What the command line says instead of the file; checked together with it."""

    listen: str | None = None
    log_level: str | None = None


NO_OVERRIDES = Overrides()


def find_config(
    explicit: str | None,
    environ: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    home: Path | None = None,
) -> str:
    """The file to load: `explicit`, else `$INFERMUX_CONFIG`, else ./infermux.yml, else ~/.infermux/infermux.yml.

    The first two are taken as they are, there or not. When none is named and none is there it is
    ~/.infermux/providers.json, and without that one ConfigError is raised.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(VARIABLE):
        return named
    here = HERE if cwd is None else str(cwd / HERE)
    if os.path.exists(here):
        return here
    own = home or Path(environ.get("HOME") or "/")
    at_home, installed = str(own / AT_HOME), str(own / PROVIDERS_AT_HOME)
    for path in (at_home, installed):
        if os.path.exists(path):
            return path
    message = (
        f"no model providers configured: none of ${VARIABLE}, {here}, {at_home} and {installed} is there; "
        "`infermux provider install ID --package NAME` installs one; or write a file, name one with -c FILE, or try "
        "`infermux serve --demo`"
    )
    raise ConfigError([Problem(here, 1, "providers", message)])


def providers_at_home(environ: Mapping[str, str] = os.environ) -> str:
    """Where `infermux provider install` writes down what it has installed."""
    return str(Path(environ.get("HOME") or "/", PROVIDERS_AT_HOME))


def load(path: str | None, *, environ: Mapping[str, str] = os.environ, overrides: Overrides = NO_OVERRIDES) -> Config:
    """The checked configuration of `path` (None: see `find_config`). Raises ConfigError with every problem."""
    return load_checked(path, environ=environ, overrides=overrides)[0]


def load_checked(
    path: str | None, *, environ: Mapping[str, str] = os.environ, overrides: Overrides = NO_OVERRIDES
) -> tuple[Config, list[Problem]]:
    """As `load`, with the warnings: what is allowed but hardly meant."""
    return reader(path, environ=environ, overrides=overrides)()


def reader(
    path: str | None, *, environ: Mapping[str, str] = os.environ, overrides: Overrides = NO_OVERRIDES
) -> Callable[[], tuple[Config, list[Problem]]]:
    """What reads the configuration of `path`, as `load_checked`, each time it is called: the file is found now."""
    source = find_config(path, environ)
    installed = None if path is not None else providers_at_home(environ)

    def read() -> tuple[Config, list[Problem]]:
        text = "" if source == installed else text_of(source)
        return _checked(text, source, environ, overrides, installed)

    return read


def load_text(
    text: str,
    *,
    source: str = "infermux.yml",
    environ: Mapping[str, str] = os.environ,
    overrides: Overrides = NO_OVERRIDES,
) -> Config:
    """As `load`, from a text; `source` is what problems name as its file."""
    return load_text_checked(text, source=source, environ=environ, overrides=overrides)[0]


def load_text_checked(
    text: str,
    *,
    source: str = "infermux.yml",
    environ: Mapping[str, str] = os.environ,
    overrides: Overrides = NO_OVERRIDES,
) -> tuple[Config, list[Problem]]:
    """As `load_checked`, from a text."""
    return _checked(text, source, environ, overrides, None)


def _checked(
    text: str, source: str, environ: Mapping[str, str], overrides: Overrides, installed: str | None
) -> tuple[Config, list[Problem]]:
    """`installed`: the providers.json that is read where the text names none; it need not be there."""
    reading = Reading(source, environ)
    node = document.parse(text, source=source)
    if node is None:
        node = document.Mapping((), 1)
    reading.at((), node.line)
    config = _overridden(ROOT.read(node, (), reading), source, overrides)
    config = _with_installed(config, reading, installed)
    check(config, reading)
    if reading.problems:
        raise ConfigError(_in_order(reading.problems, source))
    return config, _in_order(reading.warnings, source)


def _with_installed(config: Config, reading: Reading, installed: str | None) -> Config:
    named = config.providers_file
    file = installed if named is None else os.path.expanduser(named)
    config = attrs.evolve(config, providers_file=file)
    if named is not None and not os.path.exists(file or ""):
        reading.problem(("providers_file",), f"there is no file {reading.shown(named)}")
        return config
    if file is None or not os.path.exists(file):
        return config
    more = read_installed(file, reading, first=len(config.providers))
    return joined(config, more)


def _in_order(problems: list[Problem], source: str) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.file != source, problem.line))


def _overridden(config: Config, source: str, overrides: Overrides) -> Config:
    config = attrs.evolve(config, source=source)
    if overrides.listen is not None:
        config = attrs.evolve(config, listen=overrides.listen)
    if overrides.log_level is not None:
        config = attrs.evolve(config, log=attrs.evolve(config.log, level=overrides.log_level))
    return config
