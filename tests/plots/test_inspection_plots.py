"""Contracts of the preflight's pictures: spots in true size, patches as the encoder is given them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection

from helpers.inspected_sections import MPP, SIZE, paint, save, shape, spots_on
from hespotex.features.patches import PatchPlan, crop_patches
from hespotex.inspection.inspect import Inspected, Picture
from hespotex.plots.inspection_plots import plot_overlay, plot_patches
from hespotex.slide import open_slide

PLAN = PatchPlan((50.0, 100.0), 32)


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    path = save(paint(shape()), tmp_path_factory.mktemp("plots") / "l.png")
    return Inspected("A", (), Picture(path, spots_on(shape()), MPP, 55.0))


def test_spots_are_drawn_where_they_are_in_their_true_size(item: Inspected) -> None:
    figure = plot_overlay(item)
    assert item.picture is not None
    left, right = figure.axes
    for axes in (left, right):
        circles = [c for c in axes.collections if isinstance(c, EllipseCollection)]
        assert len(circles) == 2  # a dark rim and the colour
        for drawn in circles:
            assert np.array_equal(drawn.get_offsets(), item.picture.xy_px0)
            assert drawn.get_widths() == pytest.approx(55.0 / MPP)
    (image,) = left.images
    assert image.get_extent() == [0, SIZE[0], SIZE[1], 0]
    x0, x1 = right.get_xlim()
    assert x1 - x0 == pytest.approx(200)  # five pitches
    shown = right.images[0]
    assert shown.get_array().shape[:2] == (200, 200)  # no pixel is invented


def test_spots_outside_the_image_are_shown(item: Inspected) -> None:
    assert item.picture is not None
    assert item.picture.xy_px0 is not None
    picture = Picture(item.picture.path, item.picture.xy_px0 * 2, MPP, 55.0)
    left = plot_overlay(Inspected("A", (), picture)).axes[0]
    assert left.get_xlim()[1] > (item.picture.xy_px0 * 2).max()


@pytest.mark.slow
def test_the_sheet_holds_nine_places_in_every_side_as_they_are_encoded(item: Inspected) -> None:
    figure = plot_patches(item, PLAN)
    drawn = [axes.images[0].get_array() for axes in figure.axes]
    assert len(drawn) == 9 * 2
    assert all(image.shape == (32, 32, 3) for image in drawn)
    assert item.picture is not None
    assert item.picture.xy_px0 is not None
    with open_slide(item.picture.path, mpp=MPP) as slide:
        batches = list(crop_patches(slide, item.picture.xy_px0, MPP, PLAN))
    real = {patch.tobytes() for _, batch in batches for spot in batch for patch in spot}
    assert all(np.asarray(image).tobytes() in real for image in drawn)


def test_patches_of_a_slide_alone_lie_on_its_tissue(item: Inspected) -> None:
    assert item.picture is not None
    alone = Inspected("A", (), Picture(item.picture.path, None, MPP, None))
    assert len(plot_overlay(alone).axes) == 2
    middles = [a.images[0].get_array()[16, 16] for a in plot_patches(alone, PLAN).axes]
    assert all(int(middle[1]) < 150 for middle in middles)  # glass has 232


def test_without_a_scale_there_is_no_sheet(item: Inspected) -> None:
    assert item.picture is not None
    unknown = Inspected("A", (), Picture(item.picture.path, None, None, None))
    plot_overlay(unknown)
    with pytest.raises(ValueError, match="microns per pixel"):
        plot_patches(unknown, PLAN)
    with pytest.raises(ValueError, match="no image to draw"):
        plot_overlay(Inspected("A", ()))
