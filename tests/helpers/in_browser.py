"""A page in a real browser: where Chromium lies, how it is opened, and when the viewer has settled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)  # fmt: skip
HERE = BROWSER is not None and find_spec("playwright") is not None
# Of a module of tests that look at pages.
IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="no playwright, or no Chromium (apt-get install chromium)"),
]
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
# WebGL without a GPU; a container has no sandbox of its own.
_ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # fmt: skip


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that is open meanwhile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=list(_ARGUMENTS))
        yield opened
        opened.close()


@contextmanager
def watched(browser: Any, size: str, home: str, *, offline: bool = False) -> Iterator[Any]:
    """An empty page of a size; afterwards the console was silent, and all that was asked for lies below `home`."""
    said: list[str] = []
    asked: set[str] = set()
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, accept_downloads=True, offline=offline
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.add(request.url))
    yield page
    context.close()
    assert said == []
    assert asked
    assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []


def open_view(page: Any, address: str) -> None:
    """Open a view and wait until its maps are there."""
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    settled(page)


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds; the page's policy forbids Playwright's own way, which evaluates text there."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def settled(page: Any) -> None:
    """Wait until every pane has its values and nothing is left to draw."""
    until(page, "app.panes.every(p => p.values && !p.root.classList.contains('busy')) && !app.pending")  # fmt: skip


def search(page: Any, text: str) -> None:
    """Choose the first gene found."""
    page.fill("#gene", text)
    page.press("#gene", "Enter")
    settled(page)


def colours(page: Any, layer: str) -> list[int]:
    """Pixels of one canvas of the first pane; that of WebGL is only kept right after it was drawn."""
    found = page.evaluate(
        """name => { const p = app.panes[0], c = p[name]; if (name === 'canvas') p.draw();
        const to = document.createElement('canvas'); to.width = c.width; to.height = c.height;
        const t = to.getContext('2d'); t.drawImage(c, 0, 0); return [...t.getImageData(0, 0, c.width, c.height).data] }""",
        layer,
    )
    return list(found)
