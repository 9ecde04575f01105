"""The wall over real sockets, asked by the official SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import openai
import trio

from tests._turns import Unhurried
from tests.e2e._router import HELLO, routing
from tests.e2e.faults._runs import NOT_JSON, Placed, Result, Run, asked, configuration, place
from tests.e2e.faults._table import SCALE, Case

AT_ONCE = 6


@attrs.frozen
class OverSockets:
    """A router on a socket, and the SDK."""

    sdk: openai.AsyncOpenAI

    async def ask(self, model: str, *, stream: bool) -> Result:
        """What a program that uses the SDK sees."""
        seen = _Seen()
        began = trio.current_time()
        try:
            await (self._stream if stream else self._whole)(model, seen)
        except openai.APIStatusError as error:
            seen.code, seen.status = error.code, error.status_code
            seen.headers = dict(error.response.headers)
        except openai.APIError as error:
            seen.code = error.code or "connection"
        except json.JSONDecodeError:
            seen.code = NOT_JSON
        return Result(
            code=seen.code,
            status=seen.status,
            said=seen.said,
            seconds=trio.current_time() - began,
            headers={name.lower(): value for name, value in seen.headers.items()},
            finished=seen.finished,
        )

    async def _stream(self, model: str, seen: _Seen) -> None:
        raw = await self.sdk.chat.completions.with_raw_response.create(model=model, messages=HELLO, stream=True)
        seen.headers = dict(raw.headers)
        async for chunk in raw.parse():
            for choice in chunk.choices:
                seen.said += choice.delta.content or ""
                seen.finished = seen.finished or choice.finish_reason is not None

    async def _whole(self, model: str, seen: _Seen) -> None:
        raw = await self.sdk.chat.completions.with_raw_response.create(model=model, messages=HELLO)
        seen.headers = dict(raw.headers)
        choice = raw.parse().choices[0]
        seen.said, seen.finished = choice.message.content or "", bool(choice.finish_reason)


@attrs.define
class _Seen:
    said: str = ""
    code: str | None = None
    status: int = 200
    finished: bool = False
    headers: dict[str, str] = attrs.field(factory=dict[str, str])


@asynccontextmanager
async def over_sockets(configured: dict[str, Any]) -> AsyncGenerator[OverSockets]:
    """A router of this configuration in the test's own loop."""
    providers = configured.pop("providers")
    async with routing(*providers, **configured) as router, router.sdk(timeout=20.0) as sdk:
        yield OverSockets(sdk)


def by_sockets(cases: Sequence[Case], *, rescue: bool) -> list[Run]:
    """Run all cases against one router, some at once: each waits for nothing but time."""
    return trio.run(partial(_by_sockets, cases, rescue=rescue), clock=Unhurried())


async def _by_sockets(cases: Sequence[Case], *, rescue: bool) -> list[Run]:
    runs: list[Run] = []
    limit = trio.CapacityLimiter(AT_ONCE)
    async with AsyncExitStack() as stack:
        placed = [await place(stack, case, stream, scale=SCALE) for case, stream in asked(cases)]
        world = await stack.enter_async_context(over_sockets(configuration(placed, SCALE, rescue=rescue)))
        async with trio.open_nursery() as nursery:
            for each in placed:

                async def one(each: Placed = each) -> None:
                    async with limit:
                        result = await world.ask(each.model, stream=each.stream)
                    runs.append(each.run(result, rescue=rescue))

                nursery.start_soon(one)
    return runs
