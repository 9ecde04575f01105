"""The line of a request: what it says, when it is a warning, and that nothing in it makes a second line."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.identity import Identity
from infermux.actors.record import Ending, Record, Tried
from infermux.config.settings import LogSettings
from infermux.errors import Fault
from infermux.http.request_log import RequestLine, line_of, log_request
from infermux.logs import FieldsRecord, LineFormatter
from infermux.providers.interface import Usage
from tests._properties import examples

TRIED = Tried(provider="a", model="m", started=0, ended=1)
RECORD = Record(
    id="r1",
    at=0.0,
    who=Identity(caller="team-a", key="k1", tags={"env": "prod"}),
    endpoint="chat",
    stream=True,
    requested="smart",
    group="fast",
    strategy="priority",
    provider="a",
    model="m",
    attempts=(TRIED, TRIED),
    usage=Usage(prompt_tokens=10, completion_tokens=5, estimated=True),
    cost=0.00012,
    latency=1.5,
    first_token=0.25,
    waited=0.1,
    overhead=0.0007,
)
BROKEN = Record(id="r2", at=0.0, ending=Ending.BROKEN, code="upstream_error", message="a: reset", fault=Fault.PROVIDER)


def test_a_line_says_who_asked_who_answered_and_what_it_came_to() -> None:
    assert str(RequestLine(RECORD, False)) == (
        "id=r1 endpoint=chat status=200 ending=ok caller=team-a key=k1 "
        'tags={"env":"prod"} requested=smart attempts=2 model=m provider=a strategy=priority group=fast stream=true '
        "latency_ms=1500 first_token_ms=250 waited_ms=100 overhead_ms=0.7 "
        "prompt_tokens=10 completion_tokens=5 estimated=true cost=0.00012"
    )


def test_the_line_for_machines_says_the_same() -> None:
    formatter = LineFormatter(LogSettings(format="json", timestamps=False))
    text = formatter.format(FieldsRecord("infermux.requests", logging.INFO, RequestLine(RECORD, False)))
    line = msgspec.json.decode(text)
    assert [*line][:3] == ["event", "level", "logger"]
    assert line_of({name: value for name, value in line.items() if name not in ("event", "level", "logger")}) == str(
        RequestLine(RECORD, False)
    )
    assert line["tags"] == {"env": "prod"}


@pytest.mark.parametrize(
    ("record", "level", "says_why"),
    [
        (RECORD, logging.INFO, False),
        (BROKEN, logging.WARNING, True),
        (Record(id="r", at=0, ending=Ending.REFUSED, status=502, message="no"), logging.WARNING, True),
        (Record(id="r", at=0, ending=Ending.REFUSED, status=400, message="no"), logging.INFO, False),
        (Record(id="r", at=0, ending=Ending.LEFT, status=499), logging.INFO, False),
    ],
)
def test_what_broke_is_a_warning_that_says_why(
    record: Record, level: int, says_why: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "infermux.requests")
    log_request(record)
    [line] = caplog.records
    assert line.levelno == level
    assert ("error=" in line.getMessage()) is says_why


def test_above_its_level_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "infermux.requests")
    log_request(RECORD)
    assert not caplog.records


@given(text=st.text(max_size=50))
@settings(max_examples=examples(200), deadline=None)
def test_no_name_of_a_caller_makes_another_line_or_field(text: str) -> None:
    line = str(RequestLine(Record(id="r", at=0, requested=text, who=Identity(caller=text)), False))
    assert line.isascii()
    assert line.isprintable()
    assert line.count(" status=200 ") == 1 or " status=200 " in text
