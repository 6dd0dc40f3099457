"""Serial sections of a painted block: neighbours share structures, and the maps between them are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from hespotex.datasets import PaintedPatient, PaintedPlan, PaintedSection, Serial, write_cohort
from hespotex.datasets.draws import SliceDraws
from hespotex.datasets.tissue import FOCUS, GLAND, at_points
from hespotex.geometry import Affine, read_frames
from hespotex.progress import Silent
from hespotex.stages import read_sections

STILL = PaintedPlan(
    seed=5,
    patients=(PaintedPatient("P1", foci=0.06),),
    sections_per_patient=4,
    n_genes=60,
    lattice="hexagonal",
    side_um=800.0,
    mpp=4.0,
    serial=Serial(z_um=(0.0, 10.0, 60.0, 400.0)),
)
MOVED = replace(
    STILL,
    sections_per_patient=3,
    serial=Serial(
        z_um=(20.0, 20.0, 20.0),
        turn_degrees=180.0,
        mirror_chance=0.5,
        stretch=0.05,
        shift_um=30.0,
        restained=True,
    ),
)


@pytest.fixture(scope="module")
def still() -> list[PaintedSection]:
    return list(STILL.sections())


@pytest.fixture(scope="module")
def moved() -> list[PaintedSection]:
    return list(MOVED.sections())


def test_near_slices_are_more_alike_than_far_ones(still: list[PaintedSection]) -> None:
    first = still[0].truth.scene
    same = [float((s.truth.scene.tissue == first.tissue)[first.outline].mean()) for s in still[1:]]
    assert same[0] > 0.9
    assert same[0] > same[1] + 0.05 > same[2] + 0.25
    outlines = [float((s.truth.scene.outline ^ first.outline).mean()) for s in still[1:]]
    assert outlines[0] < outlines[1] < outlines[2]


def test_foci_go_through_neighbouring_slices(still: list[PaintedSection]) -> None:
    masks = [s.truth.scene.tissue == FOCUS for s in still]
    shared = [float((m & masks[0]).sum() / masks[0].sum()) for m in masks[1:]]
    assert shared[0] > 0.8
    assert shared[0] > shared[2] + 0.4


def test_a_gland_keeps_its_width_from_slice_to_slice() -> None:
    """Lumina of neighbours overlap, although a slice may lack a gland that the one before has."""
    many = PaintedPatient("P1", tissue={"gland": 1.0})
    plan = replace(STILL, patients=(many,), mpp=2.0)
    scenes = [plan.section(0, k, picture=False).truth.scene for k in (0, 1, 3)]
    lumina = [(s.empty > 0.5) & (s.tissue == GLAND) for s in scenes]
    overlap = [(m & lumina[0]).sum() / (m | lumina[0]).sum() for m in lumina[1:]]
    assert overlap[0] > 0.7
    assert overlap[1] < 0.3


def test_smooth_genes_go_through_the_block_and_capture_does_not(
    still: list[PaintedSection],
) -> None:
    xy_um = np.random.default_rng(0).uniform(100, 700, size=(300, 2))
    smooth = still[0].arrays.truth.programme == "smooth"
    maps = [s.truth.smooth(np.column_stack([xy_um, np.full(300, s.truth.z_um)])) for s in still]
    assert maps[0].shape == (300, smooth.sum())
    distance = [np.abs(m - maps[0]).mean() for m in maps[1:]]
    assert distance[0] < 0.1 < distance[2]
    capture = [s.truth.capture(xy_um) for s in still[:2]]
    assert np.abs(capture[0] - capture[1]).mean() > 0.2


def test_unmoved_slices_lie_in_the_frame_of_the_block(still: list[PaintedSection]) -> None:
    assert {s.frame.to_common for s in still} == {Affine()}
    assert {s.arrays.image.shape for s in still} == {(200, 200, 3)}


def test_the_map_takes_every_nucleus_to_where_it_lies_on_the_other_slice(
    moved: list[PaintedSection],
) -> None:
    """All three are cut at one depth, so that they are the same but for their moves."""
    frames = MOVED.frames(0)
    for target in (1, 2):
        affine = frames.between("P1S1", f"P1S{target + 1}")
        one, other = (moved[k].truth.scene for k in (0, target))
        landmarks = affine(one.nuclei.xy_um)
        np.testing.assert_allclose(landmarks, other.nuclei.xy_um, atol=1e-6)
        same = at_points(one.tissue, one.nuclei.xy_um, 4.0) == at_points(
            other.tissue, landmarks, 4.0
        )
        assert same.mean() > 0.95
        assert not np.allclose(affine.linear, np.eye(2), atol=0.02)


def test_the_pictures_agree_under_the_map_and_not_without_it(moved: list[PaintedSection]) -> None:
    affine = MOVED.frames(0).between("P1S1", "P1S2")
    one, other = (gaussian_filter(s.arrays.image[..., 0].astype(float), 3) for s in moved[:2])
    xy_um = moved[0].arrays.xy_um
    seen = at_points(one, xy_um, 4.0)
    assert np.corrcoef(seen, at_points(other, affine(xy_um), 4.0))[0, 1] > 0.9
    assert np.corrcoef(seen, at_points(other, xy_um, 4.0))[0, 1] < 0.6


def test_truth_is_the_same_at_the_same_place_of_the_tissue(moved: list[PaintedSection]) -> None:
    """Smooth genes of the block and genes of a tissue alike; spots near a border of tissues see it resampled."""
    affine = MOVED.frames(0).between("P1S1", "P1S3")
    xy_um = moved[0].arrays.xy_um
    here, there = moved[0].truth.at(xy_um), moved[2].truth.at(affine(xy_um))
    difference = np.abs(np.log(here.share[:, :40]) - np.log(there.share[:, :40]))
    assert np.median(difference) < 0.02
    assert np.quantile(difference, 0.95) < 0.3


def test_moves_keep_to_their_bounds_and_all_kinds_happen() -> None:
    serial = Serial(z_um=(0.0,), turn_degrees=180.0, mirror_chance=0.5, stretch=0.05, shift_um=30.0)
    moves = [serial.draw_move(np.random.default_rng(k), 800.0) for k in range(200)]
    stretches = np.array([m.stretches for m in moves])
    assert stretches.max() <= 1.05 + 1e-9
    assert stretches.min() >= 0.95 - 1e-9
    assert stretches[:, 0].max() > 1.045
    assert 70 < sum(m.mirrors for m in moves) < 130
    middle = np.array([m([[400.0, 400.0]])[0] for m in moves]) - serial.canvas_um(800.0) / 2
    assert 25 < np.abs(middle).max() <= 30
    assert Serial(z_um=(0.0,)).draw_move(np.random.default_rng(0), 800.0) == Affine()


def test_no_tissue_is_cut_off_by_a_move(moved: list[PaintedSection]) -> None:
    areas = []
    for section in moved:
        outline = section.truth.scene.outline
        assert not any(edge.any() for edge in (outline[0], outline[-1], outline[:, 0], outline[:, -1]))  # fmt: skip
        areas.append(outline.sum() * abs(np.linalg.det(section.frame.to_common.linear)))
    assert max(areas) < 1.01 * min(areas)


def test_slices_are_stained_otherwise_where_that_is_asked(moved: list[PaintedSection]) -> None:
    inks = []
    for section in moved:
        tissue = section.truth.scene.outline & (section.truth.scene.empty == 0)
        inks.append(section.arrays.image[tissue].mean(axis=0))
    assert np.abs(inks[0] - inks[1]).max() > 5


def test_draws_of_a_block_change_slowly_with_even_spread() -> None:
    def at(z_um: float) -> np.ndarray:
        return SliceDraws((1, 2), z_um, 100.0).normal(size=20_000)

    along = [np.corrcoef(at(30.0), at(30.0 + d))[0, 1] for d in (5.0, 30.0, 300.0)]
    assert along[0] > 0.99 > along[1] > 0.8
    assert abs(along[2]) < 0.05
    assert [at(z).std() for z in (0.0, 50.0, 130.0)] == pytest.approx([1, 1, 1], abs=0.02)
    u = SliceDraws((1, 2), 50.0, 100.0).uniform(2.0, 4.0, size=20_000)
    assert (u.min() > 2, u.max() < 4, u.std()) == (True, True, pytest.approx(2 / 12**0.5, abs=0.02))


def test_one_or_two_numbers_belong_to_the_whole_block() -> None:
    def at(z_um: float) -> tuple[float, list[float]]:
        draws = SliceDraws((4,), z_um)
        return draws.uniform(), draws.normal(size=2).tolist()

    assert at(0.0) == at(377.0)


@pytest.mark.slow
def test_a_written_block_names_its_depths_and_its_maps(tmp_path: Path) -> None:
    plan = replace(
        MOVED, sections_per_patient=2, mpp=None, serial=replace(MOVED.serial, z_um=(0.0, 12.0))
    )
    manifest = write_cohort(plan, tmp_path)
    assert pd.read_csv(manifest).x_z_um.tolist() == [0.0, 12.0]
    assert read_frames(tmp_path / "truth" / "P1_frames.json") == plan.frames(0)
    assert len(read_sections(manifest, None, Silent())) == 2


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"z_um": ()}, "depths of 0 um or more"),
        ({"z_um": (-1.0,)}, "depths of 0 um or more"),
        ({"stretch": 0.06}, "stretch of 0 to 0.05, found 0.06"),
        ({"mirror_chance": 2.0}, "chance of 0 to 1, found 2.0"),
        ({"turn_degrees": -1.0}, "a turn and a shift of 0 or more"),
    ],
)
def test_moves_that_cannot_be_are_refused(how: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Serial(**({"z_um": (0.0,)} | how))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 3 depths, one a section"):
        replace(STILL, sections_per_patient=3)
