"""Telling the router in the background that providers.json has changed."""

from __future__ import annotations

import os
from typing import Any

import attrs

from infermux.daemon.lock import Facts, Home, NotReadable, holder

from .asking import NoAnswer, ask, message, of_daemon
from .reload import PATH


@attrs.frozen(kw_only=True)
class TakenUp:
    """`router`: none | reloaded | unchanged | failed. `said`: that, in a sentence; None where there is none to tell."""

    router: str
    said: str | None = None


def take_up() -> TakenUp:
    """Have the router in the background, if there is one, read its configuration again."""
    try:
        facts = holder(Home.of())
        if facts is None:
            return TakenUp(router="none")
        status, answer = ask(of_daemon(facts), "POST", PATH)
    except (NoAnswer, NotReadable) as error:
        return TakenUp(router="failed", said=f"the router in the background could not be told: {error.message}")
    if status != 200:
        return TakenUp(router="failed", said=f"the router in the background goes on as before: {_why(answer)}")
    if answer["changed"]:
        return TakenUp(router="reloaded", said="the router in the background has taken it up")
    return TakenUp(router="unchanged", said=f"the router in the background does not serve it: {_reads(facts)}")


def _why(answer: dict[str, Any]) -> str:
    problems = answer.get("problems")
    if not problems:
        return message(answer)
    return "; ".join("{file}:{line}: {path}: {message}".format(**problem) for problem in problems)


def _reads(facts: Facts) -> str:
    read = os.path.join(facts.cwd, facts.config or "")
    return f"{read} does not lead to it; name it there as `providers_file`"
