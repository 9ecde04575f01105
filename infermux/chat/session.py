"""The conversation: what is typed becomes a command or a question, and what comes back is kept and shown."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from types import FrameType
from typing import Protocol

import attrs

from infermux.errors import InfermuxError

from .client import Answer, Refused
from .commands import HELP, KEYS, Command, Question, Unknown, parse
from .models import AUTO, Offer, Row
from .terminal import Screen
from .text import showable, title
from .threads import End, History, Listed, NoThread, Store, Thread, Turn

SHOWN_TURNS = 4  # of a thread that is gone on with
DIM, RED, YELLOW, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
WAITING, ERASED = f"{DIM}…{PLAIN}", "\r\x1b[K"


class Router(Protocol):
    """What the chat needs of a router."""

    def offer(self) -> Offer:
        """What it serves now. Raises Refused."""
        ...

    def pieces(self, model: str, messages: Sequence[dict[str, str]], answer: Answer) -> Generator[str]:
        """As `Client.pieces`."""
        ...


@contextmanager
def interruptible() -> Generator[None]:
    """The first Ctrl+C in here is a KeyboardInterrupt, further ones nothing: what the first one ends takes a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@attrs.define(eq=False, kw_only=True)
class Session:
    """One chat. `thread` is the one that is gone on with."""

    router: Router
    store: Store
    screen: Screen
    thread: Thread
    offer: Offer
    _warned: str | None = None  # the vanished model that was warned about
    _commands: dict[str, Callable[[str], None]] = attrs.field(init=False)
    _over: bool = False

    def __attrs_post_init__(self) -> None:
        self._commands = {
            "/model": self._model,
            "/threads": self._threads,
            "/new": self._new,
            "/help": self._help,
            "/quit": self._quit,
        }

    def run(self) -> None:
        """Until it is left. Raises OSError where the thread cannot be written."""
        self._enter()
        try:
            while not self._over:
                try:
                    self._take(self.screen.line("> ", self._toolbar))
                except EOFError:
                    break
                except KeyboardInterrupt:
                    continue
        finally:
            self.thread.close()

    def _take(self, typed: str) -> None:
        match parse(typed):
            case Question(text):
                self._ask(text)
            case Command(name, argument):
                self._commands[name](argument)
            case Unknown(word):
                self._note(f"there is no {word}; /help lists the commands (a question may begin with a space)")
            case None:
                pass

    # Questions.

    def _ask(self, text: str) -> None:
        question = showable(text)
        messages = self.thread.history.messages(question)
        self.thread.ask(question)
        answer = Answer()
        try:
            model = self._model_to_ask()
            try:
                self._stream(model, messages, answer)
            except Refused as refused:
                if refused.code != "model_not_found" or model == AUTO:
                    raise
                self._vanished(model)
                self._stream(AUTO, messages, answer)
        except KeyboardInterrupt:
            self._ended(End.CUT, answer, "cut")
        except InfermuxError as error:
            self._ended(End.BROKEN, answer, error.message)
        else:
            self._ended(End.WHOLE, answer, _limited(answer.finish))

    def _stream(self, model: str, messages: list[dict[str, str]], answer: Answer) -> None:
        pieces = self.router.pieces(model, messages, answer)
        waiting = WAITING
        with interruptible(), self.screen.quiet(), closing(pieces):
            self.screen.write(waiting)
            try:
                for piece in pieces:
                    self.thread.piece(piece)  # first, so that nothing was shown that is not kept
                    self.screen.write((ERASED if waiting else "") + showable(piece))
                    waiting = ""
            finally:
                self.screen.write(ERASED if waiting else "")

    def _ended(self, end: End, answer: Answer, why: str) -> None:
        self.thread.end(end, why=why, by=answer.by)
        turn = self.thread.history.turns[-1]
        self.screen.write("\n" if turn.answer else "")
        self.screen.write(_tail(turn) + "\n")

    # Models.

    def _model_to_ask(self) -> str:
        """The thread's choice; the default, with a warning, where that is not served. Raises Refused."""
        chosen = self.thread.history.model
        if chosen is None:
            return AUTO
        if not self.offer.has(chosen):
            self.offer = self.router.offer()  # it may have come back
        if self.offer.has(chosen):
            self._warned = None
            return chosen
        self._warn_of(chosen)
        return AUTO

    def _vanished(self, chosen: str) -> None:
        """The router does not know the thread's model: look at what it serves now. Raises Refused."""
        self.offer = self.router.offer()
        self._warned = None
        self._warn_of(chosen)

    def _warn_of(self, chosen: str) -> None:
        if self._warned != chosen:
            self._warned = chosen
            self._note(
                f"warning: {chosen}, the model of this thread, is not served now; "
                f"{self.offer.default_name} answers instead. /model picks another",
                YELLOW,
            )

    def _model(self, argument: str) -> None:
        if not self._looked():
            return
        chosen = argument or self.screen.pick("model: ", self.offer.rows)
        if chosen is None:
            return
        chosen = showable(chosen)
        if chosen != AUTO and not self.offer.has(chosen):
            self._note(f"{chosen} is not served here; /model lists what is", YELLOW)
            return
        self.thread.choose(None if chosen == AUTO else chosen)
        self._warned = None
        self._note(f"this thread goes on with {self._model_name()}")

    def _looked(self) -> bool:
        """Whether it is known what the router serves now; if not, it was said why."""
        try:
            self.offer = self.router.offer()
        except Refused as refused:
            self._note(refused.message, RED)
            return False
        return True

    def _model_name(self) -> str:
        chosen = self.thread.history.model
        return self.offer.default_name if chosen is None or not self.offer.has(chosen) else chosen

    # Threads.

    def _enter(self) -> None:
        """Show the thread that is gone on with."""
        history = self.thread.history
        self.screen.remember(turn.question for turn in history.turns)
        earlier = len(history.turns) - SHOWN_TURNS
        if earlier > 0:
            self._note(f"{earlier} earlier questions of this thread are not shown")
        for turn in history.turns[-SHOWN_TURNS:]:
            self.screen.write(shown(turn))
        self._note(f"{self._model_name()}; /help lists the commands, Ctrl+D ends")
        self._warned = None
        if history.model is not None and not self.offer.has(history.model):
            self._warn_of(history.model)

    def _threads(self, argument: str) -> None:
        listed = [each for each in self.store.listed() if each.id != self.thread.id]
        if not listed:
            self._note("there is no other thread yet")
            return
        name = argument or self.screen.pick("thread: ", [_row(each) for each in listed])
        if name is None or self.thread.id == name:
            return
        try:
            self._switch(self.store.open(name))
        except NoThread as error:
            self._note(error.message, YELLOW)

    def _new(self, _: str) -> None:
        # It takes the model along: who has picked one goes on with it.
        self._switch(self.store.new(self.thread.history.model))

    def _switch(self, thread: Thread) -> None:
        self.thread.close()
        self.thread = thread
        self._enter()

    # The rest.

    def _help(self, _: str) -> None:
        rows = {**HELP, **KEYS}
        width = max(map(len, rows)) + 2
        self.screen.write("".join(f"{name:<{width}}{meaning}\n" for name, meaning in rows.items()))

    def _quit(self, _: str) -> None:
        self._over = True

    def _toolbar(self) -> str:
        what = title(self.thread.history.title, 40) or "new thread"
        return f" {self._model_name()} · {what} · F2 model · /help"

    def _note(self, text: str, colour: str = DIM) -> None:
        self.screen.write(f"{colour}{showable(text)}{PLAIN}\n")


