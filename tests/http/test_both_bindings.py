"""What a handler can rely on, whichever binding it is called by."""

from __future__ import annotations

import pytest
import trio

from infermux.config.settings import LimitSettings
from infermux.errors import Overloaded
from infermux.http.exchange import CallerLeft, Exchange
from tests._turns import within
from tests.http._caller import calling
from tests.http._serving import BINDINGS, INFERENCE, LIMITS, serving

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("binding", BINDINGS)]

HEADERS = [(b"Content-Type", b"text/event-stream"), (b"X-Request-Id", b"r1")]


async def hang(exchange: Exchange, left: trio.Event) -> None:
    """Wait until the caller leaves."""
    await exchange.body()
    with trio.CancelScope() as scope:
        exchange.watch(scope)
        await trio.sleep_forever()
    assert exchange.left
    left.set()


async def test_a_whole_answer_has_its_length_and_headers(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        head = exchange.head
        text = b"|".join([head.method, head.path, head.query, head.get(b"x-a") or b"", await exchange.body()])
        await exchange.respond(201, [(b"X-Request-Id", b"r1"), (b"Content-Length", b"9999")], text)

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post(b"body", path=INFERENCE + b"?q=1", headers=b"X-A: Value\r\n")
        reply = await caller.reply()
        assert reply.status == 201
        assert reply.body == b"POST|/v1/chat/completions|q=1|Value|body"
        assert reply.headers["x-request-id"] == "r1"
        assert "date" in reply.headers


async def test_the_head_knows_the_caller(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        assert exchange.head.client is not None
        await exchange.respond(200, [], b"%d" % exchange.head.client[1])

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        port = (await caller.reply()).body
        assert isinstance(caller.stream, trio.SocketStream)
        assert int(port) == caller.stream.socket.getsockname()[1]


async def test_a_stream_comes_in_the_pieces_it_was_sent_in(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        exchange.start(200, HEADERS)
        for number in range(3):
            if not exchange.send_now(b"data: %d\n\n" % number):
                await exchange.flush()
            await trio.sleep(0.01)
        await exchange.finish()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post(b"{}")
        head = await caller.head()
        assert head.headers["content-type"] == "text/event-stream"
        assert await caller.chunks() == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


async def test_the_first_piece_does_not_wait_for_the_second(binding: str) -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, HEADERS)
        exchange.send_now(b"first")
        await exchange.flush()
        await go_on.wait()
        await exchange.finish()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        await caller.head()
        assert await caller.chunk() == b"first"
        go_on.set()
        assert await caller.chunk() == b""


async def test_a_stream_without_pieces_ends_well(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, HEADERS)
        await exchange.finish()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        assert (await caller.reply()).body == b""


async def test_a_long_answer_arrives_whole(binding: str) -> None:
    text = bytes(range(256)) * 40_000

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [], text)

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        assert (await caller.reply()).body == text


async def test_a_long_stream_arrives_whole(binding: str) -> None:
    piece = b"x" * 300_000

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, HEADERS)
        for _ in range(10):
            if not exchange.send_now(piece):
                await exchange.flush()
        await exchange.finish()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        assert (await caller.reply()).body == piece * 10


