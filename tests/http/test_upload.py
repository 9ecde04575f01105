"""A form on its way to a provider, on virtual time: what is kept, what is replayed, whose time runs."""

from __future__ import annotations

from math import inf

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.errors import InvalidRequest, RequestTimeout
from infermux.http.exchange import Head
from infermux.http.upload import IN_MEMORY, FormUpload, Spool, read_form
from tests._properties import examples

KIND = b"multipart/form-data; boundary=b"
MODEL = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nsmart\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%b\r\n'
END = b"--b--\r\n"


@attrs.define(eq=False)
class Sender:
    """As much of an exchange as an upload needs: a body in `pieces`, `slow` seconds before each."""

    pieces: list[bytes]
    declared: bool = True
    slow: float = 0.0
    breaks: Exception | None = None

    @property
    def head(self) -> Head:
        length = [(b"content-length", b"%d" % sum(map(len, self._all)))] if self.declared else []
        return Head(b"POST", b"/v1/audio/transcriptions", b"", length)

    _all: list[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._all = list(self.pieces)

    async def receive_body(self) -> bytes | None:
        await trio.sleep(self.slow)
        if not self.pieces:
            if self.breaks is not None:
                raise self.breaks
            return None
        return self.pieces.pop(0)


async def upload_of(sender: Sender) -> FormUpload:
    return await read_form(sender, KIND)  # type: ignore[arg-type]


async def all_of(upload: FormUpload, model: str) -> bytes:
    source = upload.open(model)
    parts: list[bytes] = []
    while (piece := await source.receive()) is not None:
        assert piece, "never empty"
        parts.append(piece)
    body = b"".join(parts)
    assert source.length in (None, len(body))
    return body


async def test_the_model_is_replaced_and_nothing_else(autojump_clock: MockClock) -> None:
    body = FILE % b"sound" + MODEL + FILE % b"more" + END
    for cut in (1, 30, 90, 150, len(body)):
        pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
        assert await all_of(await upload_of(Sender(list(pieces))), "smart") == body
        changed = await all_of(await upload_of(Sender(list(pieces), declared=False)), "gpt-4o-transcribe")
        assert changed == body.replace(b"smart", b"gpt-4o-transcribe")


async def test_it_can_be_sent_again_until_a_streamed_part_went_on(autojump_clock: MockClock) -> None:
    upload = await upload_of(Sender([MODEL, FILE % b"sound", END]))
    source = upload.open("m")
    assert (await source.receive() or b"").startswith(b"--b")
    assert source.rewind()
    while not upload.spent:
        await source.receive()
    assert not source.rewind()


async def test_one_that_was_read_to_its_end_can_always_be_sent_again(autojump_clock: MockClock) -> None:
    upload = await upload_of(Sender([FILE % b"sound" + MODEL + END]))
    assert await all_of(upload, "one") != await all_of(upload, "other")
    assert not upload.spent


async def test_much_goes_to_disk_and_comes_back() -> None:  # in real time: a virtual clock spins while threads work
    sound = bytes(range(256)) * (IN_MEMORY // 100)
    whole = FILE % sound + MODEL + END
    pieces = [whole[at : at + 50_000] for at in range(0, len(whole), 50_000)]
    upload = await upload_of(Sender(pieces))
    assert upload.spool.on_disk
    assert FILE % sound in await all_of(upload, "other")
    upload.close()
    upload.close()


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.integers(1, 700_000), max_size=5), st.integers(0, 2_000_000))
def test_a_spool_gives_back_what_was_put_in(sizes: list[int], at: int) -> None:
    async def main() -> None:
        spool, whole = Spool(), b""
        for number, size in enumerate(sizes):
            piece = bytes([number]) * size
            await spool.write(piece)
            whole += piece
        assert spool.size == len(whole)
        assert spool.on_disk is (len(whole) > IN_MEMORY)
        assert await spool.read(at, 1000) == whole[at : at + 1000]
        spool.close()

    trio.run(main)


async def test_a_form_without_a_model_is_refused(autojump_clock: MockClock) -> None:
    for pieces in ([FILE % b"x", END], [], [FILE % b"x"], [MODEL.replace(b"smart", b""), END]):
        with pytest.raises(InvalidRequest) as caught:
            await upload_of(Sender(pieces))
        assert caught.value.param == "model"


async def test_the_providers_time_stands_still_while_the_caller_is_waited_for(autojump_clock: MockClock) -> None:
    upload = await upload_of(Sender([MODEL, FILE % b"a", FILE % b"b", END], slow=20))
    started = trio.current_time()
    with trio.fail_after(30) as scope:
        upload.scope = scope
        source = upload.open("smart")
        for _ in range(5):
            assert await source.receive() is not None
            await trio.sleep(4)  # what is sent takes the provider's time
        assert await source.receive() is None
    assert upload.waited == 60
    assert trio.current_time() == started + 60 + 20
    assert scope.deadline == pytest.approx(started + 60 + 30)


async def test_the_callers_own_deadline_does_not_stand_still(autojump_clock: MockClock) -> None:
    upload = await upload_of(Sender([MODEL, FILE % b"a", END], slow=20))
    upload.last = trio.current_time() + 25
    with trio.CancelScope(deadline=trio.current_time() + 22) as scope:
        upload.scope = scope
        await all_of(upload, "smart")
    assert scope.cancelled_caught
    assert trio.current_time() == upload.last


async def test_what_the_caller_does_comes_out_of_the_source(autojump_clock: MockClock) -> None:
    upload = await upload_of(Sender([MODEL, FILE % b"a"], breaks=RequestTimeout("slow")))
    assert upload.last == inf
    with pytest.raises(RequestTimeout):
        await all_of(upload, "smart")
