"""A fine map as an image: which spot each pixel shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from helpers.toy_prediction import GENES
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import REACH, halved, is_fine, raster_of
from hespotex.spots.grid import spot_grid


def stored(xy_px0: np.ndarray, *, mpp: float, pitch_um: float) -> StoredPrediction:
    n = len(xy_px0)
    return StoredPrediction(
        section_id="s",
        patient_id="P",
        genes=np.array(GENES),
        barcodes=np.array([f"b{i}" for i in range(n)]),
        xy_px0=xy_px0,
        mpp=mpp,
        spot_diameter_um=100.0,
        log1p=None,
        composition=np.zeros((n, len(GENES)), np.float16),
        depth=np.ones(n, np.float32),
        measured=None,
        measured_counts=None,
        measured_depth=None,
        thumbnail=None,
        record={"spot_pitch_um": pitch_um},
    )


@settings(max_examples=30, deadline=None)
@given(mpp=st.floats(0.2, 1.1), pitch=st.floats(8.0, 50.0), seed=st.integers(0, 99))
def test_a_square_lattice_with_gaps_is_one_pixel_a_spot(
    mpp: float, pitch: float, seed: int
) -> None:
    xy, places = spot_grid(1500, 1100, mpp, pitch, "square")
    kept = np.flatnonzero(np.random.default_rng(seed).random(len(xy)) < 0.7)
    raster = raster_of(stored(xy[kept], mpp=mpp, pitch_um=pitch), (1500, 1100))
    column, row = places[kept].T
    assert raster.px0_per_px == pitch / mpp
    np.testing.assert_array_equal(raster.index[row, column], np.arange(len(kept)))
    assert (raster.index >= 0).sum() == len(kept)
    image = raster.image(np.arange(len(kept)))
    np.testing.assert_array_equal(image[row, column], np.arange(len(kept)))
    assert np.isnan(image).sum() == image.size - len(kept)


def test_another_lattice_shows_the_nearest_spot_no_farther_than_its_cell() -> None:
    xy, _ = spot_grid(900, 700, 0.5, 16.0, "hexagonal")
    xy = xy[np.hypot(*(xy - [450, 350]).T) < 300]
    raster = raster_of(stored(xy, mpp=0.5, pitch_um=16.0), (900, 700))
    assert raster.px0_per_px == 16.0
    height, width = raster.index.shape
    x, y = (np.arange(width) + 0.5) * 16, (np.arange(height) + 0.5) * 16
    away, nearest = cKDTree(xy).query(np.stack(np.meshgrid(x, y), axis=-1))
    shown = raster.index >= 0
    np.testing.assert_array_equal(shown, away <= REACH * 32)
    np.testing.assert_allclose(  # of equally near spots any one is shown
        np.hypot(*(xy[raster.index[shown]] - xy[nearest[shown]]).T), 0, atol=2 * REACH * 32
    )
    assert shown.mean() == pytest.approx(np.pi * 316**2 / (900 * 700), abs=0.05)
    small = raster_of(stored(xy, mpp=0.5, pitch_um=16.0), (900, 700), most_px=30)
    assert max(small.index.shape) == 30


def test_a_coarser_level_is_the_mean_of_what_has_a_value() -> None:
    nan = np.nan
    image = np.array([[1, 3, nan], [5, nan, nan], [2, nan, nan]], np.float32)
    np.testing.assert_array_equal(halved(image), np.array([[3, nan], [2, nan]], np.float32))


def test_fifty_microns_are_fine_and_more_are_not() -> None:
    xy = np.array([[10.0, 10.0], [110.0, 10.0]])
    assert is_fine(stored(xy, mpp=0.5, pitch_um=50.0))
    assert not is_fine(stored(xy, mpp=0.5, pitch_um=50.5))
    assert not is_fine(stored(xy[:0], mpp=0.5, pitch_um=16.0))
