"""The fault script of a simulated provider: what each request, or each stretch of time, comes to.

A script is a list of steps. A plain step is for one request (`times: N`: for N, `repeat: true`: for all from then on),
in order; after the last one the provider behaves normally. A step with `from` and/or `to` is a window in time since the
provider was made: while it lasts it decides for every request and uses up no plain step.

One fault per step: `ok: true`, `status: 400-599` (with `retry_after`, `code`, `message`), `hang: true` (silence),
`refuse: true` (no connection), `malformed: true` (a 2xx that is no completion), `cut_after: N` (breaks after N tokens),
`stall_after: N` with `for: DURATION`. Steps that answer may also set `first_token` and `tokens_per_second`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import attrs

from infermux.config.script import clashes, never_reached

from .classify import parse_duration


@attrs.frozen(kw_only=True)
class Step:
    """What a request comes to. All defaults: a normal answer. Times in seconds, cuts and stalls in tokens."""

    status: int | None = None
    retry_after: float | None = None
    code: str | None = None
    message: str | None = None
    hang: bool = False
    refuse: bool = False
    malformed: bool = False
    cut_after: int | None = None
    stall_after: int | None = None
    stall_for: float = math.inf
    first_token: float | None = None
    tokens_per_second: float | None = None
    times: int = 1
    repeat: bool = False
    start: float | None = None
    end: float | None = None

    @property
    def is_window(self) -> bool:
        return self.start is not None or self.end is not None


NORMAL = Step()


class Script:
    """Hands out the steps. `next_step` uses one up, `standing` only looks."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._windows = tuple(step for step in steps if step.is_window)
        self._plain = [step for step in steps if not step.is_window]
        self._used = 0

    def __repr__(self) -> str:
        return f"Script({len(self._plain)} steps left, {len(self._windows)} windows)"

    def next_step(self, elapsed: float) -> Step:
        """The step for a request that comes `elapsed` seconds after the start."""
        window = self._window(elapsed)
        if window is not None:
            return window
        if not self._plain:
            return NORMAL
        step = self._plain[0]
        if not step.repeat:
            self._used += 1
            if self._used >= step.times:
                self._plain.pop(0)
                self._used = 0
        return step

    def standing(self, elapsed: float) -> Step:
        """The lasting state: a window, or a step that repeats for ever. One-shot steps are left to requests."""
        window = self._window(elapsed)
        if window is not None:
            return window
        return self._plain[0] if self._plain and self._plain[0].repeat else NORMAL

    def _window(self, elapsed: float) -> Step | None:
        for step in self._windows:
            if (step.start or 0.0) <= elapsed < (math.inf if step.end is None else step.end):
                return step
        return None


def parse_script(script: Sequence[Mapping[str, Any]]) -> Script:
    """The script of a configuration. Raises ValueError with every problem `check_script` finds."""
    problems = check_script(script)
    if problems:
        raise ValueError("; ".join(problems))
    return Script([_step(item) for item in script])


def check_script(script: object) -> list[str]:
    """What is wrong with a script, one sentence each that starts with the place (`[0].status: ...`). Empty: nothing."""
    if not isinstance(script, Sequence) or isinstance(script, str | bytes):
        return ["must be a list of steps"]
    items = cast("Sequence[object]", script)
    problems = [f"[{index}]{problem}" for index, item in enumerate(items) for problem in _check_step(item)]
    steps = tuple(cast("Mapping[str, Any]", item) for item in items if isinstance(item, Mapping))
    early = never_reached(steps) if len(steps) == len(items) else None
    if early is not None:
        problems.append(f"[{early}].repeat: the steps after one that repeats for ever are never reached")
    return problems


def _check_step(item: object) -> list[str]:
    if not isinstance(item, Mapping):
        return [": must be a mapping such as {status: 500}"]
    step = cast("Mapping[object, object]", item)
    problems: list[str] = []
    for key, value in step.items():
        check = _CHECKS.get(key) if isinstance(key, str) else None
        if check is None:
            problems.append(f".{key}: unknown key; known: {', '.join(sorted(_CHECKS))}")
        elif not check[0](value):
            problems.append(f".{key}: must be {check[1]}, not {value!r}")
    if not problems and "from" in step and "to" in step and _seconds(step["from"]) >= _seconds(step["to"]):
        problems.append(".to: must be later than `from`")
    return problems + [f": {clash}" for clash in clashes({str(key): value for key, value in step.items()})]


def _is_true(value: object) -> bool:
    return value is True


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_duration(value: object) -> bool:
    return _is_number(value) or (isinstance(value, str) and parse_duration(value) is not None)


def _is_status(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599


_A_DURATION = "a duration such as 250ms or 3s"
_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "ok": (_is_true, "true"),
    "status": (_is_status, "a status from 400 to 599"),
    "retry_after": (_is_duration, _A_DURATION),
    "code": (lambda value: isinstance(value, str), "a string"),
    "message": (lambda value: isinstance(value, str), "a string"),
    "hang": (_is_true, "true"),
    "refuse": (_is_true, "true"),
    "malformed": (_is_true, "true"),
    "cut_after": (_is_count, "a number of tokens, 0 or more"),
    "stall_after": (_is_count, "a number of tokens, 0 or more"),
    "for": (_is_duration, _A_DURATION),
    "first_token": (_is_duration, _A_DURATION),
    "tokens_per_second": (_is_number, "a number, 0 or more (0: no waiting)"),
    "times": (lambda value: _is_count(value) and value != 0, "a number of requests, 1 or more"),
    "repeat": (_is_true, "true"),
    "from": (_is_duration, _A_DURATION),
    "to": (_is_duration, _A_DURATION),
}


def _step(item: Mapping[str, Any]) -> Step:
    given = dict(item)
    given.pop("ok", None)
    fields: dict[str, Any] = {_NAMES.get(key, key): value for key, value in given.items()}
    for name in ("retry_after", "stall_for", "first_token", "start", "end"):
        if name in fields:
            fields[name] = _seconds(fields[name])
    return Step(**fields)


_NAMES = {"for": "stall_for", "from": "start", "to": "end"}


def _seconds(value: Any) -> float:
    """Of a duration that `_is_duration` accepts."""
    seconds = parse_duration(value) if isinstance(value, str) else float(value)
    return 0.0 if seconds is None else seconds
