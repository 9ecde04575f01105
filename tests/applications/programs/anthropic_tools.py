"""A coding agent of Anthropic's SDK: its tool runner with its own tools for files.

Usage: anthropic_tools.py TASK MODEL... EXAMPLE.py
In the folder MODEL, whole; in MODEL.stream, streamed. Prints what it says, and what the example prints.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from typing import Any

from anthropic import AsyncAnthropic
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_edit_tool, beta_read_tool


async def mend(client: AsyncAnthropic, task: str, model: str, folder: str, stream: bool) -> str:
    context = AgentToolContext(workdir=folder)
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": task}],
        "tools": [beta_read_tool(context), beta_edit_tool(context)],
    }
    if not stream:
        final = await client.beta.messages.tool_runner(**asked).until_done()
        return final.content[0].text
    said = ""
    async for turn in client.beta.messages.tool_runner(**asked, stream=True):
        async for text in turn.text_stream:
            said += text
    return said


async def main(task: str, models: list[str]) -> None:
    async with AsyncAnthropic(max_retries=0) as client:
        for model in models:
            print(await mend(client, task, model, model, stream=False))
            print(await mend(client, task, model, f"{model}.stream", stream=True))


asyncio.run(main(sys.argv[1], sys.argv[2:-1]))
runpy.run_path(sys.argv[-1])  # here, where all it needs has been imported: that takes longer than anything else
