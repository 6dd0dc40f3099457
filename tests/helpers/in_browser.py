"""A page in a real browser: where Chromium lies, how it is opened, and when the viewer has settled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)  # fmt: skip
NO_BROWSER = "no Chromium here (apt-get install chromium)"
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
def watched(browser: Any, size: str, said: list[str], asked: list[str]) -> Iterator[Any]:
    """An empty page of a size; what its console says and which addresses it asks for are written down."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, accept_downloads=True
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: asked.append(r.url))
    yield page
    context.close()


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
