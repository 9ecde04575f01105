"""A router as a process of its own that is attacked, and what that costs it: resident memory and time on the CPU."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
import trio
import trustme

from tests.e2e._process import Process, serving
from tests.e2e._router import HELLO, SAID, provider
from tests.mocks.openai_upstream import OpenAIUpstream

LONG: Final = os.environ.get("INFERMUX_TEST_SECURITY") == "long"
MIB: Final = 1024 * 1024
CONNECTION: Final = 32 * 1024  # bytes that a connection may take, beside what it was sent
SLACK: Final = 6 * MIB  # what a router may take to serve anybody at all, and what the allocator keeps for later


@attrs.frozen(kw_only=True)
class Siege:
    """`process` is attacked, `web` is a caller who means well, `upstream` what it is served by."""

    process: Process
    proc: Path  # of the process that serves: under hypercorn a child of the one that was started
    web: httpx.AsyncClient
    upstream: OpenAIUpstream

    def cpu(self) -> float:
        """Seconds that its event loop has been on a CPU."""
        return self._scheduled()[0]

    @property
    def descriptors(self) -> int:
        return len(list((self.proc / "fd").iterdir()))

    @property
    def resident(self) -> int:
        return self._status("VmRSS")

    @asynccontextmanager
    async def bounded(self, most: int) -> AsyncGenerator[None]:
        """At no moment of the block it has more than `most` bytes more than at its beginning, and `SLACK`."""
        (self.proc / "clear_refs").write_text("5")  # the peak is that from here on: proc_pid_clear_refs(5)
        before = self.resident
        yield
        grown = self._status("VmHWM") - before
        print(f"{grown / MIB:.1f} MiB of {(most + SLACK) / MIB:.1f}")
        assert grown <= most + SLACK, f"{grown / MIB:.1f} MiB more, where {(most + SLACK) / MIB:.1f} are allowed"

    async def serves(self) -> None:
        """One who means well is served."""
        answer = await self.web.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO})
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == SAID

    async def quiet(self) -> None:
        """Return when it has dealt with all that came: its loop had nothing to do for a fifth of a second."""
        with trio.fail_after(30):
            last = -1.0
            while sum(self._scheduled()) - last > 0.004:
                last = sum(self._scheduled())
                await trio.sleep(0.2)

    async def settled(self) -> None:
        """Nothing is under way any more, within two seconds, and it serves."""
        with trio.fail_after(2):
            while (await self.web.get("/_infermux/status")).json()["in_flight"]:  # noqa: ASYNC110 - it is its own news
                await trio.sleep(0.02)
        await self.serves()
        assert "Traceback" not in self.process.output, self.process.output

    def _scheduled(self) -> tuple[float, float]:
        """Seconds that its event loop has been on a CPU, and that it has waited for one (proc_schedstat)."""
        on, waited, _ = (self.proc / "schedstat").read_text().split()
        return int(on) / 1e9, int(waited) / 1e9

    def _status(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB$", (self.proc / "status").read_text(), re.MULTILINE)
        assert found is not None, name
        return int(found[1]) * 1024


@asynccontextmanager
async def besieged(
    way: str = "serve", *, verify: ssl.SSLContext | bool = False, **config: Any
) -> AsyncGenerator[Siege]:
    """A router that has served a few and is to be attacked; well afterwards."""
    scheme = "http" if verify is False else "https"
    async with (
        OpenAIUpstream() as upstream,
        serving(provider("one", upstream), way=way, ledger={"url": None}, **config) as process,
        httpx.AsyncClient(
            base_url=f"{scheme}://127.0.0.1:{process.port}", verify=verify, trust_env=False, timeout=10
        ) as web,
    ):
        siege = Siege(process=process, proc=_serving(process.process.pid), web=web, upstream=upstream)
        for _ in range(10):
            await siege.serves()
        yield siege
        await siege.settled()


def certified(folder: Path) -> tuple[ssl.SSLContext, dict[str, Any]]:
    """What a caller trusts, and the configuration of a router that it trusts."""
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    return trusted, {"tls": {"cert_file": str(folder / "cert.pem"), "key_file": str(folder / "key.pem")}}


def _serving(pid: int) -> Path:
    """Where /proc tells of the worker that hypercorn has spawned, or of the process itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    workers = [child for child in children if b"spawn_main" in Path("/proc", child, "cmdline").read_bytes()]
    return Path("/proc", workers[0] if workers else str(pid))


async def linger(port: int, data: bytes, closed: list[bytes]) -> None:
    """Say `data` on a connection and stay until the other side closes it; append what it said."""
    said = b""
    try:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            async for part in stream:
                said += part
    except (trio.BrokenResourceError, OSError):
        pass  # cut, perhaps while we were still talking
    closed.append(said)
