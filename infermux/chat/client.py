"""What the chat asks a router: its models, and answers that come piece by piece."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import attrs

from infermux.errors import InfermuxError, UpstreamFailure
from infermux.providers.sse import SseParser

READ = 65536
COMPLETIONS = "/v1/chat/completions"
UNREACHABLE = "unreachable"
Connect = Callable[[], http.client.HTTPConnection]


class Refused(InfermuxError):
    """The router did not answer, or answered with an error, before there was anything of an answer.

    `code`: its own word for it, "" where it said none, UNREACHABLE where nothing listens.
    """


class Broken(InfermuxError):
    """The answer ended before it was whole."""


@attrs.define(eq=False, kw_only=True)
class Answer:
    """An answer under way. `by`: the provider and the model that answer; `finish`: why it ended, in OpenAI's words."""

    by: str = ""
    finish: str = ""


@attrs.define(eq=False, kw_only=True)
class Client:
    """One router's inference. `connect` makes a connection to it, `where` is its address for messages."""

    connect: Connect
    where: str
    key: str | None = attrs.field(default=None, repr=False)

    def models(self) -> list[dict[str, Any]]:
        """The models that may be asked for, as in `GET /v1/models`. Raises Refused."""
        connection = self.connect()
        try:
            with self._sent(connection, "GET", "/v1/models", None) as response:
                found: Any = json.loads(response.read())
            return [each for each in found["data"] if isinstance(each["id"], str)]
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise Refused(f"what answers at {self.where} is no infermux: {_reason(error)}", code="") from None
        finally:
            connection.close()

    def pieces(self, model: str, messages: Sequence[dict[str, str]], answer: Answer) -> Generator[str]:
        """The answer's text as it comes; `answer` is told the rest. Raises Refused, later Broken.

        It is whole where the generator ends by itself. Closed, or left by KeyboardInterrupt, it closes the connection,
        by which the router ends the request at the provider.
        """
        body = json.dumps({"model": model, "messages": list(messages), "stream": True}).encode()
        connection = self.connect()
        try:
            self._patient(connection)
            # Closed by itself: of one that is to be the last of its connection, http.client leaves that to us.
            with self._sent(connection, "POST", COMPLETIONS, body) as response:
                headers = (response.getheader("X-Infermux-Provider"), response.getheader("X-Infermux-Model"))
                answer.by = "/".join(filter(None, headers))
                yield from _text(response, answer)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"the connection to the router ended: {_reason(error)}") from None
        except UpstreamFailure as error:
            raise Broken(str(error)) from None
        finally:
            connection.close()

    def _sent(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {} if body is None else {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        if response.status != 200:
            with response:
                raise _refusal(response, keyed=self.key is not None)
        return response

    def _patient(self, connection: http.client.HTTPConnection) -> None:
        """Connect. A model may think for as long as the router lets it: then its timeouts count, not ours."""
        try:
            connection.connect()
            connection.sock.settimeout(None)
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: BaseException) -> Refused:
        return Refused(
            f"no router answers at {self.where}: {_reason(error)}; `infermux start` starts one in the background. "
            "Another address is named with --url",
            code=UNREACHABLE,
        )


def _refusal(response: http.client.HTTPResponse, *, keyed: bool) -> Refused:
    """What an error says. A wrong key, or none, says what to do."""
    try:
        error: Any = json.loads(response.read())["error"]
        message, code = str(error["message"]), str(error.get("code") or "")
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError):
        message, code = f"{response.status} {response.reason}", ""
    if response.status == 401:
        message += "; is $INFERMUX_API_KEY right?" if keyed else "; set INFERMUX_API_KEY to a key of this router"
    return Refused(message, code=code)


def _text(response: http.client.HTTPResponse, answer: Answer) -> Generator[str]:
    parser = SseParser()
    while data := response.read1(READ):
        text, broken, whole = "", None, False
        try:
            for event in parser.feed(data):
                whole = event.data == b"[DONE]"
                text += "" if whole else _piece(event.data, answer)
        except Broken as error:
            broken = error
        if text:  # one piece for all that came at once; what came before an error is part of the answer
            yield text
        if broken is not None:
            raise broken
        if whole:
            return
    raise Broken("the connection ended before the answer did")


def _piece(data: bytes, answer: Answer) -> str:
    """The text of one event (`openai.types.chat.ChatCompletionChunk`). Raises Broken where it is an error."""
    try:
        found: Any = json.loads(data)
    except ValueError:
        raise Broken("what came is no JSON") from None
    match found:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            raise Broken(message)
        case {"error": dict()}:
            raise Broken(json.dumps(found["error"]))
        case {"choices": [{"delta": dict(), **rest}, *_]}:
            answer.finish = _words(rest.get("finish_reason")) or answer.finish
            said = found["choices"][0]["delta"]
            return _words(said.get("content")) + _words(said.get("refusal"))
        case {"choices": [{"finish_reason": str(finish)}, *_]}:
            answer.finish = finish
            return ""
        case dict():  # the usage, or something of this provider's own
            return ""
        case _:
            raise Broken("what came is no event of a chat")


def _words(value: Any) -> str:
    """A text, also where it comes in parts, as some providers send it; nothing of anything else."""
    match value:
        case str():
            return value
        case [*parts]:
            texts = (cast("dict[str, Any]", part).get("text") for part in parts if isinstance(part, dict))
            return "".join(map(_words, texts))
        case _:
            return ""


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
