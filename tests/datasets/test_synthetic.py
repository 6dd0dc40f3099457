"""The painted cohort: pure in its seed, H&E-like, with expression that follows the picture."""

from __future__ import annotations

import gzip
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hespotex.datasets import TISSUES, SectionArrays, make_cohort, make_section_arrays
from hespotex.datasets.expression import smooth_maps
from hespotex.datasets.tissue import TUMOUR
from hespotex.progress import Silent
from hespotex.stages import read_sections

SMALL = {"side_um": 1000.0, "n_genes": 100}


@pytest.fixture(scope="module")
def square() -> SectionArrays:
    return make_section_arrays(seed=3, section=0, **SMALL)


@pytest.fixture(scope="module")
def hexagonal() -> SectionArrays:
    return make_section_arrays(seed=3, section=1, **SMALL)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    return make_cohort(folder, seed=3, n_patients=2, sections_per_patient=2, **SMALL)


@pytest.mark.slow
def test_same_seed_gives_the_same_arrays_bit_for_bit(square: SectionArrays) -> None:
    again = make_section_arrays(seed=3, section=0, **SMALL)
    assert again.image.tobytes() == square.image.tobytes()
    assert again.counts.tobytes() == square.counts.tobytes()
    assert again.xy_px0.tobytes() == square.xy_px0.tobytes()


@pytest.mark.slow
def test_another_seed_or_patient_gives_another_section(square: SectionArrays) -> None:
    for other in ({"seed": 4}, {"seed": 3, "patient": 1}):
        arrays = make_section_arrays(section=0, **other, **SMALL)
        assert arrays.image.shape == square.image.shape
        assert (arrays.image != square.image).any(axis=2).mean() > 0.5


def test_genes_and_programmes_are_shared_by_the_whole_cohort(
    square: SectionArrays, hexagonal: SectionArrays
) -> None:
    np.testing.assert_array_equal(square.truth.genes, hexagonal.truth.genes)
    np.testing.assert_array_equal(square.truth.profile, hexagonal.truth.profile)
    assert len(set(square.truth.genes.tolist())) == 100
    assert set(square.truth.programme) == {*TISSUES, "smooth", "flat", "rare", "patient"}


def test_picture_has_white_background_pink_stroma_and_purple_nuclei(square: SectionArrays) -> None:
    corner = square.image[:20, :20].reshape(-1, 3)
    assert (corner.mean(axis=0) > 225).all()
    pixels = square.image.reshape(-1, 3).astype(int)
    red, green, blue = pixels.T
    pink = (red > blue + 5) & (red > green + 40) & (red > 150)
    purple = (blue > red + 15) & (red < 130)
    assert pink.mean() > 0.03
    assert purple.mean() > 0.03


def test_square_lattice_has_four_neighbours_at_one_pitch(square: SectionArrays) -> None:
    assert _neighbours_at_one_pitch(square) == 4


def test_hexagonal_lattice_has_six_neighbours_at_one_pitch(hexagonal: SectionArrays) -> None:
    assert _neighbours_at_one_pitch(hexagonal) == 6


def _neighbours_at_one_pitch(arrays: SectionArrays) -> int:
    xy_um = arrays.xy_px0 * arrays.mpp
    distance = np.linalg.norm(xy_um[:, None] - xy_um[None], axis=-1)
    near = np.abs(distance - arrays.spot_pitch_um) < 1e-6
    return int(near.sum(axis=1).max())


def test_spots_lie_on_tissue_and_inside_the_image(hexagonal: SectionArrays) -> None:
    height, width = hexagonal.image.shape[:2]
    radius = hexagonal.spot_diameter_um / hexagonal.mpp / 2
    assert (hexagonal.xy_px0 > radius).all()
    assert (hexagonal.xy_px0 < np.array([width, height]) - radius).all()
    assert (hexagonal.area.sum(axis=1) >= 0.4).all()


