"""`infermux chat` in a real terminal, at a real router with simulated providers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from click.testing import CliRunner, Result

from infermux.chat.client import Broken, Refused
from infermux.chat.keyboard import ASK, KITTY_OFF, KITTY_ON
from infermux.chat.threads import End, Store, read
from infermux.cli.chat import chat as command
from tests.chat._terminal import terminal
from tests.e2e._forks import the_forge
from tests.e2e._process import LISTENS, minimal_environ

pytestmark = pytest.mark.slow

NAME = "20260101-000000-abcdef"

QUICK: dict[str, Any] = {
    "name": "quick",
    "type": "simulated",
    "models": ["small", "large"],
    "simulate": {"first_token": "0ms", "tokens_per_second": 2000},
}
SLOW: dict[str, Any] = {
    "name": "slow",
    "type": "simulated",
    "models": ["large", "endless"],
    "simulate": {"first_token": "0ms", "tokens_per_second": 8},
}
BREAKS: dict[str, Any] = {
    "name": "breaks",
    "type": "simulated",
    "models": ["half"],
    "simulate": {"first_token": "0ms", "script": [{"cut_after": 4, "repeat": True}]},
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A router for all of them: none leaves anything in it."""
    home = tmp_path_factory.mktemp("router")
    config = {"listen": "127.0.0.1:0", "ledger": {"url": None}, "providers": [QUICK, SLOW, BREAKS]}
    (home / "infermux.yml").write_text(json.dumps(config))
    arguments = [sys.executable, "-m", "infermux", "serve", "-c", "infermux.yml"]
    out, other = os.pipe()
    with open(out) as said, open(os.devnull, "w") as nowhere:
        environ = minimal_environ(str(home), {})
        router = the_forge().fork(arguments, environ=environ, cwd=str(home), out=other, err=nowhere.fileno())
        os.close(other)
        try:
            found = next(filter(None, (LISTENS.search(line) for line in said)))
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            router.kill()
            router.reaped(10)


def threads(home: Path) -> Store:
    return Store(home / ".infermux" / "threads")


def write_thread(home: Path, *lines: dict[str, Any]) -> None:
    folder = threads(home).folder
    folder.mkdir(parents=True)
    (folder / f"{NAME}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


async def until_idle(url: str) -> None:
    """Wait until no request is in flight any more."""
    async with httpx.AsyncClient() as client:
        with trio.fail_after(30):
            while (await client.get(f"{url}/_infermux/status")).json()["in_flight"]:
                pass


async def test_questions_are_answered_models_are_picked_and_the_thread_remembers(url: str, tmp_path: Path) -> None:
    write_thread(tmp_path, {"model": "gone/one"}, {"question": "Are you there?"}, {"piece": "Yes."}, {"end": "whole"})
    async with terminal("chat", "--url", url, home=tmp_path) as chat:
        await chat.shows("auto (small)", "new thread")
        chat.type("How are you?\r")
        await chat.shows('You said: "How are you?"', "[quick/small]")
        # F2 lists every model, by itself and by provider; what was typed is still there afterwards.
        chat.type("half a que\x1bOQ")
        await chat.shows("small", "quick/large", "slow/large", "slow/endless")
        chat.type("quick large\r")
        await chat.shows("this thread goes on with quick/large", "> half a que")
        # Ctrl+M, once the terminal has said that it can report it. Escape leaves the model as it is.
        assert ASK.encode() in chat.sent
        chat.type("\x1b[?0u\x1b[109;5u")
        await chat.shows("type to narrow it down")
        chat.type("\x1b[27u")
        await chat.shows("> half a que", gone="type to narrow it down")
        chat.type("\x1b[99;5u")  # Ctrl+C
        await chat.shows(gone="> half a que")
        chat.type("And now?\r")
        await chat.shows("[quick/large]")
        # A thread whose model is gone.
        chat.type(f"/threads {NAME}\r")
        await chat.shows("Yes.", "warning: gone/one", "auto (small) answers instead")
        chat.type("Still?\r")
        await chat.shows('You said: "Still?"')
        chat.type("\x1b[100;5u")  # Ctrl+D
        assert await chat.leaves() == 0
        assert chat.sent.count(KITTY_ON.encode()) == chat.sent.count(KITTY_OFF.encode()) > 1
    remembered = {each.title: each.model for each in threads(tmp_path).listed()}
    assert remembered == {"How are you?": "quick/large", "Are you there?": "gone/one"}


async def test_an_answer_that_is_cut_killed_or_broken_is_kept_and_marked(url: str, tmp_path: Path) -> None:
    async with terminal("chat", "--model", "endless", "--url", url, home=tmp_path) as chat:
        await chat.shows("new thread")
        chat.type("Go\r")
        await chat.shows("This is slow")
        chat.type("ahead\x03")
        assert "ahead" not in await chat.shows("[slow/endless: cut here]")
        await until_idle(url)
        chat.type("/model half\r")
        await chat.shows("goes on with half")
        chat.type("Break\r")
        await chat.shows("[breaks/half: the answer is not whole: ")
        chat.type("/model endless\rGo again\r")
        await chat.shows("> Go again\nThis is slow")
        chat.kill()
        await until_idle(url)
    async with terminal("chat", "--continue", "--url", url, home=tmp_path) as chat:
        await chat.shows("> Go again\nThis is slow", "not whole", "cut here", "endless; /help", "F2 model")
        chat.type("\x04")  # the terminal itself takes it as long as nothing asks for keys
        assert await chat.leaves() == 0
    (listed,) = threads(tmp_path).listed()
    turns = read((threads(tmp_path).folder / f"{listed.id}.jsonl").read_bytes()).turns
    assert [turn.end for turn in turns] == [End.CUT, End.BROKEN, End.CUT]
    assert all(turn.answer.startswith("This is") for turn in turns)


def asked(url: str, *arguments: str, question: str = "Why?\n") -> Result:
    """`infermux chat` without a terminal."""
    return CliRunner().invoke(command, ["--url", url, *arguments], input=question)


def test_a_question_on_stdin_is_answered_once(url: str) -> None:
    done = asked(url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert 'You said: "Why?"' in done.stdout
    assert done.stdout.endswith("\n")


def test_a_broken_answer_on_stdout_is_a_failure(url: str) -> None:
    done = asked(url, "--model", "half")
    assert isinstance(done.exception, Broken)
    assert done.stdout.startswith("This is")


def test_where_nothing_listens_it_says_how_to_start_a_router() -> None:
    done = asked("http://127.0.0.1:1")
    assert isinstance(done.exception, Refused)
    assert "`infermux start`" in done.exception.message


def test_no_question_and_two_threads_are_mistakes_of_usage(url: str) -> None:
    assert "no question on stdin" in asked(url, question=" \n").stderr
    assert "leave one of them out" in asked(url, "--continue", "--thread", "2026").stderr
    assert "without a thread" in asked(url, "--continue").stderr
