"""Columns of spots of any name and kind are carried into every output, or named before any work."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from helpers.feature_cohort import toy_items, write_cohort
from helpers.made_sections import KNOWN
from helpers.made_sections import h5ad as write_h5ad
from helpers.made_sections import spatialdata as write_store
from hespotex.cli.main import app
from hespotex.export.convert import write_section
from hespotex.export.h5ad import write_prediction
from hespotex.models.types import Prediction
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import ManifestRow, Section, read_section

N = len(KNOWN.barcodes)


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "250"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout + result.stderr


@pytest.fixture
def row(tmp_path: Path) -> ManifestRow:
    """An h5ad with columns that differ by case, signs and from ours."""
    write_h5ad(tmp_path, KNOWN)
    table = ad.read_h5ad(tmp_path / "section.h5ad")
    table.obs["Cluster"], table.obs["cluster"] = "kept", "kept too"
    table.obs["B cells"], table.obs["B_cells"] = 0.25, 0.75
    table.obs["predicted_depth"], table.obs["patient_id"] = 5.0, "P"
    table.obs["Größe (µm²)"] = np.arange(N)
    table.write_h5ad(tmp_path / "S.h5ad")
    return ManifestRow("S", "P", None, tmp_path / "S.h5ad", "h5ad", mpp=0.5)


def foreign(path: Path, *names: str) -> None:
    """Give elements an encoding that no anndata knows."""
    with h5py.File(path, "r+") as file:
        for name in names:
            file[name].attrs["encoding-type"] = "of-the-future"


RENAMED = "columns renamed (kept): cluster is now cluster_2, B cells is now B_cells_2, predicted_depth is now "


def test_columns_that_collide_are_kept_apart_and_said(row: ManifestRow) -> None:
    section = read_section(row)
    assert section.obs is not None
    first = section.obs.iloc[0]
    assert (first["Cluster"], first["cluster_2"]) == ("kept", "kept too")
    assert (first["B_cells"], first["B_cells_2"]) == (0.75, 0.25)
    assert first["predicted_depth_as_given"] == 5.0
    assert "patient_id" not in section.obs  # as the manifest says
    assert [reason for reason in section.dropped if reason.startswith(RENAMED)] != []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries' own imports
def test_they_are_in_every_file_and_come_back(row: ManifestRow, tmp_path: Path) -> None:
    import spatialdata

    section = read_section(row)
    zeros = np.zeros((N, len(KNOWN.genes)), np.float32)
    prediction = Prediction(zeros, zeros, np.ones(N, np.float32))
    write_prediction(tmp_path / "p.h5ad", section=section, genes=KNOWN.genes, prediction=prediction)
    write_section(tmp_path / "c.h5ad", section)
    write_section(tmp_path / "c.zarr", section)
    store = spatialdata.read_zarr(tmp_path / "c.zarr")
    for obs in (
        ad.read_h5ad(tmp_path / "p.h5ad").obs,
        ad.read_h5ad(tmp_path / "c.h5ad").obs,
        store.tables["counts"].obs,
    ):
        assert obs["B_cells"].tolist() == [0.75] * N
        assert obs["B_cells_2"].tolist() == [0.25] * N
        assert obs["cluster_2"].astype(str).tolist() == ["kept too"] * N
        assert obs["Größe__µm²_"].tolist() == list(range(N))
    again = read_section(ManifestRow("S", "P", None, tmp_path / "c.h5ad", "h5ad", mpp=0.5))
    assert again.obs is not None
    assert again.obs["cluster_2"].tolist() == ["kept too"] * N
    assert not any("renamed" in reason for reason in again.dropped)


def test_a_column_of_an_unknown_encoding_is_left_out_and_named(row: ManifestRow) -> None:
    assert row.expression is not None
    foreign(row.expression, "obs/Cluster")
    section = read_section(row)
    assert section.obs is not None
    assert "Cluster" not in section.obs
    assert section.obs["cluster"].tolist() == ["kept too"] * N
    assert section.dropped["columns of spots that anndata cannot read: Cluster"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_so_it_is_in_a_spatialdata_store(tmp_path: Path) -> None:
    import zarr

    source = write_store(tmp_path, KNOWN)
    store = tmp_path / "store.zarr"
    group = zarr.open_group(store / "tables" / "table" / "obs", mode="r+")
    group["array_col"].attrs["encoding-type"] = "of-the-future"
    zarr.consolidate_metadata(store)
    row = ManifestRow("S", "P", None, source.expression, "spatialdata", mpp=0.5)
    section = read_section(row)
    assert section.dropped == {"columns of spots that anndata cannot read: array_col": 1}
    assert section.counts is not None
    assert section.counts.sum() == KNOWN.counts.sum()


@pytest.mark.parametrize(
    "element", ["uns/spatial", "obs/array_row", "X", "var", "obsm/spatial", "obs"]
)
def test_inspect_survives_any_unknown_element(tmp_path: Path, element: str) -> None:
    write_h5ad(tmp_path, KNOWN)
    table = ad.read_h5ad(tmp_path / "section.h5ad")
    table.uns["spatial"] = {"lib": {"scalefactors": {"tissue_hires_scalef": 0.1}}}
    table.write_h5ad(tmp_path / "S.h5ad")
    foreign(tmp_path / "S.h5ad", element)
    code, shown = invoke("inspect", tmp_path / "S.h5ad")
    assert code == 2  # nothing tells the scale, or the element is needed
    assert "Traceback" not in shown
    assert "wrong" in shown


def labelled(folder: Path) -> Path:
    items = toy_items()
    for item in items:
        frame = pd.DataFrame({"spot": item.section.barcodes, "_index": "x", "a/b": "y"})
        frame.to_csv(folder / f"{item.section.section_id}.tsv", sep="\t", index=False)
    return write_cohort(folder, items, labels=[f"{i.section.section_id}.tsv" for i in items])


def test_reserved_names_of_labels_are_renamed_before_any_work(tmp_path: Path) -> None:
    manifest = labelled(tmp_path)
    code, shown = invoke("inspect", manifest)
    assert code == 0
    assert "2 columns renamed (kept): _index is now index_as_given, a/b is now a_b" in shown
    section: Section = read_section(read_manifest(manifest).rows[0])
    assert section.obs is not None
    assert list(section.obs) == ["index_as_given", "a_b"]
    write_section(tmp_path / "c.h5ad", section)
    assert ad.read_h5ad(tmp_path / "c.h5ad").obs["a_b"].tolist() == ["y"] * section.n_spots
