"""Threads on disk: what was shown is there again, whatever happened to the file's end."""

from __future__ import annotations

import json
import stat
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.chat.threads import End, History, NoThread, Store, Thread, Turn, read

TEXT = st.text(alphabet=st.characters(exclude_categories=[]), max_size=20)
LINES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"question": TEXT, "at": st.floats(0, 1e10)}),
        st.fixed_dictionaries({"piece": TEXT}),
        st.fixed_dictionaries({"end": st.sampled_from([end.value for end in End]), "why": TEXT, "by": TEXT}),
        st.fixed_dictionaries({"model": st.none() | TEXT}),
    ),
    max_size=12,
)
ANY: st.SearchStrategy[object] = st.none() | st.integers() | st.floats() | st.just([]) | st.just("x")
NAMES = st.sampled_from(["question", "at", "piece", "end", "why", "by", "model"])


def as_file(lines: list[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def history_of(lines: list[dict[str, object]]) -> History:
    history = History()
    for line in lines:
        history.add(line)
    return history


@given(LINES, st.data())
def test_a_file_that_ends_anywhere_has_all_that_was_whole(lines: list[dict[str, object]], data: st.DataObject) -> None:
    whole = as_file(lines)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found, at_least = read(cut), history_of(lines[: cut.count(b"\n")])
    at_most = history_of(lines[: cut.count(b"\n") + 1])  # only the line's end may be missing
    assert found in (at_least, at_most)


@given(LINES, st.binary(max_size=30).map(lambda x: x.replace(b"\n", b"")), st.integers(0, 12))
def test_a_line_that_cannot_be_read_takes_nothing_else_with_it(
    lines: list[dict[str, object]], torn: bytes, at: int
) -> None:
    data = as_file(lines[:at]) + b"\xff" + torn + b"\n" + as_file(lines[at:])
    assert read(data) == history_of(lines)


@given(st.lists(ANY | st.dictionaries(NAMES, ANY, max_size=3), max_size=5))
def test_what_others_wrote_is_no_reason_to_fail(lines: list[object]) -> None:
    history = read(b"\n".join(json.dumps(line).encode() for line in lines))
    assert datetime.fromtimestamp(history.at).astimezone().year >= 1970


@given(LINES)
def test_what_is_sent_takes_turns_and_ends_with_the_question(lines: list[dict[str, object]]) -> None:
    messages = history_of(lines).messages("Now?")
    assert [each["role"] for each in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    assert messages[-1]["content"] == "Now?"
    assert all(each["content"] for each in messages[1::2])


def filled(store: Store) -> Thread:
    thread = store.new("one/small")
    thread.ask("Why?")
    thread.piece("Be")
    thread.piece("cause \ud83d")
    thread.end(End.BROKEN, why="it broke", by="one/small")
    return thread


def test_a_thread_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "threads")
    thread = filled(store)
    thread.choose(None)
    thread.close()
    again = store.open(thread.id)
    assert again.history == thread.history
    assert again.history.model is None
    assert again.history.turns == [
        Turn(question="Why?", answer="Because \ud83d", end=End.BROKEN, why="it broke", by="one/small")
    ]


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    thread = filled(Store(tmp_path / "threads"))
    assert stat.S_IMODE(thread.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(thread.path.parent.stat().st_mode) == 0o700


def test_a_thread_without_a_question_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "threads")
    thread = store.new(None)
    thread.choose("one/small")
    thread.close()
    assert not store.folder.exists()
    assert store.listed() == []


def test_a_half_line_at_the_end_does_not_spoil_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    thread = filled(store)
    thread.close()
    with thread.path.open("ab") as file:
        file.write(b'{"question": "Ha')
    again = store.open(thread.id)
    again.ask("And then?")
    again.close()
    assert [turn.question for turn in store.open(thread.id).history.turns] == ["Why?", "And then?"]


def test_an_answer_without_an_end_was_cut(tmp_path: Path) -> None:
    thread = Store(tmp_path).new(None)
    thread.ask("Why?")
    thread.piece("Be")
    (turn,) = read(thread.path.read_bytes()).turns
    assert (turn.answer, turn.end) == ("Be", End.CUT)


def test_one_that_is_open_elsewhere_is_left_alone_until_it_is_closed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    thread = filled(store)
    with pytest.raises(NoThread, match="open in another"):
        store.open(thread.id)
    thread.close()
    store.open(thread.id).close()


def test_the_beginning_of_an_id_is_enough_where_it_is_of_one_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("20260101-000000-aaaaaa", "20260101-000000-bbbbbb", "notes"):
        (tmp_path / f"{name}.jsonl").write_bytes(b"")
    assert store.open("20260101-000000-a").id == "20260101-000000-aaaaaa"
    for name in ("2026", "", "notes", "../x"):
        with pytest.raises(NoThread, match="lists them"):
            store.open(name)


def test_the_latest_is_the_one_that_was_asked_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(NoThread, match="yet"):
        store.latest()
    for name, at in (("20260101-000000-aaaaaa", 2), ("20260102-000000-bbbbbb", 1)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": "Why?\nSay.", "at": at}))
    assert store.latest().id == "20260101-000000-aaaaaa"
    assert [(each.title, each.turns) for each in store.listed()] == [("Why? Say.", 1)] * 2
