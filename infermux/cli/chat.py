"""`chat`: a conversation with what a running router serves."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import click

from infermux.daemon.lock import Home
from infermux.errors import InfermuxError

from . import options
from .asking import NoAnswer, Target, ask, connection, daemon_places, places

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from infermux.chat.client import Answer, Client
    from infermux.chat.models import Offer
    from infermux.chat.session import Session

KEY_VARIABLE = "INFERMUX_API_KEY"
INTERRUPTED = 130  # as a shell says it of a program that Ctrl+C has ended


@click.command()
@options.config
@click.option(
    "--url", metavar="URL", help="The router, such as http://127.0.0.1:8080; else the daemon's, else from the file."
)
@click.option(
    "--model",
    metavar="NAME",
    help="Ask this model, such as gpt-4o or openai/gpt-4o; else the thread's, else the default.",
)
@click.option("--continue", "latest", is_flag=True, help="Go on with the thread that was asked last.")
@click.option("--thread", "name", metavar="ID", help="Go on with this thread; the beginning of its id will do.")
def chat(*, path: str | None, url: str | None, model: str | None, latest: bool, name: str | None) -> None:
    """Chat with the models of a running router. A question on stdin is answered once.

    Threads are kept in ~/.infermux/threads, each with its model. $INFERMUX_API_KEY is sent where it is set.
    """
    if latest and name is not None:
        raise click.UsageError("--continue and --thread name two threads; leave one of them out")
    _show_all()
    router = router_of(url, path)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        if latest or name is not None:
            raise click.UsageError(
                "a question on stdin is answered without a thread; leave --continue and --thread out"
            )
        _once(router, model)
        return
    _session(router, model, latest, name).run()


@attrs.define(eq=False)
class _Router:
    """A running router: its inference, and its management where that may be asked.

    `find` says where a daemon is now: one that is restarted while the chat is open may listen somewhere else.
    """

    served: Target
    management: Target
    find: Callable[[], tuple[Target, Target] | None]

    @property
    def client(self) -> Client:
        from infermux.chat.client import Client

        try:
            self.served, self.management = self.find() or (self.served, self.management)
        except InfermuxError:
            pass  # it is where it was, or says that it is not
        return Client(
            connect=partial(connection, self.served), where=self.served.url, key=os.environ.get(KEY_VARIABLE) or None
        )

    def offer(self) -> Offer:
        from infermux.chat.models import offer

        models = self.client.models()
        providers, status = self._managed("providers"), self._managed("status")
        known = None if providers is None else providers.get("providers")
        return offer(models, known, None if status is None else status.get("default_model"))

    def pieces(self, model: str, messages: Sequence[dict[str, str]], answer: Answer) -> Generator[str]:
        return self.client.pieces(model, messages, answer)

    def _managed(self, what: str) -> dict[str, Any] | None:
        """What management says; None where it may not be asked, or is not there."""
        try:
            status, answer = ask(self.management, "GET", f"/_infermux/{what}")
        except NoAnswer:
            return None
        return answer if status == 200 else None


def router_of(url: str | None, path: str | None) -> _Router:
    """The router that is meant. Raises ConfigError, NoAnswer."""
    follows = url is None and daemon_places(path) is not None
    return _Router(*places(url, path), partial(daemon_places, path) if follows else lambda: None)


def _session(router: _Router, model: str | None, latest: bool, name: str | None) -> Session:
    from infermux.chat.models import AUTO
    from infermux.chat.session import Session
    from infermux.chat.terminal import Terminal
    from infermux.chat.threads import Store

    store = Store(Home.of().folder / "threads")
    offer = router.offer()
    if model is not None and model != AUTO and not offer.has(model):
        raise NoAnswer(f"{model} is not served at {router.served.url}; `infermux chat` and /model list what is")
    thread = store.latest() if latest else store.new(None) if name is None else store.open(name)
    if model is not None:
        thread.choose(None if model == AUTO else model)
    return Session(router=router, store=store, screen=Terminal(), thread=thread, offer=offer)


def _once(router: _Router, model: str | None) -> None:
    from infermux.chat.models import AUTO
    from infermux.chat.session import answer_once

    question = sys.stdin.read().strip()
    if not question:
        raise click.UsageError("there is no question on stdin; `infermux chat` in a terminal takes them one by one")
    try:
        note = answer_once(router, _echo, model=model or AUTO, question=question)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if note:
        click.echo(f"infermux: {note}", err=True)


def _show_all() -> None:
    """A model may say what the terminal's encoding does not have."""
    out: Any = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="replace")


def _echo(text: str) -> None:
    click.echo(text, nl=False)
