"""A saved page in a real browser, from the disk and without a network: what still works, and that it asks nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.in_browser import (
    IN_BROWSER,
    SIZES,
    colours,
    open_view,
    search,
    settled,
    until,
    watched,
)
from helpers.toy_prediction import GENES
from helpers.viewed import viewing, write_viewed
from hespotex.viewer.saved_page import save_page
from hespotex.viewer.sources import find_predictions

pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_viewed(tmp_path_factory.mktemp("opened"))


@pytest.fixture(scope="module")
def saved(run: Path) -> Path:
    source = find_predictions(run, run / "slides")
    return save_page(source, run / "a page.html", [GENES[0], "HLA-A"])


@pytest.fixture(params=sorted(SIZES))
def page(request: pytest.FixtureRequest, browser: Any, saved: Path) -> Iterator[Any]:
    """The page from the disk; it asks for nothing but itself."""
    with watched(browser, request.param, saved.as_uri(), offline=True) as opened:
        open_view(opened, saved.as_uri())
        yield opened


def test_it_shows_the_same_map_as_the_viewer(page: Any, browser: Any, run: Path) -> None:
    drawn = {"saved": [colours(page, "canvas"), colours(page, "under"), page.inner_text(".told")]}
    with viewing(run, run / "slides") as address, browser.new_context(viewport=page.viewport_size) as other:  # fmt: skip
        live = other.new_page()
        open_view(live, page.url.replace(page.url.split("#")[0], address))
        live.evaluate("camera => { Object.assign(app.camera, camera); app.draw() }", page.evaluate("app.camera"))  # fmt: skip
        settled(live)
        drawn["live"] = [colours(live, "canvas"), colours(live, "under"), live.inner_text(".told")]
    assert drawn["saved"][2] == drawn["live"][2]
    for ours, its in zip(drawn["saved"][:2], drawn["live"][:2], strict=True):
        assert any(its)
        assert len(ours) == len(its)
        # Values are rounded, so that a spot may have the next colour of the palette.
        assert max(abs(a - b) for a, b in zip(ours, its, strict=True)) <= 12


def test_its_genes_alone_are_found_with_their_grades(page: Any) -> None:
    page.fill("#gene", "")
    assert page.eval_on_selector_all("#found .name", "all => all.map(e => e.textContent)") == ["ACTB", "HLA-A"]  # fmt: skip
    search(page, "hla")
    assert page.inner_text(".pane h2") == "HLA-A"
    assert page.inner_text(".pane .grade-C") == "C"
    assert "grade C" in page.inner_text(".told")


def test_every_layer_two_panes_and_the_zoom_work(page: Any) -> None:
    shows = page.eval_on_selector_all("#show option", "all => all.map(o => o.value)")
    assert {"composition", "measured", "difference", "interval", "ood_score", "region"} <= set(shows)  # fmt: skip
    for show in shows:
        page.select_option("#show", show)
        until(page, f"app.active.show === '{show}'")
        assert page.is_hidden("#message")
    page.select_option("#show", "composition")
    settled(page)
    page.click("#two")
    until(page, "app.panes.length === 2")
    settled(page)
    page.evaluate("app.panes[1].zoomAt(50, 50, 0.5)")
    page.wait_for_timeout(400)
    assert page.evaluate("app.panes.map(p => p.show)") == ["composition", "measured"]
    assert page.evaluate("app.panes[0].view().px0 === app.panes[1].view().px0")
    assert "pane=S1~measured~ACTB" in page.evaluate("decodeURIComponent(location.hash)")


def test_hovering_tells_the_numbers_of_a_spot(page: Any) -> None:
    box = page.locator(".stage").bounding_box()
    x, y = page.evaluate("(() => { const v = app.panes[0].view(); return [(100 - v.left) / v.px0, (150 - v.top) / v.px0] })()")  # fmt: skip
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_selector(".tip dl")
    assert "0x0" in page.inner_text(".tip")
    assert "Depth, predicted" in page.inner_text(".tip")


def test_an_unlike_slide_is_hatched_until_one_says_so(page: Any) -> None:
    page.keyboard.press("n")
    until(page, "app.panes[0].about.name === 'S2'")
    settled(page)
    assert page.inner_text(".pane .chip.alarm") == "unlike the training slides"
    assert page.is_visible(".hatching")
    page.click("text=Show anyway")
    until(page, "app.look.anyway && !app.pending")
    assert page.is_hidden(".hatching")


def test_what_needs_the_server_is_not_offered(page: Any) -> None:
    assert page.is_hidden("#lasso")
    assert page.is_hidden("#save")
    page.keyboard.press("l")
    assert page.is_hidden("#region")


def test_slides_are_sorted_by_a_gene(page: Any) -> None:
    if page.is_hidden("#sort"):
        page.click("#toggle-list")
    page.select_option("#sort", "gene")
    page.wait_for_selector(".level")
    assert len(page.query_selector_all(".level")) == 2
    assert "composition pooled over each slide" in page.inner_text("#level-note")
