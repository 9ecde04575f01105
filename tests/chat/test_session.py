"""The conversation, with a screen and a router that are in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import attrs
import pytest

from infermux.chat.client import Answer, Broken, Refused
from infermux.chat.models import Offer, Row
from infermux.chat.session import Session, answer_once
from infermux.chat.terminal import matching, meant
from infermux.chat.threads import End, Store

OFFER = Offer(rows=(Row(value="auto"), Row(value="one/a"), Row(value="two/a")), default="a")


@attrs.define(eq=False)
class Screen:
    """Types `lines`, then Ctrl+D. An exception among them is raised; `picks` are what is picked from lists."""

    lines: list[str | type[BaseException]]
    picks: list[str | None] = attrs.field(factory=list[str | None])
    shown: str = ""
    listed: Sequence[Row] = ()
    questions: list[str] = attrs.field(factory=list[str])
    toolbar: str = ""

    def line(self, prompt: str, toolbar: Callable[[], str]) -> str:
        self.toolbar = toolbar()
        if not self.lines:
            raise EOFError
        typed = self.lines.pop(0)
        if isinstance(typed, str):
            return typed
        raise typed

    def pick(self, prompt: str, rows: Sequence[Row]) -> str | None:
        self.listed = rows
        return self.picks.pop(0)

    def write(self, text: str) -> None:
        self.shown += text

    def quiet(self) -> AbstractContextManager[None]:
        return nullcontext()

    def remember(self, questions: Iterable[str]) -> None:
        self.questions = list(questions)


@attrs.define(eq=False)
class Router:
    """Answers with `answers`, each a list of pieces in which an exception is raised. `asked`: what it was."""

    answers: list[list[str | BaseException]]
    now: Offer | Refused = OFFER
    asked: list[tuple[str, list[dict[str, str]]]] = attrs.field(factory=list[tuple[str, list[dict[str, str]]]])
    finish: str = "stop"
    closed: int = 0

    def offer(self) -> Offer:
        if isinstance(self.now, Refused):
            raise self.now
        return self.now

    def pieces(self, model: str, messages: Sequence[dict[str, str]], answer: Answer) -> Generator[str]:
        self.asked.append((model, list(messages)))
        try:
            answer.finish = self.finish
            for piece in self.answers.pop(0):
                if isinstance(piece, BaseException):
                    raise piece
                answer.by = "one/a"
                yield piece
        finally:
            self.closed += 1


def chat(store: Store, router: Router, screen: Screen, *, model: str | None = None, name: str | None = None) -> Session:
    thread = store.new(model) if name is None else store.open(name)
    session = Session(router=router, store=store, screen=screen, thread=thread, offer=OFFER)
    session.run()
    return session


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "threads")


def test_a_question_is_answered_and_the_next_one_goes_on_from_it(store: Store) -> None:
    screen, router = Screen(["Why?", " ", "And?"]), Router([["Be", "cause"], ["So"]])
    session = chat(store, router, screen)
    assert router.asked[1] == (
        "auto",
        [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because"},
            {"role": "user", "content": "And?"},
        ],
    )
    assert "Because\n\x1b[2m[one/a]" in screen.shown
    assert [turn.end for turn in session.thread.history.turns] == [End.WHOLE] * 2
    assert "auto (a)" in screen.toolbar
    assert "Why?" in screen.toolbar


def test_what_a_model_says_to_the_terminal_is_kept_and_not_shown(store: Store) -> None:
    screen = Screen(["Why?"])
    session = chat(store, Router([["\x1b[2Jhi"]]), screen)
    assert "\ufffd[2Jhi" in screen.shown
    assert session.thread.history.turns[0].answer == "\x1b[2Jhi"


@pytest.mark.parametrize(
    ("piece", "end", "said"),
    [
        (Broken("it broke"), End.BROKEN, "[one/a: the answer is not whole: it broke]"),
        (KeyboardInterrupt(), End.CUT, "[one/a: cut here]"),
    ],
)
def test_an_answer_that_is_not_whole_is_marked_and_its_part_is_sent_along(
    store: Store, piece: BaseException, end: End, said: str
) -> None:
    screen, router = Screen(["Why?", "And?"]), Router([["Be", piece], ["So"]])
    session = chat(store, router, screen)
    assert said in screen.shown
    assert session.thread.history.turns[0].end is end
    assert router.asked[1][1][1] == {"role": "assistant", "content": "Be"}
    assert router.closed == 2


def test_a_question_without_an_answer_says_why_and_is_not_sent_along(store: Store) -> None:
    screen, router = Screen(["Why?", "Why?"]), Router([[Refused("all are busy", code="no_provider")], ["So"]])
    chat(store, router, screen)
    assert "[no answer: all are busy]" in screen.shown
    assert router.asked[1][1] == [{"role": "user", "content": "Why?"}]


def test_an_answer_at_the_limit_of_its_length_says_so(store: Store) -> None:
    screen, router = Screen(["Why?"]), Router([["Be"]], finish="length")
    chat(store, router, screen)
    assert "[one/a; it ended at the limit of its length]" in screen.shown


def test_a_model_is_picked_named_or_left_and_kept_in_the_thread(store: Store) -> None:
    screen = Screen(["/model", "Why?", "/model two/a", "/model", "/model nix"], picks=["one/a", None])
    router = Router([["So"]])
    session = chat(store, router, screen)
    assert [row.value for row in screen.listed] == ["auto", "one/a", "two/a"]
    assert router.asked[0][0] == "one/a"
    assert "nix is not served here" in screen.shown
    assert [each.model for each in store.listed()] == ["two/a"]
    assert session.thread.history.model == "two/a"


def test_a_router_that_is_gone_is_no_reason_to_leave(store: Store) -> None:
    screen = Screen(["/model"])
    chat(store, Router([], now=Refused("no router answers", code="unreachable")), screen)
    assert "no router answers" in screen.shown


def test_a_model_that_vanished_is_warned_of_once_and_the_default_answers(store: Store) -> None:
    screen, router = Screen(["Why?", "And?"]), Router([["So"], ["So"]])
    session = chat(store, router, screen, model="gone/a")
    assert [model for model, _ in router.asked] == ["auto", "auto"]
    assert screen.shown.count("warning: gone/a") == 1
    assert "auto (a)" in screen.toolbar
    assert session.thread.history.model == "gone/a"  # it may come back


def test_a_model_that_came_back_answers_again(store: Store) -> None:
    back = Offer(rows=(*OFFER.rows, Row(value="gone/a")), default="a")
    screen, router = Screen(["Why?"]), Router([["So"]], now=back)
    chat(store, router, screen, model="gone/a")
    assert router.asked[0][0] == "gone/a"
    assert "gone/a" in screen.toolbar


def test_that_it_waits_is_shown_until_something_comes(store: Store) -> None:
    screen = Screen(["Why?", "Why?"])
    chat(store, Router([["Be", "cause"], [Refused("busy", code="")]]), screen)
    assert screen.shown.count("…\x1b[0m\r\x1b[K") == 2
    assert "\x1b[KBecause\n" in screen.shown


def test_a_model_that_vanishes_while_the_chat_is_open_is_replaced_too(store: Store) -> None:
    gone = Refused("no provider serves it", code="model_not_found")
    screen, router = Screen(["Why?"]), Router([[gone], ["So"]], now=Offer(rows=OFFER.rows[:2], default="b"))
    chat(store, router, screen, model="two/a")
    assert [model for model, _ in router.asked] == ["two/a", "auto"]
    assert "warning: two/a" in screen.shown
    assert "auto (b) answers instead" in screen.shown
    assert "So\n" in screen.shown


def test_a_default_that_is_not_served_is_an_error_not_a_loop(store: Store) -> None:
    screen = Screen(["Why?"])
    chat(store, Router([[Refused("no provider serves it", code="model_not_found")]]), screen)
    assert "[no answer: no provider serves it]" in screen.shown


def test_a_new_thread_takes_the_model_along_and_the_old_one_can_be_gone_back_to(store: Store) -> None:
    first = chat(store, Router([["Because"]]), Screen(["Why?"]), model="one/a").thread.id
    screen, router = Screen(["/threads", "/new", "How?", "/threads nix"], picks=[first]), Router([["So"]])
    session = chat(store, router, screen)
    assert [row.note[-4:] for row in screen.listed] == ["Why?"]
    assert "> Why?\nBecause\n" in screen.shown
    assert router.asked == [("one/a", [{"role": "user", "content": "How?"}])]
    assert session.thread.id != first
    assert "'nix' is no thread" in screen.shown
    assert len(store.listed()) == 2


def test_of_a_long_thread_the_last_turns_are_shown_and_all_can_be_brought_back(store: Store) -> None:
    router = Router([["So"] for _ in range(6)])
    name = chat(store, router, Screen([f"question {number}" for number in range(6)])).thread.id
    screen = Screen([])
    chat(store, router, screen, name=name)
    assert "2 earlier questions" in screen.shown
    assert "question 1" not in screen.shown
    assert screen.questions[0] == "question 0"


def test_help_quit_and_mistakes(store: Store) -> None:
    screen = Screen([KeyboardInterrupt, "/threads", "/hlep", "/help", "/quit", "not asked"])
    chat(store, Router([]), screen)
    assert "no other thread yet" in screen.shown
    assert "there is no /hlep" in screen.shown
    assert "Alt+Enter" in screen.shown
    assert screen.lines == ["not asked"]


def test_an_answer_to_a_pipe_ends_its_line_also_when_it_breaks() -> None:
    said: list[str] = []
    assert answer_once(Router([["Be", "cause"]]), said.append, model="m", question="Why?") == ""
    with pytest.raises(Broken):
        answer_once(Router([["Be", Broken("over")]]), said.append, model="m", question="Why?")
    assert "".join(said) == "Because\nBe\n"


ROWS = [
    Row(value="auto"),
    Row(value="large", note="quick, slow"),
    Row(value="quick/large"),
    Row(value="slow/large", note="8192 tokens"),
]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("", ["auto", "large", "quick/large", "slow/large"]),
        ("QUICK large", ["quick/large", "large"]),
        ("8192", ["slow/large"]),
        ("nix", []),
    ],
)
def test_a_list_is_narrowed_down_by_words(typed: str, values: list[str]) -> None:
    assert [row.value for row in matching(ROWS, typed)] == values


@pytest.mark.parametrize(
    ("typed", "value"),
    [(" ", None), ("large", "large"), ("quick large", "quick/large"), ("8192", "slow/large"), ("arge", "arge")],
)
def test_what_is_typed_means_the_only_row_that_matches_best(typed: str, value: str | None) -> None:
    assert meant(ROWS, typed) == value