def shown(turn: Turn) -> str:
    """A turn as it looked when it took place."""
    question, answer = showable(turn.question).replace("\n", "\n  "), showable(turn.answer)
    return f"> {question}\n{answer}{chr(10) if answer else ''}{_tail(turn)}\n"


def _tail(turn: Turn) -> str:
    """What is said below an answer: who it is from, or that it is not whole, and why."""
    by = f"{turn.by}: " if turn.by else ""
    why = showable(turn.why)
    match turn.end:
        case End.WHOLE:
            words = f"{turn.by}; {why}" if why and turn.by else turn.by or why
            return f"{YELLOW if why else DIM}[{showable(words)}]{PLAIN}" if words else ""
        case End.CUT:
            return f"{YELLOW}[{showable(by)}cut here]{PLAIN}"
        case End.BROKEN:
            what = "the answer is not whole" if turn.answer else "no answer"
            return f"{RED}[{showable(by)}{what}: {why}]{PLAIN}"


def _limited(finish: str) -> str:
    """What is to be said of an answer that ended as its provider meant it to."""
    return {
        "length": "it ended at the limit of its length",
        "content_filter": "it was ended by a content filter",
    }.get(finish, "")


def _row(listed: Listed) -> Row:
    when = datetime.fromtimestamp(listed.at).astimezone()
    return Row(value=listed.id, note=f"{when:%Y-%m-%d %H:%M}  {listed.title}")


def answer_once(router: Router, write: Callable[[str], None], *, model: str, question: str) -> str:
    """One question without a thread; returns what is to be said of the answer, if anything is.

    Raises Refused or Broken; KeyboardInterrupt ends it at the provider too.
    """
    answer, last = Answer(), "\n"
    try:
        with closing(router.pieces(model, History().messages(question), answer)) as pieces:
            for piece in pieces:
                last = showable(piece)
                write(last)
    finally:
        write("" if last.endswith("\n") else "\n")
    return _limited(answer.finish)
