"""A router to be killed: runs the processes whose commands are in its first argument, says when they are ready."""

from __future__ import annotations

import json
import sys

import trio

from infermux.processes import ProviderProcess, Spec


async def main(commands: list[list[str]]) -> None:
    processes = [ProviderProcess(Spec(name=f"p{n}", command=tuple(each))) for n, each in enumerate(commands)]
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(process.run)
        for process in processes:
            await process.ready()
        print("ready", flush=True)


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
