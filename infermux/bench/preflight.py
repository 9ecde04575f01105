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
    """`status` 0: there was no answer, and `text` says why. `fits`: it begins as such an answer does."""

    status: int
    text: str
    fits: bool = False

    @property
    def problem(self) -> str | None:
        """What to tell, None when it was answered."""
        if not self.status:
            return self.text
        if self.status != 200:
            return f"status {self.status}: {self.text or 'without a word'}"
        return None if self.fits else f"status 200, but what it says is no such answer: {self.text or 'nothing'}"


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
        except ssl.SSLCertVerificationError as error:
            said = f"the certificate of {place.authority} is not trusted: {error.verify_message}"
            return Reply(status=0, text=f"{said} (an authority that the system does not know: SSL_CERT_FILE=ca.pem)")
        except http.client.IncompleteRead as error:
            return Reply(status=0, text=f"{place.authority} broke off after {len(error.partial)} bytes of its answer")
        except (OSError, http.client.HTTPException) as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return Reply(status=0, text=f"{place.authority} cannot be asked: {said}")
    shown = hidden(" ".join(text.split()), load.key)[:_SHOWN]
    return Reply(status=response.status, text=shown, fits=_fits(text, streamed=load.stream))


def _fits(text: str, *, streamed: bool) -> bool:
    """Whether it is JSON, or a stream of events: not a page for browsers, as a wrong path or a login has."""
    return any(line.startswith("data:") for line in text.splitlines()) if streamed else text.lstrip().startswith("{")


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
