"""The viewer's page in a real browser, wide and narrow: what a person does, and what it must not do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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

pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = write_viewed(tmp_path_factory.mktemp("paged"))
    with viewing(folder, folder / "slides") as found:
        yield found


@pytest.fixture(params=sorted(SIZES))
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The page; it asks no other server."""
    with watched(browser, request.param, address) as opened:
        open_view(opened, address)
        yield opened


def test_the_best_gene_opens_with_its_grade_and_what_it_rests_on(page: Any) -> None:
    assert page.inner_text(".pane h2") == GENES[0]
    assert page.inner_text(".pane .grade-A") == "A"
    assert "PCC given depth" in page.inner_text(".told")
    assert "90 % interval of composition" in page.inner_text(".told")
    assert page.inner_text(".pane .chip.calm") == "like the training slides"
    assert page.is_visible(".scale")
    assert page.is_visible(".legend .ramp")


def test_the_spots_are_drawn_in_colour_and_flagged_ones_in_red(page: Any) -> None:
    pixels = colours(page, "canvas")
    drawn = sum(alpha > 100 for alpha in pixels[3::4])
    assert drawn > 200
    red = sum(r > 150 and g < 60 and b < 70 and a > 150 for r, g, b, a in zip(*[iter(pixels)] * 4, strict=True))  # fmt: skip
    assert red > 10
    page.evaluate("app.look.flagged = false")
    fewer = sum(alpha > 100 for alpha in colours(page, "canvas")[3::4])
    assert fewer < drawn


def test_a_gene_is_found_as_one_types(page: Any) -> None:
    page.fill("#gene", "hla")
    assert page.inner_text("#found [role=option] .name") == "HLA-A"
    assert page.inner_text("#found [role=option] .chip") == "C"
    scopes = page.evaluate("app.active.about.claims.scope")
    page.evaluate(
        "app.active.about.claims.scope = app.active.about.claims.scope.map(() => 'within_patient'); app.writeFound()"
    )
    assert "training patients alone" in page.inner_text("#found [role=option]")
    page.evaluate("scopes => { app.active.about.claims.scope = scopes }", scopes)
    search(page, "hla")
    assert page.inner_text(".pane h2") == "HLA-A"
    assert "grade C" in page.inner_text(".told")
    page.evaluate("app.look.least = 'B'; app.repaint()")
    page.fill("#gene", "hla")
    assert "No gene" in page.inner_text("#found")


def test_the_wheel_brings_the_slide_closer_at_the_place_under_it(page: Any) -> None:
    box = page.locator(".stage").bounding_box()
    x, y = box["width"] / 4, box["height"] / 3
    at = f"(() => {{ const v = app.panes[0].view(); return [v.left + {x} * v.px0, v.top + {y} * v.px0, v.px0] }})()"
    before = page.evaluate(at)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    after = page.evaluate(at)
    assert after[2] < before[2] * 0.7
    assert after[:2] == pytest.approx(before[:2], abs=1)


def test_every_layer_of_the_menu_is_drawn(page: Any) -> None:
    shows = page.eval_on_selector_all("#show option", "all => all.map(o => o.value)")
    assert {"composition", "measured", "difference", "interval", "ood_score", "region"} <= set(
        shows
    )
    for show in shows:
        page.select_option("#show", show)
        settled(page)
        until(page, f"app.active.show === '{show}'")
        assert page.is_hidden("#message")


def test_two_panes_have_one_zoom_and_the_link_repeats_the_view(page: Any, address: str) -> None:
    page.click("#two")
    until(page, "app.panes.length === 2")
    settled(page)
    assert page.evaluate("app.panes.map(p => p.show)") == ["composition", "measured"]
    page.evaluate("app.panes[1].zoomAt(50, 50, 0.5)")
    page.wait_for_timeout(400)
    views = page.evaluate("app.panes.map(p => p.view().px0)")
    assert views[0] == views[1]
    link, camera = page.url, page.evaluate("app.camera")
    page.goto("about:blank")
    open_view(page, link)
    assert page.evaluate("app.panes.map(p => p.show)") == ["composition", "measured"]
    assert page.evaluate("app.camera") == pytest.approx(camera, rel=1e-3, abs=0.1)


def lasso(page: Any) -> None:
    """Draw a region that holds 8 spots which count."""
    page.keyboard.press("l")
    box = page.locator(".stage").bounding_box()
    corners = page.evaluate(
        "[[50,100],[450,100],[450,300],[50,300]].map(([x,y]) => { const v = app.panes[0].view(); return [(x-v.left)/v.px0, (y-v.top)/v.px0] })"
    )
    page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.mouse.up()
    page.wait_for_selector("#region table")


