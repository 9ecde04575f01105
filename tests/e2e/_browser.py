"""Debian's Chromium at a router's dashboard, and what a page must be to those who cannot see it well, or at all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, TypeVar

import trio

T = TypeVar("T")
Chrome: TypeAlias = Any  # selenium's, whose types are unknown in part
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
REQUESTED: Final = "return performance.getEntriesByType('resource').map(each => new URL(each.name).origin)"

UNREADABLE: Final = """
const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
function ground(element) {
  for (let each = element; each; each = each.parentElement) {
    const [red, green, blue, alpha = 1] = parsed(getComputedStyle(each).backgroundColor);
    if (alpha === 1) return [red, green, blue];
  }
  return [255, 255, 255];
}
const found = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const read = element.checkVisibility() && !element.closest(".sr, :disabled, script, style");
  if (!walker.currentNode.data.trim() || !read) continue;
  const style = getComputedStyle(element);
  const ink = element.closest("svg") ? style.fill : style.color;
  const [light, dark] = [luminance(parsed(ink)), luminance(ground(element))].sort((one, other) => other - one);
  const ratio = (light + 0.05) / (dark + 0.05);
  if (ratio < 4.5) found.add(`${walker.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return [...found];
"""
"""Texts with less contrast than 4.5. https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio; disabled buttons are exempt."""

FAINT_FOCUS: Final = """
const REACHED = "a, button, input, select, summary, [tabindex='0']";
const found = [];
for (const each of (document.querySelector("dialog[open]") ?? document).querySelectorAll(REACHED)) {
  if (!each.checkVisibility() || each.disabled) continue;
  each.focus({ focusVisible: true });
  const { outlineStyle, outlineWidth } = getComputedStyle(each);
  const outlined = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  if (document.activeElement !== each || !outlined) found.push(each.outerHTML.slice(0, 80));
}
document.activeElement.blur();
return found;
"""
"""What cannot be reached by the keyboard, or does not show that it has been."""


@contextmanager
def browser(url: str, *, kept: tuple[str, ...] = ("browser",)) -> Generator[Chrome]:
    """Debian's Chromium at that page, 1280 by 900. The logs named by `kept` are kept: what its console says."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", dict.fromkeys(kept, "ALL"))
        chrome = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            chrome.set_page_load_timeout(20)
            chrome.get(url)
            yield chrome
        finally:
            chrome.quit()


async def beside(url: str, look: Callable[[Chrome], T]) -> T:
    """Run `look` with a browser at the dashboard of the router at `url`, in a thread of its own."""

    def run() -> T:
        with browser(f"{url}/_infermux/") as chrome:
            return look(chrome)

    return await trio.to_thread.run_sync(run)


def shown(chrome: Chrome, script: str, wanted: Any, *, within: float = 10.0) -> None:
    """Wait until `script` returns `wanted`."""
    until, found = time.monotonic() + within, None
    while time.monotonic() < until:
        found = chrome.execute_script(f"return {script}")
        if found == wanted:
            return
        time.sleep(0.05)
    raise AssertionError(f"{script} is {found!r}, not {wanted!r}")


def text_of(selector: str) -> str:
    """The script for the text of the first element that fits."""
    return f"document.querySelector({selector!r})?.textContent"


def click(chrome: Chrome, selector: str) -> None:
    """Press the first element that fits."""
    chrome.execute_script(f"document.querySelector({selector!r}).click()")


def emulate(chrome: Chrome, width: int, scheme: str) -> None:
    """A window of that width, light or dark, where colours change at once."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def nameless(chrome: Chrome) -> list[str]:
    """What a screen reader would call by its role alone, by Chromium's own tree of what it tells to screen readers."""
    nodes = chrome.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "link", "textbox", "searchbox", "checkbox", "combobox", "spinbutton", "image", "img", "table",
             "region", "meter", "dialog", "heading", "article", "figure"}  # fmt: skip
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")]
    return [role for role, name in told if role in roles and not name.strip()]
