"""Contracts of conversion: the same section through two formats is the same section."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hespotex.datasets import make_cohort
from hespotex.errors import RunError
from hespotex.export.convert import build_store, manifest_row, refuse_input, write_section
from hespotex.features.patches import PatchPlan, crop_patches
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import ManifestRow, Section, read_section
from hespotex.slide import open_slide

PLAN = PatchPlan((77.2, 154.5), 64)


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Section:
    folder = tmp_path_factory.mktemp("cohort")
    path = make_cohort(folder, n_patients=1, sections_per_patient=1, n_genes=60, side_um=1500.0)
    row = read_manifest(path).rows[0]
    labels = folder / "labels.tsv"
    names = read_section(row).barcodes
    pd.DataFrame({"spot": names, "region": ["inner"] * len(names)}).to_csv(
        labels, sep="\t", index=False
    )
    manifest = pd.read_csv(path)
    manifest["labels"] = "labels.tsv"
    manifest.to_csv(path, index=False)
    return read_section(read_manifest(path).rows[0])


def through(section: Section, path: Path) -> Section:
    write_section(path, section)
    row = manifest_row(path, section)
    numbers = {k: float(row[k]) for k in ("mpp", "spot_pitch_um", "spot_diameter_um")}
    return read_section(
        ManifestRow(
            row["section_id"],
            row["patient_id"],
            Path(row["slide"]),
            Path(row["expression"]),
            row["format"],
            **numbers,  # type: ignore[arg-type]
        )
    )


def patches(section: Section, n: int = 12) -> np.ndarray:
    assert section.slide is not None
    found = {}
    with open_slide(section.slide, mpp=section.geometry.mpp) as slide:
        for indices, batch in crop_patches(slide, section.xy_px0[:n], section.geometry.mpp, PLAN):
            found.update(zip(indices.tolist(), batch, strict=True))
    return np.stack([found[i] for i in range(n)])


def assert_same(before: Section, after: Section) -> None:
    assert before.counts is not None
    assert (before.counts != after.counts).nnz == 0
    assert before.genes is not None
    assert (before.genes == after.genes).all()
    assert (before.barcodes == after.barcodes).all()
    assert np.array_equal(before.xy_px0, after.xy_px0)
    assert before.geometry.mpp == after.geometry.mpp
    assert np.array_equal(patches(before), patches(after))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.h5ad", "s.zarr"])
@pytest.mark.filterwarnings("ignore")  # of the libraries' own imports
def test_counts_and_patches_are_identical_through_two_formats(
    legacy: Section, tmp_path: Path, name: str
) -> None:
    after = through(legacy, tmp_path / name)
    assert_same(legacy, after)
    assert after.obs is not None
    assert set(after.obs["region"].astype(str)) == {"inner"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.h5ad", "s.zarr"])
@pytest.mark.filterwarnings("ignore")
def test_a_real_section_is_identical_through_two_formats(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    row = read_manifest(shared_data / "mob" / "sections.csv", ["MOB9"]).rows[0]
    before = read_section(row)
    assert_same(before, through(before, tmp_path / name))


@pytest.mark.slow
def test_the_h5ad_opens_as_scanpy_expects(legacy: Section, tmp_path: Path) -> None:
    import anndata

    write_section(tmp_path / "s.h5ad", legacy)
    table = anndata.read_h5ad(tmp_path / "s.h5ad")
    assert legacy.counts is not None
    assert float(table.X.sum()) == float(legacy.counts.sum())
    assert np.array_equal(table.obsm["spatial"], legacy.xy_px0)
    library = table.uns["spatial"][legacy.section_id]
    height, width = library["images"]["hires"].shape[:2]
    hires = table.obsm["spatial"] * library["scalefactors"]["tissue_hires_scalef"]
    assert (hires < [width, height]).all()
    geometry = legacy.geometry
    diameter = library["scalefactors"]["spot_diameter_fullres"]
    assert diameter * geometry.mpp == pytest.approx(geometry.spot_diameter_um)
    assert legacy.array_xy is not None
    assert np.array_equal(table.obs[["array_col", "array_row"]], legacy.array_xy)
    assert str(tmp_path) not in str(table.uns)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_store_opens_in_spatialdata(legacy: Section, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    write_section(path, legacy)
    write_section(path, legacy)  # an older store is replaced
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        store = spatialdata.read_zarr(path)
    shapes, table = store.shapes["spots"], store.tables["counts"]
    radius = legacy.geometry.spot_diameter_um / legacy.geometry.mpp / 2
    assert shapes["radius"].to_numpy() == pytest.approx(radius)
    joined = spatialdata.match_table_to_element(store, "spots", "counts")
    assert joined.obs_names.tolist() == legacy.barcodes.tolist()
    assert table.var_names.tolist() == list(legacy.genes)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_label_named_like_a_key_of_the_store_is_kept(legacy: Section) -> None:
    table = build_store(legacy).tables["counts"]
    assert set(table.obs["region"].astype(str)) == {"inner"}
    assert table.uns["spatialdata_attrs"]["region_key"] != "region"


@pytest.mark.parametrize("column", ["expression", "slide", "spots", "labels", "features"])
def test_an_input_is_never_written_over(column: str, tmp_path: Path) -> None:
    own = tmp_path / "own.h5ad"
    own.write_text("mine")
    row = ManifestRow("S", "P", tmp_path / "slide.png", tmp_path / "counts.h5ad", "h5ad")
    with pytest.raises(
        RunError, match=r"another place than the input .*own\.h5ad with --out, found"
    ):
        refuse_input(tmp_path / "sub" / ".." / "own.h5ad", replace(row, **{column: own}))
    refuse_input(tmp_path / "other.h5ad", replace(row, **{column: own}))
