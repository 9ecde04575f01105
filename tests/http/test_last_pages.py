"""What all workers together have counted never falls, whoever is late or is started again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from infermux.http.last_pages import LastPage, last_pages
from infermux.http.merging import merged_metrics
from infermux.http.siblings import Told

PAGE = """\
# HELP infermux_requests_total Requests that have ended.
# TYPE infermux_requests_total counter
infermux_requests_total {count}
# HELP infermux_in_flight In flight.
# TYPE infermux_in_flight gauge
infermux_in_flight 1
"""


@attrs.define(eq=False)
class Worker:
    """One that has counted so much since it runs."""

    path: str
    count: int = 0
    late: bool = False
    page: LastPage = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.page = LastPage(self.path, self._made)

    async def _made(self) -> tuple[bytes, str]:
        return PAGE.format(count=self.count).encode(), "text/plain"


@attrs.define(eq=False)
class Siblings:
    workers: list[Worker]

    @property
    def of(self) -> int:
        return len(self.workers)

    def last_page(self, place: int) -> str:
        return self.workers[place].path

    async def ask_all(self, _method: str, _target: str) -> Sequence[Told | None]:
        return [
            None if each.late else Told(place=place, status=200, headers={}, body=(await each.page.told()).body)
            for place, each in enumerate(self.workers)
        ]

    async def scraped(self) -> tuple[float, float, float]:
        """Requests, those in flight, and of how many workers that is."""
        siblings: Any = self
        page = (await merged_metrics(siblings, "", prefix="/_infermux")).body.decode()
        values = dict(line.split() for line in page.splitlines() if not line.startswith("#"))
        names = ("infermux_requests_total", "infermux_in_flight", "infermux_workers_answering")
        found = [float(values.get(name, "0")) for name in names]
        return found[0], found[1], found[2]

    def starts_again(self, place: int) -> None:
        self.workers[place] = Worker(self.workers[place].path)


async def test_what_one_had_counted_is_there_while_it_is_late_and_after_it_has_ended(tmp_path: Path) -> None:
    siblings = Siblings([Worker(str(tmp_path / f"{place}.metrics"), count=5 + place) for place in range(3)])
    first, second, third = siblings.workers
    third.late = True
    assert await siblings.scraped() == (5 + 6, 2, 2)  # the third one has never told of anything yet
    third.late = False
    assert await siblings.scraped() == (5 + 6 + 7, 3, 3)
    second.late = True
    first.count += 1
    assert await siblings.scraped() == (6 + 6 + 7, 2, 2)
    second.late, second.count = False, 8
    assert await siblings.scraped() == (6 + 8 + 7, 3, 3)
    for _ in range(3):  # what it counts after it was asked last it takes with it
        siblings.starts_again(1)
        siblings.workers[1].late = True
        before = await siblings.scraped()
        assert before[1:] == (2, 2)
        siblings.workers[1].late, siblings.workers[1].count = False, 2
        assert await siblings.scraped() == (before[0] + 2, 3, 3)
    for each in siblings.workers:
        each.late = True
    assert await siblings.scraped() == (6 + 8 + 3 * 2 + 7, 0, 0)


async def test_where_nothing_can_be_written_the_page_is_told_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(str(tmp_path / "gone" / "0.metrics"), count=3)
    assert b"infermux_requests_total 3" in (await worker.page.told()).body
    assert "metrics cannot be kept" in caplog.text


@pytest.mark.parametrize("left", [b"no page {{\n", b"\xff\xfe", b'"'])
async def test_a_page_that_cannot_be_read_is_said_once_and_taken_as_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: bytes
) -> None:
    siblings = Siblings([Worker(str(tmp_path / f"{place}.metrics"), count=5) for place in range(2)])
    siblings.workers[1].late = True
    (tmp_path / "1.metrics").write_bytes(left)
    for _ in range(2):
        assert await siblings.scraped() == (5, 1, 1)
    siblings.workers[1].late = False
    for _ in range(2):
        assert await siblings.scraped() == (10, 2, 2)
    assert caplog.text.count("1.metrics cannot be read") == 1


def test_a_label_may_have_what_some_take_for_the_end_of_a_line(tmp_path: Path) -> None:
    page = b'# HELP x_total x\n# TYPE x_total counter\nx_total{code="a\rb"} 1.0\n'
    (tmp_path / "0.metrics").write_bytes(page)
    assert last_pages([str(tmp_path / "0.metrics")]) == [page.decode()]
