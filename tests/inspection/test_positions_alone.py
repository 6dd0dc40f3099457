"""Positions alone have a format: inspected and predicted as they are, refused by every fit before any work."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from helpers.feature_cohort import SMALL, toy_items, write_cohort
from helpers.inspected_sections import MPP, paint, save, shape, spots_on, write_manifest
from helpers.made_sections import KNOWN, h5ad, legacy_st, positions, space_ranger
from hespotex import pipeline
from hespotex.errors import HESpotExError, ManifestError, SpotTableError
from hespotex.inspection import inspect_input
from hespotex.predicting import SlideOptions
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Four measured sections, and in positions.csv the first one's positions alone."""
    items = toy_items()
    manifest = write_cohort(tmp_path, items)
    xy = items[0].section.xy_px0
    pd.DataFrame({"barcode": items[0].section.barcodes, "x": xy[:, 0], "y": xy[:, 1]}).to_csv(
        tmp_path / "xy.csv", index=False
    )
    rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    rows.loc[0, ["expression", "format"]] = ["", "positions"]
    rows.assign(spots=["xy.csv", "", "", ""]).to_csv(tmp_path / "positions.csv", index=False)
    return manifest


def test_positions_of_every_kind_are_read(tmp_path: Path) -> None:
    legacy, visium = legacy_st(tmp_path / "l", KNOWN), space_ranger(tmp_path / "v", KNOWN)
    table = tmp_path / "xy.tsv"
    pd.DataFrame(KNOWN.xy_px0, columns=["x", "y"]).to_csv(table, sep="\t", index=False)
    assert visium.expression is not None
    for path in (
        table,
        legacy.spots,
        h5ad(tmp_path / "h", KNOWN).expression,
        visium.expression / "spatial" / "tissue_positions.csv",
    ):
        found = read_spots("positions", SpotSource(spots=path))
        np.testing.assert_allclose(found.xy_px0, KNOWN.xy_px0)
        assert found.counts is None
    with pytest.raises(SpotTableError, match=r"found counts at .*; set the format that wrote them"):
        read_spots("positions", SpotSource(spots=table, expression=table))
    with pytest.raises(SpotTableError, match="a table with x and y in the manifest's column spots"):
        read_spots("positions", SpotSource())


@pytest.mark.slow
def test_inspect_names_positions_alone(tmp_path: Path) -> None:
    save(paint(shape()), tmp_path / "s.png")
    xy = spots_on(shape())
    pd.DataFrame(xy, columns=["x", "y"]).to_csv(tmp_path / "xy.csv", index=False)
    row = {"section_id": "S", "patient_id": "P", "slide": "s.png", "spots": "xy.csv", "format": "positions",
           "mpp": str(MPP), "spot_diameter_um": "55"}  # fmt: skip
    inspection = inspect_input(write_manifest(tmp_path, [row]))
    assert inspection.verdict == "green"
    assert "no expression: to predict, not to train" in [f.found for f in inspection.findings]
    alone = inspect_input(tmp_path / "xy.csv", slide=tmp_path / "s.png")
    assert alone.kind == "spots"
    assert "positions alone (format positions in a manifest)" in [f.found for f in alone.together]
    positions(KNOWN).to_csv(tmp_path / "tissue_positions.csv", index=False)
    assert inspect_input(tmp_path / "tissue_positions.csv").kind == "spots"


@pytest.mark.slow
def test_predict_takes_them_from_a_manifest(cohort: Path, tmp_path: Path) -> None:
    model = pipeline.train(cohort, tmp_path / "m.hespotex", config=SMALL, validate=False)
    untested = SlideOptions(untested=True)
    for manifest, out in ((tmp_path / "positions.csv", "p"), (cohort, "q")):
        pipeline.predict(model, manifest, tmp_path / out, sections=["A1"], options=untested)
    alone, measured = (ad.read_h5ad(tmp_path / run / "predictions" / "A1.h5ad") for run in "pq")
    np.testing.assert_array_equal(alone.X, measured.X)
    assert alone.obs_names.tolist() == measured.obs_names.tolist()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("spots", "", r"column spots: expected a table with x and y \(positions have no counts\)"),
        ("expression", "xy.csv", "column expression: applies to legacy_st, .* for positions"),
    ],
)
def test_a_manifest_says_what_such_a_row_needs(
    cohort: Path, tmp_path: Path, column: str, value: str, message: str
) -> None:
    rows = pd.read_csv(tmp_path / "positions.csv", dtype=str, keep_default_na=False)
    rows.loc[0, column] = value
    rows.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "bad.csv")


def wrong(cohort: Path, kind: str) -> Path:
    """The manifest with one fault."""
    folder = cohort.parent
    if kind == "positions alone":
        return folder / "positions.csv"
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    if kind == "no genes":
        table = ad.read_h5ad(folder / "A1.h5ad")[:, :0]
        table.write_h5ad(folder / "no.h5ad")
        rows.loc[0, "expression"] = "no.h5ad"
    elif kind == "the same section twice":
        rows.loc[1, "expression"] = rows.loc[0, "expression"]
    elif kind == "another scale":
        rows.loc[1, "mpp"] = "1.5"
    else:
        table = ad.read_h5ad(folder / "A1.h5ad")
        table.var_names = [f"X{i}" for i in range(table.n_vars)]
        table.write_h5ad(folder / "other.h5ad")
        rows.loc[0, "expression"] = "other.h5ad"
    rows.to_csv(folder / "wrong.csv", index=False)
    return folder / "wrong.csv"


@pytest.mark.parametrize(
    "kind",
    ["positions alone", "no genes", "the same section twice", "another scale", "other genes"],
)
def test_every_fit_refuses_the_same_before_any_work(
    cohort: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr(pipeline, "encode", encode)
    manifest, out = wrong(cohort, kind), tmp_path / "m.hespotex"
    said = []
    for run in (
        partial(pipeline.train, manifest, out),
        partial(pipeline.train, manifest, out, validate=False),
        partial(pipeline.cross_validate, manifest, tmp_path / "cv"),
    ):
        with pytest.raises(HESpotExError) as raised:
            run(config=SMALL)
        said.append(str(raised.value))
    assert said == [said[0]] * 3
    if kind in {"positions alone", "no genes"}:
        assert "section A1: expected counts to train on, found positions alone; give" in said[0]
    assert read_section(read_manifest(cohort).rows[0]).measured
