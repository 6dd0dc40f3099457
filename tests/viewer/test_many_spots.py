"""A map of a quarter of a million spots in a real browser: an image with coarser levels, and still the numbers of each spot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from helpers.in_browser import IN_BROWSER, open_view, search, settled, watched
from helpers.viewed import viewing
from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad_chunks import Chunk, write_prediction_by_chunks
from hespotex.geometry import Geometry
from hespotex.sections.section import Section

pytestmark = IN_BROWSER
_COLUMNS, _ROWS, _PITCH_PX0 = 500, 500, 200.0
_GENES = ["LEFT", "TOP"]
# Every spot of these rows is flagged.
_FLAGGED_ROWS = 50


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """250,000 spots on a hexagonal lattice, 100 um wide: as none is that a slide's grid would make."""
    path = tmp_path_factory.mktemp("many") / "MANY.h5ad"
    row, column = np.divmod(np.arange(_COLUMNS * _ROWS), _COLUMNS)
    xy = _PITCH_PX0 * np.stack(
        [column + 0.5 + 0.5 * (row % 2), (row + 0.5) * np.sqrt(0.75)], axis=1
    )
    values = np.stack([column / _COLUMNS - 0.5, row / _ROWS - 0.5], axis=1).astype(np.float32)
    section = Section(
        section_id="MANY",
        patient_id="P",
        slide=None,
        geometry=Geometry(mpp=0.5, spot_pitch_um=100.0, spot_diameter_um=55.0),
        barcodes=np.array([f"r{r}c{c}" for r, c in zip(row, column, strict=True)]),
        xy_px0=xy,
        counts=None,
        genes=None,
    )
    score = np.where(row < _FLAGGED_ROWS, 2.0, 0.5).astype(np.float32)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(row), 2**14):
            rows = slice(start, min(start + 2**14, len(row)))
            yield rows, {"composition": values[rows]}

    write_prediction_by_chunks(path, section=section, genes=_GENES, depth=np.ones(len(row), np.float32),
                               extras=Extras(ood_score=score, ood=score > 1), chunks=chunks(), thumbnail=None, provenance={})  # fmt: skip
    with viewing(path) as found:
        yield found


@pytest.fixture(params=["wide", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    with watched(browser, request.param, address) as opened:
        open_view(opened, address)
        yield opened


def _drawn(page: Any, x: float, y: float, side: int = 1) -> Any:
    """(side, side, 4) what lies over the slide around a place of the stage."""
    x, y = (round(v) - side // 2 for v in (x, y))
    asked = f"""(() => {{ const to = document.createElement('canvas'); to.width = to.height = {side}; const t = to.getContext('2d');
        t.drawImage(app.panes[0].over, -({x}), -({y})); return [...t.getImageData(0, 0, {side}, {side}).data] }})()"""
    return np.array(page.evaluate(asked)).reshape(side, side, 4)


def _on_screen(page: Any, row: int, column: int) -> tuple[float, float]:
    x = _PITCH_PX0 * (column + 0.5 + 0.5 * (row % 2))
    y = _PITCH_PX0 * (row + 0.5) * np.sqrt(0.75)
    found = page.evaluate(f"(() => {{ const v = app.panes[0].view(); return [({x} - v.left) / v.px0, ({y} - v.top) / v.px0] }})()")  # fmt: skip
    return found[0], found[1]


def test_many_spots_are_an_image_with_coarser_levels_for_far_views(page: Any) -> None:
    levels = page.evaluate("app.panes[0].spots.image.map(level => level.width)")
    assert levels == [1002, 501]
    search(page, "LEFT")
    left, right = _on_screen(page, 400, 20), _on_screen(page, 400, 480)
    low, high = _drawn(page, *left)[0, 0], _drawn(page, *right)[0, 0]
    assert low[3] > 150
    assert low[2] > low[0] + 40  # blue where the gene is low
    assert high[0] > high[2] + 40
    search(page, "TOP")
    np.testing.assert_allclose(_drawn(page, *left), _drawn(page, *right), atol=12)


def test_flagged_spots_of_an_image_are_no_colours_of_the_map(page: Any) -> None:
    search(page, "TOP")
    at = _on_screen(page, 20, 250)
    part = _drawn(page, *at, side=9)
    r, g, b = (part[..., k].mean() for k in range(3))
    assert r > g + 15  # pale with red lines, where the gene alone would be blue
    assert r > b + 15
    page.evaluate("app.look.flagged = false; app.repaint()")
    settled(page)
    assert _drawn(page, *at)[0, 0, 3] == 0


def test_hovering_a_pixel_tells_the_numbers_of_its_spot(page: Any) -> None:
    search(page, "LEFT")
    page.evaluate(
        f"Object.assign(app.camera, {{ x: {123 * 100}, y: {321 * 86.6}, um: 4 }}); app.moved()"
    )
    settled(page)
    box = page.locator(".stage").bounding_box()
    x, y = _on_screen(page, 321, 123)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_selector(".tip dl")
    said = page.inner_text(".tip")
    assert "r321c123" in said
    assert "LEFT −0.254" in said
