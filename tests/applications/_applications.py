"""Starting an application as its users do: a process of its own, an empty home, settings by environment and file.

What it needs is installed by `make applications` in the folder that INFERMUX_APPLICATIONS names.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import trio

from tests.applications._upstreams import Kind, Say, Script, Turn, Upstream, declared, upstream_of
from tests.e2e._process import Process, serving

HERE = Path(__file__).parent
INSTALLED = Path(os.environ.get("INFERMUX_APPLICATIONS", HERE.parents[1] / ".applications"))
PYTHON = INSTALLED / "venv" / "bin" / "python"
NODE_MODULES = INSTALLED / "node" / "node_modules"
CODEX = next(NODE_MODULES.glob("@openai/codex-*/vendor/*/bin/codex"), NODE_MODULES / "codex")
OPENCODE = next(NODE_MODULES.glob("opencode-*-*/bin/opencode"), NODE_MODULES / "opencode")
"""The programs of the packages for this machine: npm's links to them need node, or an install script to have run."""
ENDS_WITHIN = 180.0


@attrs.define(eq=False)
class Fence:
    """A proxy that lets nobody through. `tried` are the addresses beyond loopback that an application asked for."""

    port: int = 0
    tried: list[str] = attrs.field(factory=list[str])

    @property
    def environ(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        outside = {spelt: url for name in names for spelt in (name, name.lower())}
        return {**outside, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}

    async def refuse(self, stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(5):
                head = await stream.receive_some(65536)
                self.tried.append(head.decode("latin-1").partition(" HTTP/")[0])
                await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@attrs.frozen
class Done:
    """How a program ended."""

    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


@attrs.frozen(kw_only=True)
class Reached:
    """`infermux serve` in front of scripted upstreams, and an empty `home` and folder of `work` for applications."""

    router: Process
    upstreams: Mapping[Kind, Upstream]
    scripts: Mapping[Kind, Script]
    fence: Fence
    home: Path
    work: Path

    @property
    def environ(self) -> dict[str, str]:
        """What points clients of both APIs at the router, and keeps them from anywhere else."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "OPENAI_BASE_URL": f"{self.router.url}/v1",
            "OPENAI_API_KEY": "unused",
            "ANTHROPIC_BASE_URL": self.router.url,
            "ANTHROPIC_API_KEY": "unused",
            **self.fence.environ,
        }

    def says(self, kind: Kind, *turns: Turn) -> None:
        """What the model at the provider of that `kind` says next."""
        self.scripts[kind].turns += turns

    async def run(self, *command: str | Path, environ: Mapping[str, str] | None = None) -> Done:
        """Run an application in `work` to its end; it must succeed. Killed after three minutes."""
        done = await run([str(word) for word in command], cwd=self.work, environ={**self.environ, **(environ or {})})
        assert done.code == 0, f"{done}\n--- router\n{self.router.output}"
        return done

    async def program(self, name: str, *arguments: str) -> Done:
        """Run one of the programs beside this file with the Python that has the frameworks."""
        return await self.run(PYTHON, HERE / "programs" / name, *arguments)


async def run(command: Sequence[str], *, cwd: Path, environ: Mapping[str, str]) -> Done:
    def kill(process: trio.Process) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all of it has ended

    async def end(process: trio.Process) -> None:
        kill(process)

    with trio.move_on_after(ENDS_WITHIN):
        done = await trio.run_process(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=b"",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            start_new_session=True,
            deliver_cancel=end,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
    raise AssertionError(f"it did not end within {ENDS_WITHIN} s: {command}")


@asynccontextmanager
async def reaching(folder: Path, *kinds: Kind, side: Say | None = None) -> AsyncGenerator[Reached]:
    """Everything that an application needs, with its folders inside `folder`. Every script is to be used up."""
    home, work = folder / "home", folder / "work"
    for made in (home, work):
        made.mkdir()
    scripts: dict[Kind, Script] = {kind: Script(side=side) for kind in kinds}
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        fence = Fence()
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        fence.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, fence.refuse, listeners)
        upstreams: dict[Kind, Upstream] = {kind: upstream_of(kind, script) for kind, script in scripts.items()}
        for upstream in upstreams.values():
            await stack.enter_async_context(upstream)
        router = await stack.enter_async_context(serving(*(declared(*each) for each in upstreams.items())))
        reached = Reached(router=router, upstreams=upstreams, scripts=scripts, fence=fence, home=home, work=work)
        yield reached
        for kind, script in scripts.items():
            assert not script.turns, f"{kind} was not asked for {script.turns}"
        nursery.cancel_scope.cancel()
