"""The dashboard in a real browser: what its page holds, keeps, sends and says."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e._browser import browser, shown
from tests.security import _secrets as secrets

FIELDS = "return [...document.forms].map(form => [...form].map(each => each.value)) + ''"


def looked_at(url: str) -> dict[str, bytes]:
    """Give the page the token, open all there is to open, and take everything that can be read of it."""
    with browser(f"{url}/_infermux/", kept=("browser", "performance")) as chrome:
        shown(chrome, "document.querySelector('#token') !== null", True)
        chrome.find_element("id", "token").send_keys(secrets.TOKEN.value, "\n")
        shown(chrome, "document.querySelector('[data-provider=echoing]') !== null", True)
        shown(chrome, "document.querySelector('#decisions tbody tr') !== null", True)
        sent, network = _network(chrome.get_log("performance"))
        stored = "return JSON.stringify([Object.entries(%s), %s.length])"
        return {
            "browser: document": chrome.execute_script("return document.documentElement.outerHTML").encode(),
            "browser: fields": chrome.execute_script(FIELDS).encode(),
            "browser: address": chrome.current_url.encode(),
            "browser: cookies": json.dumps(chrome.get_cookies()).encode(),
            "browser: local storage": chrome.execute_script(stored % (("localStorage",) * 2)).encode(),
            "browser: session storage": chrome.execute_script(stored % (("sessionStorage",) * 2)).encode(),
            "browser: console": json.dumps(chrome.get_log("browser")).encode(),
            "browser: headers it sent": sent,
            "browser: network": network,
        }


def _network(log: list[Any]) -> tuple[bytes, bytes]:
    """The headers of what the page sent, and all else that went over the network."""
    sent, others = list[str](), list[str]()
    for entry in log:
        message = json.loads(entry["message"])["message"]
        parameters = message.get("params", {})
        request = parameters.get("request", {})
        sent.append(json.dumps(request.pop("headers", None) or parameters.pop("headers", None)))
        if "headersText" not in parameters:
            others.append(json.dumps(message))
    return "\n".join(sent).encode(), "\n".join(others).encode()
