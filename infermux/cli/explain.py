"""`explain`: why a running router sent a request where it did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click

from . import options
from .asking import found, target, url_option
from .output import counted, print_json, print_table

PATH = "/_infermux/explain/"


@click.command()
@click.argument("request_id", metavar="ID")
@options.config
@options.as_json
@url_option
def explain(request_id: str, path: str | None, as_json: bool, url: str | None) -> None:
    """Say why the request ID (its X-Request-Id) went where it did: each candidate, each attempt.

    The running router is found as by `reload`. It keeps the last 1000 requests.
    """
    answer = found(target(url, path), PATH + quote(request_id, safe=""))
    if as_json:
        print_json(answer)
        return
    for line in _summary(answer):
        click.echo(line)
    if answer["candidates"]:
        click.echo()
        print_table(
            ("TIER", "PLACE", "PROVIDER", "MODEL", "SCORE", "AVERAGE", "LOAD", "WHAT BECAME OF IT"),
            [_candidate(each) for each in answer["candidates"]],
        )
        for strategy, meaning in answer["scores"].items():
            click.echo(f"score of {strategy}: {meaning}")
    if answer["attempts"]:
        click.echo()
        print_table(
            ("ATTEMPT", "PROVIDER", "MODEL", "STARTED", "FIRST TOKEN", "ENDED", "OUTCOME"),
            [_attempt(number, each) for number, each in enumerate(answer["attempts"], 1)],
        )


def _summary(answer: dict[str, Any]) -> list[str]:
    asked = f"{answer['endpoint']} for {answer['requested'] or 'no model'}"
    if answer["caller"]:
        asked += f" by {answer['caller']}"
    if answer["state"] == "running":
        return [f"{answer['id']}: {asked}, running for {seconds(answer['latency'])}"]
    came = f"{answer['ending']}, {answer['status']}"
    if answer["provider"]:
        came = f"answered by {answer['provider']} ({answer['model']}), {came}"
    if answer["code"]:
        came += f" {answer['code']}"
    took = f"{seconds(answer['latency'])} in {counted(answer['tried'], 'attempt')}"
    at = datetime.fromtimestamp(answer["at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [f"{answer['id']}: {asked}, {at}", f"{came}: {took}, {seconds(answer['overhead'])} of it our own"]
    lines += _used(answer)
    return [*lines, answer["message"]] if answer["message"] else lines


def _used(answer: dict[str, Any]) -> list[str]:
    """What it came to, where anything was used."""
    if answer["prompt_tokens"] is None:
        return []
    cost = "at a price nobody knows" if answer["cost"] is None else f"${answer['cost']:.6g}"
    return [f"{answer['prompt_tokens']} tokens in, {answer['completion_tokens']} out: {cost}"]


def _candidate(each: dict[str, Any]) -> tuple[str, ...]:
    known = each["known"]
    average = seconds(known["latency"]) if known else "-"
    place, score = each["place"], each["score"]
    return (
        str(each["tier"]),
        "-" if place is None else str(place),
        each["provider"],
        each["model"],
        "-" if score is None else f"{score:.4g}",
        average,
        str(known["load"]) if known else "-",
        _became(each),
    )


def _became(each: dict[str, Any]) -> str:
    said = each["reason"] if each["verdict"] == "asked" else f"{each['verdict'].replace('_', ' ')}: {each['reason']}"
    return f"{said} ({each['detail']})" if each["detail"] else said


def _attempt(number: int, each: dict[str, Any]) -> tuple[str, ...]:
    times = (seconds(each[name]) for name in ("started", "first_token", "ended"))
    return str(number), each["provider"], each["model"], *times, each["outcome"]


def seconds(value: float | None) -> str:
    """A time for people."""
    if value is None:
        return "-"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
