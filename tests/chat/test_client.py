"""What the chat makes of a router's answers, over connections that are in memory."""

from __future__ import annotations

import http.client
import json
import socket

import attrs
import pytest

from infermux.chat.client import Answer, Broken, Client, Refused

STREAM = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Infermux-Provider: one\r\nX-Infermux-Model: m\r\n\r\n"
ASKED = [{"role": "user", "content": "Why?"}]


@attrs.define(eq=False)
class Router:
    """One that says `said` and closes, unless it `stays`. `end` is its side of the connection."""

    said: str
    stays: bool = False
    end: socket.socket = attrs.field(init=False)
    _other: socket.socket = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.end, self._other = socket.socketpair()
        self.end.sendall(self.said.encode())
        if not self.stays:
            self.end.shutdown(socket.SHUT_WR)

    def client(self, key: str | None = None) -> Client:
        other = self._other

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                self.sock = other

        return Client(connect=lambda: Connection("router"), where="http://router", key=key)

    def asked(self) -> tuple[str, bytes]:
        """What it was sent: head and body."""
        head, _, body = self.end.recv(65536).partition(b"\r\n\r\n")
        return head.decode(), body

    def close(self) -> None:
        self.end.close()
        self._other.close()


def event(**delta: object) -> str:
    return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': None}]})}\n\n"


END = 'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\ndata: {"choices": [], "usage": {}}\n\n'


def test_an_answer_comes_piece_by_piece_and_ends_by_itself() -> None:
    said = event(role="assistant", content="Be") + ": here\n\n" + event(content="cause")
    router = Router(STREAM + said + END + "data: [DONE]\n\n")
    answer = Answer()
    assert "".join(router.client("sk-1").pieces("m", ASKED, answer)) == "Because"
    assert (answer.by, answer.finish) == ("one/m", "length")
    head, body = router.asked()
    assert "Authorization: Bearer sk-1" in head
    assert json.loads(body) == {"model": "m", "messages": ASKED, "stream": True}
    router.close()


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("", "the connection ended before the answer did"),
        ('data: {"error": {"message": "nothing came for 60 s"}}\n\n', "nothing came for 60 s"),
        ('data: {"error": "no"}\n\n', "no"),
        ("data: {\n\n", "no JSON"),
        ("data: 1\n\n", "no event"),
        ('data: {"error": {"code": 7}}\n\n', '"code": 7'),
    ],
)
def test_an_answer_that_breaks_is_not_whole_and_what_came_is_there(rest: str, why: str) -> None:
    router = Router(STREAM + event(content="Be") + rest)
    pieces = router.client().pieces("m", ASKED, Answer())
    assert next(pieces) == "Be"
    with pytest.raises(Broken, match=why):
        next(pieces)
    router.close()


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        ({"choices": [1]}, ""),
        ({"choices": [{"delta": None, "finish_reason": "stop"}]}, ""),
        ({"choices": [{"delta": {"content": None, "refusal": "No."}}]}, "No."),
        ({"choices": [{"delta": {"content": [{"type": "text", "text": "Yes"}, {"type": "image"}, 1]}}]}, "Yes"),
        ({"type": "ping"}, ""),
        ({"error": None, "choices": [{"delta": {"content": "Yes"}}]}, "Yes"),
    ],
)
def test_what_providers_add_of_their_own_spoils_nothing(odd: object, text: str) -> None:
    router = Router(f"{STREAM}data: {json.dumps(odd)}\n\n{event(content='!')}data: [DONE]\n\n")
    assert "".join(router.client().pieces("m", ASKED, Answer())) == f"{text}!"
    router.close()


def test_an_answer_that_is_not_wanted_any_more_closes_the_connection() -> None:
    router = Router(STREAM + event(content="Be"), stays=True)
    pieces = router.client().pieces("m", ASKED, Answer())
    assert next(pieces) == "Be"
    router.asked()
    pieces.close()
    router.end.settimeout(1)
    assert router.end.recv(1) == b""
    router.close()


@pytest.mark.parametrize(
    ("status", "key", "says"),
    [("401 Unauthorized", None, "set INFERMUX_API_KEY"), ("401 Unauthorized", "x", r"is \$INFERMUX_API_KEY right")],
)
def test_who_is_not_let_in_is_told_which_variable(status: str, key: str | None, says: str) -> None:
    router = Router(f'HTTP/1.1 {status}\r\n\r\n{{"error": {{"message": "no key", "code": "unauthorized"}}}}')
    with pytest.raises(Refused, match=f"no key; {says}") as caught:
        router.client(key).models()
    assert caught.value.code == "unauthorized"
    router.close()


@pytest.mark.parametrize("said", ["HTTP/1.1 200 OK\r\n\r\n<html>", "HTTP/1.1 200 OK\r\n\r\n[]", "hello\r\n", ""])
def test_what_is_no_router_is_said_to_be_none(said: str) -> None:
    router = Router(said)
    with pytest.raises(Refused, match="http://router"):
        router.client().models()
    router.close()


def test_the_key_is_not_in_what_is_printed_of_a_client() -> None:
    router = Router("")
    assert "sk-1" not in repr(router.client("sk-1"))
    router.close()