def test_a_lasso_ranks_genes_without_a_p_value(page: Any, tmp_path: Path) -> None:
    lasso(page)
    said = page.inner_text("#region")
    assert "8 spots inside, 19 outside" in said  # of 30, three are flagged
    assert "no p or q value" in said
    assert len(page.query_selector_all("#region tbody tr")) == len(GENES)
    heads = page.eval_on_selector_all("#region th", "all => all.map(e => e.textContent)")
    assert heads == ["gene", "inside", "difference", "±", "grade", "evidence"]
    cells = page.eval_on_selector_all(
        "#region tbody tr:first-child td.number", "all => all.map(e => e.textContent)"
    )
    best = {name: column[0] for name, column in page.evaluate("app.regions.table.columns").items()}
    assert float(cells[0].replace("−", "-")) == pytest.approx(best["inside"], rel=0.01)
    assert float(cells[1].replace("−", "-")) == pytest.approx(best["difference"], rel=0.01)
    with page.expect_download() as saved:
        page.click("#region >> text=CSV")
    lines = Path(saved.value.path()).read_text().splitlines()
    assert lines[0].startswith("section,n_inside,n_rest,gene,difference")
    assert len(lines) == 1 + len(GENES)
    assert lines[0].endswith(",grade,evidence,scope,slide_verdict")
    assert all(line.endswith(",like the training slides") for line in lines[1:])
    with page.expect_download() as saved:
        page.click("#region >> text=GeoJSON out")
    drawn = json.loads(Path(saved.value.path()).read_text())
    assert drawn["features"][0]["properties"]["objectType"] == "annotation"
    (tmp_path / "again.geojson").write_text(json.dumps(drawn))
    page.evaluate("app.regions.rings = []; app.regions.table = null")
    page.set_input_files("#geojson", tmp_path / "again.geojson")
    until(page, "app.regions.table && app.regions.table.n_inside === 8")


def test_what_tells_how_to_draw_leaves_room_to_draw(page: Any) -> None:
    page.keyboard.press("l")
    stage, panel = (page.locator(name).bounding_box() for name in (".stage", "#region"))
    if page.viewport_size["width"] < 760:  # it lies over the map there
        assert panel["y"] > stage["y"] + 0.7 * stage["height"]
    else:
        assert panel["x"] >= stage["x"] + stage["width"]


def test_the_link_repeats_a_region(page: Any) -> None:
    lasso(page)
    until(page, "location.hash.includes('region=')")
    link, drawn = page.url, page.evaluate("app.regions.rings")
    page.click("#region >> text=Close")
    until(page, "!location.hash.includes('region=')")
    page.goto("about:blank")
    open_view(page, link)
    assert "8 spots inside, 19 outside" in page.inner_text("#region")
    again = page.evaluate("app.regions.rings")
    assert len(again) == len(drawn)
    assert again[0] == [pytest.approx(corner, abs=0.051) for corner in drawn[0]]
    assert page.url == link
    # A link to another view in the same window takes the region away, this one brings it back.
    page.evaluate("location.hash = 'pane=S1~composition~HLA-A'")
    until(page, "app.regions.rings.length === 0 && document.getElementById('region').hidden")
    page.evaluate("link => { location.hash = link.split('#')[1] }", link)
    until(page, "app.regions.table && app.regions.table.n_inside === 8")


def test_a_link_that_holds_no_region_of_this_run_opens_the_view(page: Any, address: str) -> None:
    for region in ("region=S1&region=1,2,3", "region=S1&region=a,b,c,d,e,f", "region=S9&region=0,0,9,0,9,9", "region="):  # fmt: skip
        page.goto("about:blank")
        open_view(page, f"{address}#pane=S1~composition~ACTB&{region}")
        assert page.evaluate("app.regions.rings") == []
        assert page.is_hidden("#region")
        assert page.is_hidden("#message")


def test_a_link_to_a_slide_that_is_not_here_says_so(page: Any, address: str) -> None:
    page.goto("about:blank")
    open_view(page, f"{address}#pane=S9~composition~ACTB")
    assert "The link shows the slide S9, which is not here" in page.inner_text("#message")


def test_geojson_starts_at_the_bounds_of_a_slide_as_in_qupath(page: Any, tmp_path: Path) -> None:
    assert page.evaluate("app.run.slides[0].bounds_px0") == [0, 0]
    lasso(page)
    assert not page.query_selector("#from-bounds")
    ring = page.evaluate("app.regions.rings[0]")
    page.evaluate("app.run.slides[0].bounds_px0 = [1000, 40]; app.regions.write()")
    for from_bounds, (x, y) in ((True, (1000, 40)), (False, (0, 0))):
        page.set_checked("#from-bounds", from_bounds)
        with page.expect_download() as saved:
            page.click("#region >> text=GeoJSON out")
        (tmp_path / "again.geojson").write_bytes(Path(saved.value.path()).read_bytes())
        drawn = json.loads((tmp_path / "again.geojson").read_text())["features"][0]
        outer = drawn["geometry"]["coordinates"][0]
        assert outer[:-1] == [pytest.approx([a - x, b - y]) for a, b in ring]
        page.evaluate("app.regions.rings = []; app.regions.table = null")
        page.set_input_files("#geojson", tmp_path / "again.geojson")
        until(page, "app.regions.table && app.regions.table.n_inside === 8")


