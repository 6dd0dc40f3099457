"""The picture for print says what the page says: flagged spots show no value, names have the page's colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.toy_prediction import GENES
from helpers.viewed import write_viewed
from hespotex.plots.domain_colours import PALETTE
from hespotex.plots.style import new_figure
from hespotex.viewer import opened
from hespotex.viewer.figure import View, draw_pane, draw_view
from hespotex.viewer.library import Library
from hespotex.viewer.sources import find_predictions


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(find_predictions(write_viewed(tmp_path)), lambda _text: None)


def _view(show: str, **more: object) -> View:
    pane = {"slide": 0, "show": show, "gene": GENES[0]}
    return View.of({"panes": [pane], "centre_um": [800, 700], "size_um": [1600, 1400], **more})


def test_flagged_pixels_of_a_fine_map_show_no_value_and_are_crossed_out(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "MOST_CIRCLES", 10)
    slide, view = library.slide(0), _view("composition")
    flagged = np.flatnonzero(~slide.file.usable)
    index, _ = slide.raster()
    at = np.isin(index, flagged)
    assert at.any()
    for crossed in (True, False):
        axes = new_figure(4, 4).add_subplot()
        view = _view("composition", flagged=crossed)
        drawn = draw_pane(axes, slide, slide.layer("composition", GENES[0]), view, view.panes[0])
        shown = np.ma.getmaskarray(drawn.get_array())
        np.testing.assert_array_equal(shown, at | (index < 0))
        over = [i.get_array() for i in axes.get_images() if i.get_zorder() > 2]
        assert len(over) == int(crossed)
        if crossed:
            np.testing.assert_array_equal(over[0][..., 3] > 0, at)


def test_names_have_the_colours_of_the_page_and_stand_at_the_bar(library: Library) -> None:
    view = _view("region", format="svg")
    picture = draw_view(library, view)
    assert b"<!-- tumour -->" in picture
    assert PALETTE[0].encode() in picture
    assert library.run()["named"] == list(PALETTE)
