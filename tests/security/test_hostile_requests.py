"""Hostile callers, by both ways in: refused or closed, nothing smuggled, nobody else disturbed, nothing left."""

from __future__ import annotations

import re
from typing import Final

import pytest
import trio

from tests.e2e._router import EITHER_WAY, Router, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream
from tests.security._attacks import ATTACKS, TOKEN, UNTIL_TIMEOUT, Attack

pytestmark = pytest.mark.slow

PATIENCE: Final = 0.3  # seconds in which a second answer would come
CLOSING: Final = (400, 408, 417, 431)
_STATUS: Final = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_what_parsers_may_read_differently_is_refused_and_nothing_is_smuggled(way: str) -> None:
    wrong: list[str] = []
    limits = {"header_timeout": "1s"}
    environ = {"INFERMUX_MANAGEMENT_TOKEN": TOKEN}
    own = {"authorization": f"Bearer {TOKEN}"}
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), way=way, limits=limits, environ=environ, headers=own) as router,
    ):
        async with trio.open_nursery() as nursery:
            for attack in ATTACKS:
                nursery.start_soon(_attack, router, way, attack, wrong)
        assert not wrong, "\n".join(wrong)
        taken = sum(attack.status(way) == 200 for attack in ATTACKS)
        assert len(upstream.chats) == taken
        assert (await router.chat()).status_code == 200
        await router.wait_settled()
        if router.running is not None:
            assert router.running.statistics().connections <= 1


async def _attack(router: Router, way: str, attack: Attack, wrong: list[str]) -> None:
    """Note in `wrong` when it is not answered as its row says, or when there is a second answer."""
    said = await _say(router, attack.data)
    statuses = [int(status) for status in _STATUS.findall(said)]
    expected = attack.status(way)
    # Hypercorn closes without reading on, so that the system may take the answer back (RFC 9112, 9.6).
    lost = not statuses and way == "asgi" and expected in CLOSING
    if statuses != [expected] and not lost:
        wrong.append(f"{attack.name}: {statuses}, not {expected}")
    if b"uptime_seconds" in said:
        wrong.append(f"{attack.name}: management answered")
    if expected in CLOSING and way == "serve" and b"connection: close" not in said.lower():
        wrong.append(f"{attack.name}: the connection goes on")


async def _say(router: Router, data: bytes) -> bytes:
    """What is answered until the other side closes, or says nothing more for a while."""
    stream = await trio.open_tcp_stream("127.0.0.1", router.port)
    said = b""
    try:
        with trio.move_on_after(3):
            await stream.send_all(data)
            while True:
                part = b""
                with trio.move_on_after(PATIENCE if said else 3):
                    part = await stream.receive_some()
                if not part:
                    break
                said += part
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(stream)
    return said


def test_every_attack_has_a_name_of_its_own() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert {attack.status("asgi") for attack in ATTACKS} >= {400, 401, 403, UNTIL_TIMEOUT}
