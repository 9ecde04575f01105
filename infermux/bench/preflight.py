"""One request before the load, so that a wrong URL, key or model is told in the server's own words."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time

import attrs

from .load import Load, Place, hidden, place_of
from .process import Child, DidNotStart

_SHOWN = 300


@attrs.frozen(kw_only=True)
class Reply:
    """`status` 0: there was no answer, and `text` says why."""

    status: int
    text: str

    @property
    def problem(self) -> str | None:
        """What to tell, None when it was answered."""
        if self.status == 200:
            return None
        return self.text if not self.status else f"status {self.status}: {self.text}"


def ask(load: Load, url: str) -> Reply:
    """The load's request, once."""
    place = place_of(url)
    headers = {"Content-Type": "application/json", "Host": place.authority, **load.sent_headers}
    with contextlib.closing(_connection(place, load.timeout)) as connection:
        try:
            connection.request("POST", place.path_of(load), load.body, headers)
            response = connection.getresponse()
            text = response.read(65536).decode(errors="replace")
        except TimeoutError:
            return Reply(status=0, text=f"no answer within {load.timeout:g} s")
        except (OSError, http.client.HTTPException) as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return Reply(status=0, text=f"{place.authority} cannot be asked: {said}")
    return Reply(status=response.status, text=hidden(" ".join(text.split()), load.key)[:_SHOWN])


def _connection(place: Place, timeout: float) -> http.client.HTTPConnection:
    if place.scheme == "https":
        return http.client.HTTPSConnection(
            place.host, place.port, timeout=timeout, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(place.host, place.port, timeout=timeout)


def wait_until_it_answers(child: Child, load: Load, url: str, *, seconds: float) -> None:
    """Until the load's request is answered with 200. Raises DidNotStart."""
    deadline = time.monotonic() + seconds
    problem = None
    while time.monotonic() < deadline:
        child.check_alive()
        problem = ask(attrs.evolve(load, timeout=5), url).problem
        if problem is None:
            return
        time.sleep(0.1)
    raise DidNotStart(f"{child.name} gave no answer within {seconds:g} s ({problem}): {child.last_output()}")
