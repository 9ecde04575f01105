"""What a router says when it listens, and where it is reached."""

from __future__ import annotations

from collections.abc import Sequence

import click

from infermux import __version__
from infermux.config.settings import Config
from infermux.config.values import Address
from infermux.daemon.running import Place
from infermux.database import place as database

Bound = Sequence[tuple[str, int]]
"""Host and port of each listener, as bound."""

DEMO_HELP = """\
Try it (no key needed; any OpenAI client works with base_url {url}/v1):

  curl -i {url}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "demo-large", "messages": [{{"role": "user", "content": "Hello"}}]}}'

You will see an OpenAI chat completion. Repeat it: X-Infermux-Provider changes among quick, slow and flaky (round
robin), and when flaky fails, X-Infermux-Attempts is 2 and another provider has answered. Add "stream": true, with
curl -N, to watch it come. The providers' states: curl {url}/_infermux/status
"""


def announce(config: Config, addresses: Bound, management: Bound, *, demo: bool) -> None:
    """Print the line that who starts a router waits for, and what else is to be known."""
    url = _url(config, addresses)
    count = len(config.providers)
    lines = [
        f"infermux {__version__} listens on {url} with {count} provider{'s' if count != 1 else ''} ({config.source})"
    ]
    # One write: whoever waits for the first line has the others too. Management is served without TLS.
    url_of_ledger = config.ledger.url
    kept = "nowhere (ledger.url: null)" if url_of_ledger is None else f"in {database.Place.of(url_of_ledger.reveal())}"
    lines.append(f"costs, budgets and keys are kept {kept}")
    lines += [f"management is on http://{_reachable(each)}/_infermux/status" for each in management]
    if demo:
        lines += ["", DEMO_HELP.format(url=url)]
    click.echo("\n".join(lines))


def place_of(config: Config, addresses: Bound, management: Bound) -> Place:
    """Where a router of `config` is reached, by the ports it was given."""
    url = _url(config, addresses)
    if management:
        return Place(url=url, management=f"http://{_reachable(management[0])}", cert_file=None)
    return Place(url=url, management=url, cert_file=config.tls.cert_file)


def _url(config: Config, addresses: Bound) -> str:
    scheme = "https" if config.tls.cert_file is not None else "http"
    return f"{scheme}://{_reachable(addresses[0])}"


def _reachable(bound: tuple[str, int]) -> str:
    """An address a reader can call: a wildcard is called by its loopback."""
    host, port = bound
    return str(Address("127.0.0.1" if host in ("", "0.0.0.0", "::") else host, port))  # noqa: S104 - compared only
