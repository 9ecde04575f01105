"""Watching the configuration file: what counts as a change, and when it is over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from infermux import watching
from infermux.config import load_text
from infermux.watching import Changes, Marks, files_beside, files_of, mark_of, watch


def marks(**inodes: int | None) -> Marks:
    return {name: None if inode is None else (1, inode, 10, 1) for name, inode in inodes.items()}


def test_a_change_is_acted_upon_when_it_looks_the_same_twice_and_only_once() -> None:
    changes = Changes(marks(a=1))
    looks = [marks(a=1), marks(a=2), marks(a=3), marks(a=3), marks(a=3), marks(a=3)]
    assert [changes.look("a", each) for each in looks] == [False, False, False, True, False, False]
    assert not changes.settling


def test_a_file_that_is_away_for_a_moment_is_waited_for() -> None:
    changes = Changes(marks(a=1))
    looks = [marks(a=None), marks(a=None), marks(a=None), marks(a=1)]
    assert [(changes.look("a", each), changes.settling) for each in looks] == [(False, True)] * 3 + [(False, False)]
    assert [changes.look("a", each) for each in [marks(a=None), marks(a=2), marks(a=2)]] == [False, False, True]


def test_another_file_that_is_missing_is_a_change_like_any_other() -> None:
    changes = Changes(marks(a=1, key=1))
    gone = marks(a=1, key=None)
    assert [changes.look("a", gone), changes.look("a", gone), changes.look("a", gone)] == [False, True, False]


def test_the_files_are_named_by_the_text_even_where_it_is_invalid(tmp_path: Path) -> None:
    file = tmp_path / "infermux.yml"
    file.write_text("a: ${file:/run/key}\nb: [ ${file:~/other}x${file:/run/key}")
    home = str(Path("~/other").expanduser())
    assert files_of(str(file), ["/cert"]) == [str(file), *sorted(["/run/key", home, "/cert"])]
    assert files_of(str(tmp_path / "none")) == [str(tmp_path / "none")]


def test_installed_providers_refer_to_files_too(tmp_path: Path) -> None:
    key, installed = tmp_path / "key", tmp_path / "providers.json"
    key.write_text("secret")
    installed.write_text(json.dumps({"mine": {"command": ["mine"], "env": {"KEY": f"${{file:{key}}}"}}}))
    config = load_text(f"providers_file: {installed}", environ={})
    assert files_beside(config) == [str(installed), str(key)]


def test_renamed_rewritten_and_relinked_files_have_another_mark(tmp_path: Path) -> None:
    file, link = tmp_path / "one", tmp_path / "link"
    file.write_text("1")
    first = mark_of(str(file))
    assert first == mark_of(str(file))
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").rename(file)
    assert mark_of(str(file)) != first
    for number in (1, 2):  # as Kubernetes does it: a folder behind a link is exchanged
        folder = tmp_path / f"data{number}"
        folder.mkdir()
        (folder / "file").write_text("same")
        (tmp_path / "fresh").symlink_to(folder)
        (tmp_path / "fresh").rename(link)
        if number == 1:
            first = mark_of(str(link / "file"))
    assert mark_of(str(link / "file")) not in (first, None)
    assert mark_of(str(tmp_path / "none")) is None
    assert mark_of("a\0b") is None


@pytest.mark.slow
async def test_each_change_is_told_once_and_a_touched_secret_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "INTERVAL", 0.02)
    monkeypatch.setattr(watching, "SETTLING", 0.01)
    file, secret = tmp_path / "infermux.yml", tmp_path / "key"
    secret.write_text("k1")
    file.write_text(f"key: ${{file:{secret}}}")
    told: list[str] = []
    news = trio.Event()

    async def changed() -> None:
        await trio.lowlevel.checkpoint()
        told.append(f"{file.read_text()} {secret.read_text()}")
        news.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(watch, str(file), changed)
        for changing, text in ((secret, "k2-longer"), (file, f"k: ${{file:{secret}}}")):
            news = trio.Event()
            changing.write_text(text)
            with trio.fail_after(30):
                await news.wait()
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert told == [f"key: ${{file:{secret}}} k2-longer", f"k: ${{file:{secret}}} k2-longer"]