def test_a_region_of_many_corners_stays_out_of_the_link(page: Any) -> None:
    page.evaluate("app.regions.slide = 0")
    for corners, holds in ((2000, True), (2001, False)):
        page.evaluate(
            "n => { app.regions.rings = [Array.from({ length: n }, (_, i) => [i, i % 2])]; app.writeState() }",
            corners,
        )
        assert ("region=" in page.url) == holds


def test_a_region_that_cannot_be_compared_shows_no_table_of_another(page: Any) -> None:
    lasso(page)
    page.evaluate("void (Source.json = async () => { throw new Error('no spot inside') })")
    page.evaluate("app.regions.ask()")
    until(page, "!document.querySelector('#region table')")
    assert page.inner_text("#message") == "no spot inside"
    assert page.is_disabled("#region >> text=CSV")


def test_the_table_is_that_of_the_region_drawn_last(page: Any) -> None:
    lasso(page)
    page.evaluate(
        """(() => { const ask = Source.json, r = app.regions, [ring] = r.rings; let first = true;
        Source.json = async (...given) => { const late = first; first = false; const got = await ask.apply(Source, given);
            if (late) await new Promise((done) => setTimeout(done, 400)); return got };
        const one = r.ask(); r.rings = [[[0, 0], [450, 0], [450, 450], [0, 450]]]; return Promise.all([one, r.ask()]) })()"""
    )
    assert page.evaluate("app.regions.table.n_inside") > 8


def test_genes_and_sets_below_the_grade_asked_for_are_not_found(page: Any) -> None:
    page.evaluate(
        "Object.assign(app.active.about, { sets: ['low set', 'high set', 'set without a grade'], set_grades: ['D', 'A', 'ungraded'] })"
    )
    found = "app.found('').map((row) => row.gene)"
    assert set(page.evaluate(found)) == {*GENES, "low set", "high set", "set without a grade"}
    page.evaluate("app.look.least = 'B'")
    grades = page.evaluate("Object.fromEntries(app.active.about.claims.grade.map((g, j) => [app.active.about.genes[j], g]))")  # fmt: skip
    good = {gene for gene, grade in grades.items() if grade in ("A", "B")}
    assert set(page.evaluate(found)) == {*good, "high set"}


def test_an_unlike_slide_is_hatched_until_one_says_so(page: Any) -> None:
    page.keyboard.press("n")
    until(page, "app.panes[0].about.name === 'S2'")
    settled(page)
    assert page.inner_text(".pane .chip.alarm") == "unlike the training slides"
    assert page.is_visible(".warning")
    assert page.is_visible(".hatching")
    page.click("text=Show anyway")
    until(page, "app.look.anyway && !app.pending")
    assert page.is_hidden(".warning")
    assert page.is_hidden(".hatching")
    assert "anyway=1" in page.url
    assert "small picture" in page.inner_text(".note")


def test_the_skip_link_leads_to_the_search_and_keeps_the_maps(page: Any) -> None:
    page.focus(".skip")
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'gene'")
    until(page, "location.hash.includes('pane=S1')")
    assert page.evaluate("app.panes.length") == 1
    assert page.inner_text(".pane h2") == GENES[0]


def test_hovering_tells_the_numbers_of_a_spot(page: Any) -> None:
    box = page.locator(".stage").bounding_box()
    x, y = page.evaluate("(() => { const v = app.panes[0].view(); return [(100 - v.left) / v.px0, (150 - v.top) / v.px0] })()")  # fmt: skip
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_selector(".tip dl")
    said = page.inner_text(".tip")
    assert re.search(r"ACTB .* ± 0\.4", said)
    assert "0x0" in said
    assert "Depth, predicted" in said


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_view_is_saved_as_a_picture(page: Any, kind: str) -> None:
    page.click("#save summary")
    with page.expect_download() as saved:
        page.click(f"[data-figure={kind}]")
    assert saved.value.suggested_filename == f"S1_ACTB.{kind}"
    if kind == "png":
        with Image.open(saved.value.path()) as picture:
            assert min(picture.size) > 1000


def test_everything_fits_the_window_in_the_dark_too(page: Any) -> None:
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in ("#gene", "#show", "#two", "#lasso", "#help"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.viewport_size["width"] + 1


def test_what_can_be_pressed_has_a_name(page: Any) -> None:
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.id)"
    )
    assert nameless == []
