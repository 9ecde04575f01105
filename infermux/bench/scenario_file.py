"""Reads scenarios from YAML or JSON: every problem at once, each with its file, line and key, as for infermux.yml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from infermux.config import document
from infermux.config.kinds import TEXT_TAGS, MapOf, Raw, Value, one_of
from infermux.config.reading import Path as Place
from infermux.config.reading import Reading
from infermux.config.scalars import DURATION, HEADER_VALUE, NAME, SWITCH, TEXT
from infermux.config.section import Key, Section, keys_of, section_of
from infermux.config.source_text import text_of
from infermux.config.values import decimal, duration, header_name, name, show_duration, size, whole
from infermux.errors import ConfigError

from .callers import CALLERS
from .scenario import Faulty, Limited, Scenario, Server

SHIPPED = Path(__file__).resolve().parent / "scenarios.yml"
ALL = "all"
_NUMBERS = frozenset({"int", "float"})


def _whole(least: int, most: int) -> Value:
    def checked(written: str) -> int:
        number = whole(written)
        if not least <= number <= most:
            raise ValueError(written)
        return number

    json = {"type": "integer", "minimum": least, "maximum": most}
    return Value(what=f"a whole number from {least} to {most}", convert=checked, tags=frozenset({"int"}), json=json)


def _seconds(least: float, most: float) -> Value:
    def checked(written: str) -> float:
        seconds = duration(written)
        if not least <= seconds <= most:
            raise ValueError(written)
        return seconds

    what = f"a duration from {show_duration(least)} to {show_duration(most)}, such as 250ms or 3s"
    return Value(what=what, convert=checked, tags=TEXT_TAGS | _NUMBERS, json=DURATION.json, shown=show_duration)


def _rate(written: str) -> float:
    number = decimal(written)
    if not 0 < number <= 1_000_000:
        raise ValueError(written)
    return number


def _prompt(written: str) -> int:
    number = size(written)
    if number > 64 * 2**20:
        raise ValueError(written)
    return number


RATE = Value(
    what="requests a second, above 0 and at most 1000000, or null for a closed loop",
    convert=_rate,
    tags=_NUMBERS,
    json={"type": ["number", "null"], "exclusiveMinimum": 0},
    nullable=True,
)
PROMPT = Value(
    what="a size of at most 64MiB such as 1500, 10KB, 1MB",
    convert=_prompt,
    tags=TEXT_TAGS | _NUMBERS,
    json={"type": ["string", "integer"]},
)
STATUS = attrs.evolve(_whole(400, 599), nullable=True, what="a status from 400 to 599, or null: no answer at all")
FAULTY = section_of(
    Faulty,
    keys_of(
        Faulty,
        ("providers", _whole(1, 10_000), "The first so many providers fail."),
        ("every", _whole(1, 1_000_000), "Each so many-th of the requests to them fails."),
        ("status", STATUS, "What they answer then; null: the connection is closed without an answer."),
        ("retry_after", _whole(0, 3600), "Seconds in the header `Retry-After` of that answer; 0: none."),
    ),
)
LIMITED = section_of(
    Limited,
    keys_of(
        Limited,
        ("providers", _whole(1, 10_000), "The first so many providers are limited."),
        ("requests_per_minute", _whole(1, 1_000_000_000), "Their `rate_limits.requests_per_minute`."),
    ),
)
SERVER = section_of(
    Server,
    keys_of(
        Server,
        ("type", one_of(("openai", "anthropic", "bedrock")), "The type of its providers."),
        ("providers", _whole(1, 10_000), "How many serve the model; all are the same mock."),
        ("others", _whole(0, 10_000), "How many beside them do not serve it."),
        ("interval", _seconds(0, 60), "Between the tokens of a stream."),
        ("first_token", _seconds(0, 60), "Before the first token of a stream."),
        ("answer_after", _seconds(0, 60), "Before a whole answer."),
        ("faulty", FAULTY, "Providers that fail."),
        ("limited", LIMITED, "Providers with a limit."),
        ("config", Raw(what="keys of infermux.yml"), "Merged into the router's infermux.yml."),
    ),
)
HEADERS = MapOf(value=HEADER_VALUE, what="a mapping of names and values", key=header_name, key_what="a header's name")
SCENARIO = section_of(
    Scenario,
    keys_of(
        Scenario,
        ("title", TEXT, "What reports say it is."),
        ("api", one_of(tuple(CALLERS)), "What callers speak."),
        ("stream", SWITCH, "Whether answers are streamed."),
        ("callers", _whole(1, 20_000), "Connections. In a closed loop each sends its next request after its answer."),
        ("rate", RATE, "Requests a second in an open loop, whatever the server does; null: a closed loop."),
        ("seconds", _seconds(0.1, 3600), "How long a round sends."),
        ("requests", attrs.evolve(_whole(1, 10**9), nullable=True), "No more of them in a round; null: no such bound."),
        ("rounds", _whole(1, 1000), "How often each target is measured."),
        ("stagger", _seconds(0, 3600), "Over which time the callers of a closed loop begin."),
        ("timeout", _seconds(0.1, 3600), "Of one request; later it has failed."),
        ("prompt", PROMPT, "About how large the body is."),
        ("tokens", _whole(1, 100_000), "How long answers are to be: the request's bound, and what the mock sends."),
        (
            "tools",
            _whole(0, 1000),
            "How many tools a request offers; with any it has a call and its result and insists on one.",
        ),
        ("body", Raw(what="keys of the request"), "Merged into the body; null takes a key away."),
        ("headers", HEADERS, "Sent with each request, beside the usual ones."),
        ("server", SERVER, "The router that is started where no URL is given."),
    ),
)
FILE = Section(
    keys=(
        Key(
            name="scenarios",
            kind=MapOf(value=SCENARIO, what="scenarios by name", key=name, key_what=NAME.what),
            doc="What can be run, by name.",
            default={},
            required=True,
        ),
    ),
    make=dict,
)


def shipped() -> Mapping[str, Scenario]:
    """The scenarios that come with infermux, by name."""
    return read(str(SHIPPED))


def read(file: str) -> Mapping[str, Scenario]:
    """The scenarios of a file, by name. Raises ConfigError with every problem."""
    return read_text(text_of(file), source=file)


def read_text(text: str, *, source: str) -> Mapping[str, Scenario]:
    """As `read`; `source` is what problems name as its file."""
    reading = Reading(source, os.environ)
    node = document.parse(text, source=source)
    found: Mapping[str, Scenario] = FILE.read(node or document.Mapping((), 1), (), reading)["scenarios"]
    for key, scenario in found.items():
        _check(scenario, ("scenarios", key), reading)
    if not found and not reading.problems:
        reading.problem(("scenarios",), "there is none; write at least one")
    if reading.problems:
        raise ConfigError(sorted(reading.problems, key=lambda problem: problem.line))
    return {key: attrs.evolve(scenario, name=key, title=scenario.title or key) for key, scenario in found.items()}


def _check(scenario: Scenario, path: Place, reading: Reading) -> None:
    """What its keys cannot say of one another."""
    server, place = scenario.server, (*path, "server")
    if path[-1] == ALL:
        reading.problem(path, f"is what names all of them; call it something else than {ALL}")
    if scenario.stream and scenario.api == "embeddings":
        reading.problem((*path, "stream"), "embeddings are not streamed; leave it out")
    if scenario.rate is not None and scenario.stagger:
        reading.problem((*path, "stagger"), "belongs to a closed loop; leave it or `rate` out")
    if scenario.api == "embeddings" and server.type != "openai":
        reading.problem((*place, "type"), "must be openai: no other type has embeddings")
    for part, found in (("faulty", server.faulty), ("limited", server.limited)):
        if found is not None and found.providers > server.providers:
            reading.problem((*place, part, "providers"), f"must be at most {server.providers}, as there are no more")
    if not isinstance(_any(server.config), dict):
        reading.problem((*place, "config"), "must be a mapping of keys")
    if not isinstance(_any(scenario.body), dict):
        reading.problem((*path, "body"), "must be a mapping of keys")


def _any(value: Any) -> Any:
    return value
