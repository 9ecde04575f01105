"""Find the file, read it, check it: text in, `Config` out, or everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from infermux.errors import ConfigError, Problem

from . import document
from .checks import check
from .reading import Reading
from .sections import ROOT
from .settings import Config

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

    The first two are taken as they are, there or not. Raises ConfigError when none is named and none is there.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(VARIABLE):
        return named
    here = HERE if cwd is None else str(cwd / HERE)
    if os.path.exists(here):
        return here
    own = home or Path(environ.get("HOME") or "/")
    at_home, installed = str(own / AT_HOME), own / PROVIDERS_AT_HOME
    if os.path.exists(at_home):
        return at_home
    message = (
        f"no model providers configured: none of ${VARIABLE}, {here}, {at_home} and {installed} is there; "
        "`infermux provider install ID --package NAME` installs one; or write a file, name one with -c FILE, or try "
        "`infermux serve --demo`"
    )
    raise ConfigError([Problem(here, 1, "providers", message)])


def load(path: str | None, *, environ: Mapping[str, str] = os.environ, overrides: Overrides = NO_OVERRIDES) -> Config:
    """The checked configuration of `path` (None: see `find_config`). Raises ConfigError with every problem."""
    return load_checked(path, environ=environ, overrides=overrides)[0]


def load_checked(
    path: str | None, *, environ: Mapping[str, str] = os.environ, overrides: Overrides = NO_OVERRIDES
) -> tuple[Config, list[Problem]]:
    """As `load`, with the warnings: what is allowed but hardly meant."""
    source = find_config(path, environ)
    return load_text_checked(_text(source), source=source, environ=environ, overrides=overrides)


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
    reading = Reading(source, environ)
    node = document.parse(text, source=source)
    if node is None:
        node = document.Mapping((), 1)
    reading.at((), node.line)
    config = _overridden(ROOT.read(node, (), reading), source, overrides)
    check(config, reading)
    if reading.problems:
        raise ConfigError(sorted(reading.problems, key=lambda problem: problem.line))
    return config, sorted(reading.warnings, key=lambda problem: problem.line)


def _overridden(config: Config, source: str, overrides: Overrides) -> Config:
    config = attrs.evolve(config, source=source)
    if overrides.listen is not None:
        config = attrs.evolve(config, listen=overrides.listen)
    if overrides.log_level is not None:
        config = attrs.evolve(config, log=attrs.evolve(config.log, level=overrides.log_level))
    return config


def _text(source: str) -> str:
    try:
        with open(source, "rb") as file:
            data = file.read(document.LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(source, f"cannot be read: {error.strerror or 'not a usable path'}") from None
    except ValueError:
        raise _unreadable(source, "cannot be read: not a usable path") from None
    if len(data) > document.LARGEST_FILE:
        raise _unreadable(source, f"is larger than {document.LARGEST_FILE // 2**20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(source, "is not UTF-8 text", line) from None


def _unreadable(source: str, message: str, line: int = 1) -> ConfigError:
    return ConfigError([Problem(source, line, "(file)", message)])