def test_nuclei_under_a_spot_are_the_dark_pixels_under_it(square: SectionArrays) -> None:
    """The order of x and y, and the scale, agree between the picture and the truth."""
    radius = square.spot_diameter_um / square.mpp / 2
    y, x = np.mgrid[: square.image.shape[0], : square.image.shape[1]]

    def correlation(image: np.ndarray) -> float:
        dark = image[..., 0] < 120
        counted = [
            dark[(x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 <= radius**2].mean()
            for cx, cy in square.xy_px0
        ]
        return float(np.corrcoef(counted, square.nuclei.sum(axis=1))[0, 1])

    assert correlation(square.image) > 0.7
    assert correlation(square.image.transpose(1, 0, 2)) < 0.4


def test_programme_genes_follow_their_tissue_and_smooth_genes_do_not(
    square: SectionArrays,
) -> None:
    measured = square.counts / square.counts.sum(axis=1, keepdims=True)
    tumour = square.nuclei[:, TUMOUR] / np.maximum(square.nuclei.sum(axis=1), 1)
    of = {
        name: np.corrcoef(measured[:, square.truth.programme == name].sum(axis=1), tumour)[0, 1]
        for name in ("tumour", "smooth", "stroma")
    }
    assert of["tumour"] > 0.8
    assert abs(of["smooth"]) < 0.5
    assert of["stroma"] < 0


def test_shares_sum_to_one_and_counts_reach_the_depth(square: SectionArrays) -> None:
    np.testing.assert_allclose(square.share.sum(axis=1), 1.0)
    assert square.counts.min() == 0
    ratio = square.counts.sum() / square.depth.sum()
    assert ratio == pytest.approx(1.0, abs=0.05)


def test_patient_genes_are_silent_in_every_second_patient() -> None:
    odd = make_section_arrays(seed=3, patient=1, **SMALL)
    silent = odd.truth.programme == "patient"
    assert odd.counts[:, silent].sum() == 0
    assert odd.counts[:, ~silent].sum() > 0


def test_smooth_maps_are_smooth_with_unit_variance() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 3000, size=(400, 2))
    maps = smooth_maps(rng, np.concatenate([xy, xy + 15.0]), 300, 300.0)
    assert maps.std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(maps[:400] - maps[400:]).mean() < 0.1


@pytest.mark.slow
def test_manifest_names_files_that_hold_the_arrays(cohort: Path) -> None:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    assert table.section_id.tolist() == ["P1S1", "P1S2", "P2S1", "P2S2"]
    assert table.format.tolist() == ["legacy_st", "h5ad"] * 2
    for row, arrays in zip(
        table.itertuples(),
        (make_section_arrays(seed=3, section=k, **SMALL) for k in (0, 1)),
        strict=False,
    ):
        with Image.open(cohort.parent / row.slide) as picture:
            image = np.asarray(picture)
        assert image.shape == arrays.image.shape
        if row.format == "h5ad":
            np.testing.assert_array_equal(image, arrays.image)
            written = anndata.read_h5ad(cohort.parent / row.expression)
            np.testing.assert_array_equal(written.X.toarray(), arrays.counts)
            np.testing.assert_array_equal(written.obsm["spatial"], arrays.xy_px0)
        else:
            with gzip.open(cohort.parent / row.expression, "rt") as handle:
                counts = pd.read_csv(handle, sep="\t", index_col=0)
            np.testing.assert_array_equal(counts.to_numpy(), arrays.counts)
            spots = pd.read_csv(cohort.parent / row.spots, sep="\t")
            assert [f"{x}x{y}" for x, y in zip(spots.x, spots.y, strict=True)] == list(counts.index)
            np.testing.assert_allclose(spots[["pixel_x", "pixel_y"]], arrays.xy_px0, atol=1e-3)


@pytest.mark.slow
def test_truth_says_which_genes_the_image_can_tell(cohort: Path) -> None:
    truth = pd.read_csv(cohort.parent / "truth.csv")
    assert len(truth) == 100
    assert set(truth.programme[truth.predictable]) == set(TISSUES)
    tissue = pd.read_csv(cohort.parent / "truth" / "P1S2_tissue.csv")
    assert set(tissue.columns) == {
        "spot",
        *(f"{k}_{t}" for k in ("area", "nuclei") for t in TISSUES),
    }


@pytest.mark.slow
def test_cohort_is_written_the_same_twice(cohort: Path, tmp_path: Path) -> None:
    again = make_cohort(tmp_path, seed=3, n_patients=1, sections_per_patient=2, **SMALL)
    for name in ("images/P1S1.jpg", "images/P1S2.tif", "counts/P1S1.tsv.gz", "truth.csv"):
        assert (again.parent / name).read_bytes() == (cohort.parent / name).read_bytes(), name


@pytest.mark.slow
def test_the_cohort_of_the_demo_passes_the_preflight(tmp_path: Path) -> None:
    manifest = make_cohort(tmp_path, seed=0)
    assert len(read_sections(manifest, None, Silent())) == 6
