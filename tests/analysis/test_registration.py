"""Registration of painted slices of one block, whose true map is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hespotex.analysis.common_maps import common_places
from hespotex.analysis.landmarks import fit_landmarks
from hespotex.analysis.registration import Quality, quality_of, register
from hespotex.analysis.section_picture import Picture, picture_of, warped
from hespotex.datasets import PaintedPlan, Serial, draw_patients
from hespotex.errors import GeometryError
from hespotex.export.h5ad import Thumbnail
from hespotex.geometry import Affine


def _plan() -> PaintedPlan:
    serial = Serial(
        (0.0, 10.0), turn_degrees=180, mirror_chance=0.5, stretch=0.05, shift_um=100, restained=True
    )
    return PaintedPlan(
        seed=19, patients=draw_patients(2), sections_per_patient=2, n_genes=60, lattice="square",
        side_um=1800.0, serial=serial,
    )  # fmt: skip


def _picture(plan: PaintedPlan, patient: int, section: int) -> Picture:
    arrays = plan.section(patient, section).arrays
    small = cv2.resize(arrays.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return picture_of(Thumbnail(small, 2.0), arrays.mpp)


@pytest.mark.slow
def test_a_turned_stretched_restained_slice_is_found_and_a_wrong_partner_is_refused() -> None:
    plan = _plan()
    first, second = _picture(plan, 0, 0), _picture(plan, 0, 1)
    found = register(first, second)
    names = plan.section_id(0, 1), plan.section_id(0, 0)
    true = plan.frames(0).between(*names)
    grid = np.stack(np.meshgrid([600.0, 1100, 1600], [600.0, 1100, 1600]), -1).reshape(-1, 2)
    off = np.linalg.norm(found.to_fixed(grid) - true(grid), axis=1)
    assert off.max() < 75  # half a pitch of 150 um
    assert found.quality.refusal == ""
    wrong = register(first, _picture(plan, 1, 1))
    assert "correlation of grey" in wrong.quality.refusal


@pytest.mark.slow
def test_a_slice_of_which_a_part_was_cut_off_is_not_stretched_over_the_whole_one() -> None:
    first = _picture(_plan(), 0, 0)
    rows, columns = np.nonzero(first.tissue)
    kept = np.arange(first.tissue.shape[1]) < np.quantile(columns, 0.75)
    turned = Affine.turn(140, about=(1000.0, 1000.0))
    cut = Picture(first.grey * kept, first.tissue & kept, first.um_per_px)
    laid = Picture(
        warped(cut.grey, cut, first, turned), warped(cut.tissue, cut, first, turned) > 0.5, first.um_per_px
    )  # fmt: skip
    found = register(first, laid)
    points = np.stack([columns, rows], 1)[:: len(rows) // 50] * first.um_per_px
    off = np.linalg.norm(found.to_fixed(turned(points)) - points, axis=1)
    assert off.max() < 75
    assert found.quality.refusal == ""


@pytest.mark.parametrize(
    ("correlation", "detail", "lead", "refused"),
    [
        (0.75, 0.6, float("nan"), False),  # no other fit was found
        (0.75, 0.6, 0.06, False),
        (0.75, 0.6, 0.04, True),  # it fits as well elsewhere: nobody knows where it lies
        (0.55, 0.4, 0.5, False),
        (0.55, 0.4, 0.3, True),
        (0.55, 0.4, float("nan"), True),
        (0.72, 0.3, 1.0, True),
        (0.45, 0.5, 1.0, True),
    ],
)
def test_a_fit_is_used_that_is_sure_or_far_ahead_of_every_other(
    correlation: float, detail: float, lead: float, refused: bool
) -> None:
    quality = Quality(0.9, correlation, detail, 0.1, 0.9, lead)
    assert bool(quality.refusal) is refused
    assert Quality(0.4, correlation, detail, 0.1, 0.9, lead).refusal.startswith(
        "Dice of tissue 0.40"
    )


@pytest.mark.parametrize(("overlap", "refused"), [(0.69, True), (0.71, False)])
def test_a_fit_of_a_small_part_of_the_tissue_is_refused(overlap: float, refused: bool) -> None:
    """A wrong partner of a benchmark: half of it lay on the other, alike and far ahead."""
    quality = Quality(0.54, 0.68, 0.52, 0.01, overlap, lead=0.46)
    assert quality.refusal.startswith("69% of the smaller tissue") is refused
    assert bool(quality.refusal) is refused


def test_a_map_that_stretches_by_more_than_a_quarter_is_refused() -> None:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.random((60, 60)).astype(np.float32), (0, 0), 3)
    picture = Picture(grey, np.ones((60, 60), bool), 10.0)
    assert quality_of(picture, picture, Affine()).refusal == ""
    stretched = Affine.around(np.diag([1.3, 1.0]), (300.0, 300.0))
    assert (
        "correlation of grey 0.00, of its detail 0.00"
        in quality_of(picture, picture, stretched).refusal
    )


def test_glass_alone_cannot_be_registered() -> None:
    with pytest.raises(GeometryError, match="expected tissue to register by, found 0 pixels"):
        picture_of(Thumbnail(np.full((80, 80, 3), 240, np.uint8), 1.0), 10.0)


def test_landmarks_give_the_map_that_made_them_and_a_line_is_refused() -> None:
    true = Affine.of([[0.0, -1.02], [0.97, 0.1]], (30.0, 40.0))
    moving = np.array([[0.0, 0], [100, 0], [0, 100], [70, 90]])
    found = fit_landmarks(true(moving), moving)
    assert np.allclose(found(moving), true(moving))
    line = np.array([[0.0, 0], [1, 1], [2, 2]])
    with pytest.raises(GeometryError, match="not all on one line"):
        fit_landmarks(line, line)


def test_spots_take_the_mean_of_near_partners_and_far_sections_are_refused() -> None:
    first = np.stack(np.meshgrid(np.arange(5) * 100.0, np.arange(4) * 100.0), -1).reshape(-1, 2)
    all_of = np.ones(len(first), bool)
    places = common_places(first, first, 100.0, (all_of, all_of))
    assert len(places.rows) == 20
    assert np.allclose(places.weights.sum(axis=1), 1)
    assert (places.weights.argmax(axis=1).ravel() == np.arange(20)).all()
    without = all_of.copy()
    without[3] = False
    assert 3 not in common_places(first, first, 100.0, (all_of, without)).weights.indices
    with pytest.raises(GeometryError, match=r"at least 8 spots .* found 0"):
        common_places(first, first + 5000, 100.0, (all_of, all_of))
    with pytest.raises(GeometryError, match=r"at least 8 spots .* found 1"):
        common_places(first[:1], first, 100.0, (all_of[:1], all_of))
