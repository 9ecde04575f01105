"""What all streams have in common, whichever format they speak."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator

import pytest

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.arrivals import Polled
from infermux.providers.chat_stream import ChatStream
from infermux.providers.wire import WireBroken
from tests.providers.test_chat_stream import MemoryResponse


class Torn(MemoryResponse, Polled):
    """A response whose connection breaks while it is polled."""

    def descriptor(self) -> int | None:
        return 0

    @property
    def over(self) -> bool:
        return False

    def receive_now(self) -> bytes:
        try:
            self._take()
        except WireBroken as error:
            raise UpstreamFailure(FailureKind.BROKEN, "broke") from error
        return b""

    def _take(self) -> None:
        try:
            raise ConnectionResetError
        except OSError as error:
            raise WireBroken("reset") from error


@pytest.fixture
def no_collector() -> Generator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_stream_that_broke_while_it_was_polled_leaves_nothing_to_the_collector() -> None:
    response = Torn([])
    stream = ChatStream(response, asked_usage=False)
    gone = weakref.ref(response)
    assert stream.receive_now() == b""
    assert stream.over
    del stream, response
    assert gone() is None
