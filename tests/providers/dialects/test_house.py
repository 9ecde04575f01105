"""What the dialects promise about themselves."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from infermux.providers.dialects.dialect import Dialect, EventDecoder, StreamReader, StreamWriter
from infermux.providers.translate import DIALECTS
from tests.providers.dialects._cases import CHAT, MESSAGES, asked, chunk, message_events, sse

FOLDER = Path(__file__).parents[3] / "providers" / "dialects"
FAMILIES = {path.stem for path in FOLDER.glob("*.py") if "DIALECT: Final" in path.read_text(encoding="utf-8")}
"""The modules that offer a dialect; `openai_chat_read` is of the family of `openai_chat`."""


def family_of(module: str) -> str | None:
    return next((name for name in FAMILIES if module == name or module.startswith(name + "_")), None)


def test_there_are_dialects() -> None:
    assert {"openai_chat", "anthropic_messages"} <= FAMILIES


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_dialect_knows_another(path: Path) -> None:
    mine = family_of(path.stem)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level != 1:
            continue
        for module in [node.module] if node.module else [alias.name for alias in node.names]:
            theirs = family_of(module or "")
            assert theirs in (None, mine), f"{path.name}:{node.lineno} imports {module}"


def test_each_dialect_has_a_name_of_its_own() -> None:
    names = [dialect.name for dialect in DIALECTS.values()]
    assert len(set(names)) == len(names)


ONE_EVENT = [
    (CHAT, MESSAGES, sse(chunk({"role": "assistant", "content": "a"})), sse(chunk({"content": "Hello"}))),
    (
        MESSAGES,
        CHAT,
        message_events([{"type": "text", "text": ""}]).partition(b"event: content_block_stop")[0],
        sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "other", "start", "event"), ONE_EVENT, ids=["from chat", "from messages"])
def test_a_translated_event_costs_about_ten_microseconds(
    source: Dialect, other: Dialect, start: bytes, event: bytes
) -> None:
    """Bounded at three times that, as machines that run tests are slow; the best of many rounds counts."""
    decoder, reader, writer = source.decoder(), source.stream_reader(), other.stream_writer(asked())
    for found in decoder.feed(start):
        writer.write(reader.feed(found))
    best = min(_round(decoder, reader, writer, event) for _ in range(30))
    print(f"{source.name} to {other.name}: {best * 1e6:.1f} µs an event")
    assert best < 30e-6


def _round(decoder: EventDecoder, reader: StreamReader, writer: StreamWriter, event: bytes, count: int = 300) -> float:
    began = time.process_time()
    for _ in range(count):
        for found in decoder.feed(event):
            assert writer.write(reader.feed(found))
    return (time.process_time() - began) / count
