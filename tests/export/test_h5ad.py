"""predictions/*.h5ad: every field comes back, and other tools draw the file as it is."""

from __future__ import annotations

import getpass
import warnings
from dataclasses import replace
from pathlib import Path

import anndata
import matplotlib as mpl
import numpy as np
import pytest

from helpers.toy_prediction import (
    GENES,
    MARKED,
    MPP,
    toy_counts,
    toy_extras,
    toy_prediction,
    toy_section,
    toy_thumbnail,
)
from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.claims import untested
from hespotex.export.h5ad import read_prediction, write_prediction
from hespotex.genes.panel import log1p_cpm

PROVENANCE = {
    "model_id": "abc",
    "encoder": {"name": "efficientnet-lite0", "mean": (0.5, 0.5, 0.5), "mpp": None},
    "training_sections": ("B1", "B2"),
    "model_file": Path("/home/somebody/secret/lab.hespotex"),
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "predictions" / "S1.h5ad"
    _write(path)
    return path


def _write(path: Path, **changes: object) -> None:
    section = toy_section()
    values = {
        "section": section,
        "genes": GENES,
        "prediction": toy_prediction(section),
        "counts": toy_counts(section),
        "thumbnail": toy_thumbnail(section),
        "provenance": PROVENANCE,
        "extras": toy_extras(section),
    }
    write_prediction(path, **(values | changes))


def test_every_field_comes_back(written: Path) -> None:
    section = toy_section()
    prediction, counts, extras = toy_prediction(section), toy_counts(section), toy_extras(section)
    stored = read_prediction(written)
    assert (stored.section_id, stored.patient_id) == ("S1", "P-7")
    assert (stored.mpp, stored.spot_diameter_um) == (MPP, 100.0)
    assert tuple(stored.genes) == GENES
    np.testing.assert_array_equal(stored.barcodes, section.barcodes)
    np.testing.assert_array_equal(stored.xy_px0, section.xy_px0)
    np.testing.assert_array_equal(stored.log1p, prediction.log1p)
    np.testing.assert_array_equal(stored.composition, prediction.composition)
    np.testing.assert_array_equal(stored.depth, prediction.depth)
    np.testing.assert_array_equal(stored.measured_counts.toarray(), counts.counts.toarray())
    np.testing.assert_array_equal(stored.measured_depth, counts.depth)
    np.testing.assert_array_equal(stored.thumbnail.image, toy_thumbnail(section).image)
    assert stored.thumbnail.px0_per_px == toy_thumbnail(section).px0_per_px
    for name in ("lower", "upper", "half_width", "ood_score", "ood"):
        np.testing.assert_array_equal(getattr(stored.extras, name), getattr(extras, name))
    assert stored.extras.grades == extras.grades


def test_measured_is_log1p_cpm_and_nan_where_the_gene_was_not_measured(written: Path) -> None:
    section = toy_section()
    measured = read_prediction(written).measured
    expected = log1p_cpm(section.counts)
    seen = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(measured[:, seen], expected[:, seen])
    assert np.isnan(measured[:, 3]).all()


def test_names_and_units_are_those_of_the_format(written: Path) -> None:
    table = anndata.read_h5ad(written)
    assert set(table.layers) == {"composition", "lower", "upper", "measured", "measured_counts"}
    assert {"predicted_depth", "measured_depth", "ood_score", "ood", "array_x", "array_y", "array_row", "array_col",
            "section_id", "patient_id", "region", "x_batch_run"} == set(table.obs)  # fmt: skip
    claimed = set(untested(0, "").columns())
    widths = {f"half_width_{size}" for size in (1, 4, 9, 25)}
    assert set(table.var) == {"measured", *widths, *claimed}
    assert table.uns["hespotex"]["half_width_level"] == 0.9
    units = table.uns["hespotex"]["units"]
    assert units["X"] == keys.UNIT_LOG1P
    assert units["composition"] == keys.UNIT_COMPOSITION
    assert set(table.layers) | widths <= set(units)
    assert table.uns["hespotex"]["encoder"]["name"] == "efficientnet-lite0"
    assert "mpp" not in table.uns["hespotex"]["encoder"]
    assert table.uns["hespotex"]["dropped"] == {"spots in the spot file without counts": 1}
    column, row = toy_section().array_xy.T
    for name, values in {
        "array_col": column,
        "array_x": column,
        "array_row": row,
        "array_y": row,
    }.items():
        np.testing.assert_array_equal(table.obs[name], values)
    assert table.obs["region"].tolist()[0] == "tumour"
    assert table.obs["region"].isna().sum() == toy_section().n_spots // 2


def test_holds_no_path_and_no_user_name(written: Path) -> None:
    content = written.read_bytes()
    assert b"/home/somebody" not in content
    assert str(written.parent).encode() not in content
    record = str(anndata.read_h5ad(written).uns["hespotex"])
    assert "lab.hespotex" in record
    assert getpass.getuser() not in record


def test_without_expression_there_is_no_measured_value(tmp_path: Path) -> None:
    path = tmp_path / "S1.h5ad"
    _write(path, counts=None, extras=None, thumbnail=None)
    table = anndata.read_h5ad(path)
    assert set(table.layers) == {"composition"}
    assert not [name for name in table.var if name.startswith("half_width")]
    assert "half_width_level" not in table.uns["hespotex"]
    assert keys.MEASURED_DEPTH not in table.obs
    stored = read_prediction(path)
    assert stored.extras.half_width is None
    assert stored.measured is None
    assert stored.measured_counts is None
    assert stored.thumbnail is None
    assert stored.extras.grades is None


def test_writing_fewer_genes_leaves_the_values_of_the_whole_panel(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.h5ad", tmp_path / "part.h5ad"
    _write(whole)
    _write(part, columns=np.array([4, 0]))
    a, b = read_prediction(whole), read_prediction(part)
    assert tuple(b.genes) == ("TUM-01", "ACTB")
    np.testing.assert_array_equal(b.measured, a.measured[:, [4, 0]])
    np.testing.assert_array_equal(b.log1p, a.log1p[:, [4, 0]])
    np.testing.assert_array_equal(b.measured_depth, a.measured_depth)
    assert b.extras.grades == ["D", "A"]


def test_equal_predictions_give_equal_files(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.h5ad"
    _write(again)
    assert again.read_bytes() == written.read_bytes()


def test_wrong_shape_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    section = toy_section()
    short = replace(toy_prediction(section), composition=np.zeros((3, 2), np.float32))
    with pytest.raises(
        ValueError, match=r"S1: expected composition of shape \(30, 6\), found \(3, 2\)"
    ):
        _write(tmp_path / "S1.h5ad", prediction=short)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["truncated", "foreign", "missing"])
def test_a_file_that_is_no_prediction_is_named(written: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.h5ad"
    if kind == "truncated":
        path.write_bytes(written.read_bytes()[:4000])
    elif kind == "foreign":
        anndata.AnnData(np.zeros((2, 2), np.float32)).write_h5ad(path)
    with pytest.raises(RunError, match=rf"expected a prediction of hespotex in .*{kind}\.h5ad"):
        read_prediction(path)


def test_the_mark_in_the_picture_lies_under_its_spot(written: Path) -> None:
    """x is the column and y the row, at the scale that is stored."""
    table = anndata.read_h5ad(written)
    library = table.uns["spatial"]["S1"]
    scale = library["scalefactors"]["tissue_hires_scalef"]
    x, y = (table.obsm["spatial"][MARKED] * scale).astype(int)
    image = library["images"]["hires"]
    assert image[y, x].tolist() == [60, 20, 90]
    assert image[x, y].tolist() == [255, 255, 255]
    assert library["scalefactors"]["spot_diameter_fullres"] == 100.0 / MPP


# Both libraries warn of their own futures while they are imported and drawn; not ours to cure.
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("tool", ["scanpy", pytest.param("squidpy", marks=pytest.mark.slow)])
def test_other_tools_draw_the_file_as_it_is(written: Path, tool: str) -> None:
    mpl.use("agg")
    import matplotlib.pyplot as plt

    table = anndata.read_h5ad(written)
    try:
        if tool == "scanpy":
            import scanpy

            (axes,) = scanpy.pl.spatial(table, color=["TUM-01"], show=False)
        else:
            with warnings.catch_warnings():
                # Numba says on import which of its caches it cannot use on this machine.
                warnings.simplefilter("ignore")
                import squidpy

            squidpy.pl.spatial_scatter(table, color=["TUM-01"])
            axes = plt.gcf().axes[0]
        (picture,) = axes.images
        np.testing.assert_array_equal(
            np.asarray(picture.get_array()).shape, toy_thumbnail(toy_section()).image.shape
        )
        (spots,) = (c for c in axes.collections if len(c.get_array()) == toy_section().n_spots)
        # Scanpy draws the highest values last.
        drawn, stored = spots.get_array(), toy_prediction(toy_section()).log1p[:, 4]
        np.testing.assert_allclose(np.sort(drawn), np.sort(stored))
    finally:
        plt.close("all")
