"""The commands by name, and what becomes of errors: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from infermux import __version__
from infermux.errors import ConfigError, InfermuxError

from .output import as_dicts, print_json, print_problems

FAILURE = 1
CONFIGURATION = 2

# name -> module:function. Modules load when their command is called, so that `--version` and `schema` do not wait for
# the server's.
COMMANDS: Mapping[str, str] = {
    "serve": "serve:serve",
    "start": "daemon:start",
    "stop": "daemon:stop",
    "restart": "daemon:restart",
    "status": "daemon:status",
    "check": "inspect:check",
    "schema": "inspect:schema",
    "models": "inspect:models",
    "infer": "serve:infer",
    "reload": "reload:reload",
    "chat": "chat:chat",
    "top": "top:top",
    "explain": "explain:explain",
    "keys": "keys:keys",
    "costs": "costs:costs",
    "provider": "provider:provider",
    "update": "update:update",
    "simulate": "simulate:simulate",
    "bench": "bench:bench",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(f".{module}", __package__), function)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="infermux", message="%(prog)s %(version)s")
def cli() -> None:
    """Route LLM requests over several providers."""


def run() -> None:
    """Run the command of `sys.argv` and leave the process."""
    try:
        cli.main(prog_name="infermux")
    except ConfigError as error:
        print_problems(error.problems)
        _as_json({"problems": as_dicts(error.problems)})
        sys.exit(CONFIGURATION)
    except InfermuxError as error:
        _failed(error.message)
    except OSError as error:
        reason = error.strerror or str(error)
        _failed(reason if error.filename is None else f"{error.filename}: {reason}")


def _failed(message: str) -> NoReturn:
    click.echo(f"infermux: {message}", err=True)
    _as_json({"error": message})
    sys.exit(FAILURE)


def _as_json(failure: Mapping[str, Any]) -> None:
    """On stdout, for who has asked for JSON: the command did not get as far as to say anything there."""
    if "--json" in sys.argv:
        print_json(failure)
