"""Faults of simulated providers, as the command line writes them: `openai=429@10m..12m`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from infermux.config.settings import ProviderSettings
from infermux.config.values import duration
from infermux.providers.simulated_script import Step

_FAULT = re.compile(r"(?P<provider>[^=]+)=(?P<kind>[^@]+)(?:@(?P<start>[^@]*?)\.\.(?P<end>[^@]*))?")
_KIND = re.compile(r"(?P<word>[a-z]+|[0-9]{3})(?:\((?P<number>[^()]*)\))?")
KINDS = "a status from 400 to 599, refuse, reset, hang, malformed, cut(TOKENS), stall(TOKENS), slow(xTIMES)"
DEFAULT_TOKENS = 10  # after which an answer is cut or stalls
DEFAULT_SLOWNESS = 10.0


@attrs.frozen
class Fault:
    """What a provider does from `start` to before `end`, in seconds of the simulation. `slow` stretches its answers."""

    provider: str
    step: Step = Step()
    slow: float = 1.0
    start: float = 0.0
    end: float = math.inf

    def is_on(self, now: float) -> bool:
        return self.start <= now < self.end


def parse_fault(text: str, providers: Sequence[str]) -> Fault:
    """One `NAME=KIND@FROM..TO`; FROM, TO or all after KIND may be left out. ValueError says what is wrong."""
    match = _FAULT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not NAME=KIND@FROM..TO such as openai=429@10m..12m")
    name = match["provider"]
    check_name(name, providers)
    step, slow = _kind(match["kind"])
    start = _moment(match["start"], 0.0)
    end = _moment(match["end"], math.inf)
    if start >= end:
        raise ValueError(f"{text!r} ends before it begins")
    return Fault(name, step, slow, start, end)


def parse_assigned(text: str, providers: Sequence[str], of: str) -> tuple[str, str]:
    """The two halves of `NAME=VALUE`; `of` is an example value. ValueError says what is wrong."""
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise ValueError(f"{text!r} is not NAME=VALUE such as {providers[0]}={of}")
    check_name(name, providers)
    return name, value


def check_name(name: str, providers: Sequence[str]) -> None:
    if name not in providers:
        raise ValueError(f"there is no provider named {name!r}; there are: {', '.join(providers)}")


def _moment(text: str | None, default: float) -> float:
    if not text:
        return default
    try:
        return duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 90s, 10m or 1h30m") from None


def _kind(text: str) -> tuple[Step, float]:
    match = _KIND.fullmatch(text)
    if match is not None:
        word, number = match["word"], match["number"]
        if word in _COUNTED:
            return _COUNTED[word](_tokens(text, number)), 1.0
        if word == "slow":
            return Step(), _times(text, number)
        if number is None and word in _PLAIN:
            return _PLAIN[word], 1.0
        if number is None and word.isdigit() and 400 <= int(word) <= 599:
            return Step(status=int(word)), 1.0
    raise ValueError(f"{text!r} is no fault; it is one of {KINDS}")


_PLAIN: Mapping[str, Step] = {
    "refuse": Step(refuse=True),
    "reset": Step(cut_after=0),
    "hang": Step(hang=True),
    "malformed": Step(malformed=True),
}
_COUNTED: Mapping[str, Callable[[int], Step]] = {
    "cut": lambda tokens: Step(cut_after=tokens),
    "stall": lambda tokens: Step(stall_after=tokens),
}


def _tokens(text: str, number: str | None) -> int:
    if number is None:
        return DEFAULT_TOKENS
    if not number.isdecimal() or len(number) > 9:
        raise ValueError(f"{text!r}: the number of tokens is a whole number, 0 or more")
    return int(number)


def _times(text: str, number: str | None) -> float:
    if number is None:
        return DEFAULT_SLOWNESS
    try:
        times = float(number.removeprefix("x"))
    except ValueError:
        times = 0.0
    if not (0 < times < math.inf):
        raise ValueError(f"{text!r}: how many times slower is a number above 0, such as slow(x5)")
    return times


@attrs.frozen
class Pace:
    """A provider's usual speed: seconds to the first token, then tokens per second (0: all at once)."""

    first_token: float
    tokens_per_second: float


def pace_of(settings: ProviderSettings) -> Pace:
    """What the settings say; for types other than `simulated`, the defaults of `simulate`."""
    return Pace(settings.simulate.first_token, settings.simulate.tokens_per_second)
