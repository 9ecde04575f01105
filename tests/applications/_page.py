"""The examples of `docs/applications.md`, as they stand but for the router's address and the names of the models."""

from __future__ import annotations

import re
from pathlib import Path

from tests.applications._applications import Reached
from tests.applications._upstreams import Kind, claude, gpt

PAGE = Path(__file__).parents[2].joinpath("docs", "applications.md")


def example(heading: str, language: str, reached: Reached, kind: Kind) -> str:
    """The block below a heading, for the model at the provider of that kind."""
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    found = re.search(rf"```{language}\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    assert found is not None, f"no {language} below {heading}"
    text = found[1].replace("http://127.0.0.1:8080", reached.router.url)
    return text.replace('gpt-4o"', f'{gpt(kind)}"').replace('claude-haiku-4-5"', f'{claude(kind)}"')


def program(heading: str, reached: Reached, kind: Kind) -> str:
    """A Python example, in a file of the folder of work; its name."""
    name = f"{kind}.py"
    (reached.work / name).write_text(example(heading, "python", reached, kind))
    return name
