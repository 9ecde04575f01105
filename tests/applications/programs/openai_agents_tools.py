"""A coding agent of OpenAI's agents SDK, which speaks Responses: tools for files, and an answer of a given form.

Usage: openai_agents_tools.py TASK MODEL... EXAMPLE.py
In the folder MODEL, whole; in MODEL.stream, streamed. Prints its reports, and what the example prints.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path
from typing import Any

from agents import Agent, RunContextWrapper, Runner, function_tool, set_tracing_disabled
from pydantic import BaseModel


class Report(BaseModel):
    """What was done."""

    file: str
    changes: int


@function_tool
def read_file(folder: RunContextWrapper[Path], name: str) -> str:
    """The text of a file."""
    return (folder.context / name).read_text()


@function_tool
def edit_file(folder: RunContextWrapper[Path], name: str, old: str, new: str) -> str:
    """Replace `old` by `new` in a file."""
    file = folder.context / name
    file.write_text(file.read_text().replace(old, new))
    return "edited"


async def main(task: str, models: list[str]) -> None:
    set_tracing_disabled(True)
    for model in models:
        agent: Agent[Any] = Agent(
            name="editor",
            instructions="Edit files.",
            model=model,
            tools=[read_file, edit_file],
            output_type=Report,
        )
        whole = await Runner.run(agent, task, context=Path(model))
        print(whole.final_output_as(Report).model_dump_json())
        streamed = Runner.run_streamed(agent, task, context=Path(f"{model}.stream"))
        async for _ in streamed.stream_events():
            pass
        print(streamed.final_output_as(Report).model_dump_json())


# One loop for both: connections of the SDK's client do not outlive theirs, and its run_sync takes this one.
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main(sys.argv[1], sys.argv[2:-1]))
runpy.run_path(sys.argv[-1])