async def test_a_connection_serves_one_request_after_another(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        for size in (0, 10, 50_000):
            await caller.post(b"x" * size)
            assert (await caller.reply()).body == b"%d" % size


async def test_pipelined_requests_are_answered_in_order(binding: str) -> None:
    request = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    async with serving(binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"".join(request % (INFERENCE, n, b"x" * n) for n in (1, 2, 3)))
        assert [(await caller.reply()).body for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_chunked_body_is_put_together(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        for _ in range(2):
            await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % INFERENCE)
            await caller.say(b"3\r\nabc\r\n")
            await caller.say(b"4;x=y\r\ndefg\r\n0\r\n\r\n")
            assert (await caller.reply()).body == b"7"


async def test_a_body_in_pieces_is_put_together(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n" % INFERENCE)
        await caller.say(b"ab")
        await trio.sleep(0.02)
        await caller.say(b"cde")
        assert (await caller.reply()).body == b"5"


async def test_a_caller_that_waits_to_be_asked_is_asked_for_its_body(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n" % INFERENCE
        await caller.say(head)
        assert (await caller.head()).status == 100
        await caller.say(b"abc")
        assert (await caller.reply()).body == b"3"


async def test_a_body_longer_than_allowed_is_refused_by_its_length(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n" % INFERENCE)
        reply = await caller.reply()
        assert reply.status == 413
        assert b'"payload_too_large"' in reply.body


async def test_a_chunked_body_longer_than_allowed_is_refused(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % INFERENCE)
        for _ in range(11):
            await caller.say(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert (await caller.reply()).status == 413


async def test_a_post_without_a_length_is_refused_when_its_body_is_wanted(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\n\r\n" % INFERENCE)
        assert (await caller.reply()).status == 411


async def test_a_body_that_comes_too_slowly_is_a_request_timeout(binding: str) -> None:
    limits = LimitSettings(header_timeout=0.2)
    async with serving(binding=binding, limits=limits) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab" % INFERENCE)
        reply = await caller.reply()
        assert reply.status == 408
        assert b'"request_timeout"' in reply.body


async def test_an_answer_to_head_has_no_body(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(405, [], b"not this way")

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        for _ in range(2):
            await caller.say(b"HEAD %b HTTP/1.1\r\nHost: x\r\n\r\n" % INFERENCE)
            reply = await caller.reply(bodyless=True)
            assert (reply.status, reply.headers["content-length"]) == (405, "12")


async def test_an_answer_without_content_has_no_length(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(204, [], b"")

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        for _ in range(2):
            await caller.post()
            reply = await caller.reply(bodyless=True)
            assert reply.status == 204
            assert "content-length" not in reply.headers


async def test_http_1_0_gets_its_answer_and_the_end(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if await exchange.body() == b"s":
            exchange.start(200, HEADERS)
            exchange.send_now(b"one,")
            exchange.send_now(b"two")
            await exchange.finish()
        else:
            await exchange.respond(200, [], b"one,two")

    async with serving(handler, binding=binding) as served:
        for body in (b"s", b"w"):
            async with calling(served.port) as caller:
                await caller.say(b"POST %b HTTP/1.0\r\nContent-Length: 1\r\n\r\n%b" % (INFERENCE, body))
                head = await caller.head()
                assert "transfer-encoding" not in head.headers
                assert await caller.rest() == b"one,two"


async def test_a_caller_that_asks_to_close_is_closed(binding: str) -> None:
    async with serving(binding=binding) as served, calling(served.port) as caller:
        await caller.post(b"abc", headers=b"Connection: close\r\n")
        reply = await caller.reply()
        assert reply.headers["connection"] == "close"
        assert await caller.rest() == b""


async def test_leaving_while_the_handler_waits_cancels_it_within_100_ms(binding: str) -> None:
    left = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await hang(exchange, left)

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post(b"{}")
        await trio.sleep(0.05)
        await caller.stream.aclose()
        async with within(0.1):
            await left.wait()


async def test_leaving_while_streaming_cancels_the_handler_within_100_ms(binding: str) -> None:
    left = trio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, HEADERS)
        exchange.send_now(b"data")
        await exchange.flush()
        await hang(exchange, left)

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post(b"{}")
        await caller.head()
        await trio.sleep(0.05)
        await caller.stream.aclose()
        async with within(0.1):
            await left.wait()


async def test_leaving_in_the_middle_of_the_body_is_told_to_who_wants_it(binding: str) -> None:
    raised = trio.Event()

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.body()
        except CallerLeft:
            raised.set()
            raise

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.say(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nab" % INFERENCE)
        await trio.sleep(0.02)
        await caller.stream.aclose()
        with trio.fail_after(30):
            await raised.wait()


async def test_who_watches_after_the_caller_left_is_cancelled_at_once(binding: str) -> None:
    left, outcome = trio.Event(), list[bool]()

    async def handler(exchange: Exchange) -> None:
        await hang(exchange, trio.Event())
        with trio.CancelScope() as scope:
            exchange.watch(scope)
            await trio.sleep_forever()
        outcome.append(scope.cancelled_caught)
        left.set()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        await trio.sleep(0.02)
        await caller.stream.aclose()
        with trio.fail_after(30):
            await left.wait()
    assert outcome == [True]


async def test_who_stopped_watching_is_not_cancelled(binding: str) -> None:
    done = trio.Event()

    async def handler(exchange: Exchange) -> None:
        with trio.CancelScope() as scope:
            exchange.watch(scope)
            exchange.watch(None)
            await trio.sleep(0.1)
            assert exchange.left
            done.set()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        await trio.sleep(0.02)
        await caller.stream.aclose()
        with trio.fail_after(30):
            await done.wait()


async def test_writing_to_a_caller_that_left_says_so(binding: str) -> None:
    raised = trio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, HEADERS)
        try:
            while True:
                exchange.send_now(b"data")
                await exchange.flush()
                await trio.sleep(0.01)
        except CallerLeft:
            raised.set()
            raise

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        await caller.head()
        await caller.stream.aclose()
        with trio.fail_after(30):
            await raised.wait()


async def test_an_aborted_stream_does_not_end_well(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, HEADERS)
        exchange.send_now(b"data")
        await exchange.flush()
        exchange.abort()
        exchange.abort()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        await caller.head()
        assert await caller.rest() == b"4\r\ndata\r\n"


async def test_an_infermux_error_of_the_handler_is_told(binding: str) -> None:
    async def handler(_: Exchange) -> None:
        raise Overloaded("Too many at once.")

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        reply = await caller.reply()
        assert reply.status == 503
        assert b"Too many at once." in reply.body


async def test_a_bug_of_the_handler_is_a_500_and_others_live(binding: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(exchange: Exchange) -> None:
        if await exchange.body() == b"bug":
            raise KeyError("secret")
        await exchange.respond(200, [], b"fine")

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post(b"bug")
        reply = await caller.reply()
        assert reply.status == 500
        assert b"secret" not in reply.body
        async with calling(served.port) as other:
            await other.post(b"ok")
            assert (await other.reply()).body == b"fine"
    assert "secret" in caplog.text


async def test_a_bug_in_the_middle_of_a_stream_cuts_it(binding: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, HEADERS)
        exchange.send_now(b"data")
        await exchange.flush()
        raise KeyError("oh")

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        await caller.head()
        assert await caller.rest() == b"4\r\ndata\r\n"
    assert "oh" in caplog.text


async def test_a_handler_that_forgets_to_answer_is_a_500(binding: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(_: Exchange) -> None:
        await trio.lowlevel.checkpoint()

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        assert (await caller.reply()).status == 500
    assert "without ending its answer" in caplog.text


async def test_a_line_break_in_a_header_is_refused(binding: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [(b"x-a", b"1\r\nset-cookie: evil=1")], b"")

    async with serving(handler, binding=binding) as served, calling(served.port) as caller:
        await caller.post()
        reply = await caller.reply()
        assert reply.status == 500
        assert "set-cookie" not in reply.headers
    assert "line break" in caplog.text


async def test_one_answer_is_enough(binding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(RuntimeError):
            exchange.send_now(b"too early")
        with pytest.raises(RuntimeError):
            await exchange.finish()
        await exchange.respond(200, [], b"fine")
        with pytest.raises(RuntimeError):
            exchange.start(200, [])

    async with serving(handler, binding=binding, limits=LIMITS) as served, calling(served.port) as caller:
        await caller.post()
        assert (await caller.reply()).body == b"fine"
