"""Every refusal of a table of spots says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from helpers.made_sections import KNOWN, positions, space_ranger
from hespotex.errors import SpotTableError
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots


def semicolons(spatial: Path) -> None:
    positions(KNOWN).to_csv(spatial / "tissue_positions.csv", sep=";", index=False)


def empty_cell(spatial: Path) -> None:
    table = positions(KNOWN).astype({"pxl_row_in_fullres": object})
    table.loc[0, "pxl_row_in_fullres"] = None
    table.to_csv(spatial / "tissue_positions.csv", index=False)


def factors(content: object) -> Callable[[Path], None]:
    def write(spatial: Path) -> None:
        (spatial / "scalefactors_json.json").write_text(json.dumps(content))

    return write


SPACE_RANGER = {
    "semicolons": (semicolons, r"found 1 \('barcode;in_tissue;.*'\); save the table with these columns"),
    "an empty cell": (empty_cell, r"found '' in row 2 \(1 such cells\); write a number into each, or"),
    "factors as a list": (factors([]), "found list; get the file as it was written, or leave it out"),
    "factors as text": (factors({"spot_diameter_fullres": "35"}), "found '35'; correct it there, or"),
    "factors that are NaN": (factors({"spot_diameter_fullres": np.nan}), "found nan; correct it there"),
    "negative factors": (factors({"spot_diameter_fullres": -3}), "found -3; correct it there, or"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPACE_RANGER)
def test_faults_in_files_of_space_ranger_say_what_to_do(kind: str, tmp_path: Path) -> None:
    spoil, message = SPACE_RANGER[kind]
    source = space_ranger(tmp_path, KNOWN)
    for path in (tmp_path / "spatial").glob("tissue_positions*"):
        if spoil in (semicolons, empty_cell):
            path.unlink()
    spoil(tmp_path / "spatial")
    with pytest.raises(SpotTableError, match=message):
        read_spots("space_ranger", source)


def table(**uns: object) -> ad.AnnData:
    made = ad.AnnData(np.ones((4, 3), np.float32) + np.arange(3, dtype=np.float32))
    made.obs_names, made.var_names = list("abcd"), ["A", "B", "C"]
    made.obsm["spatial"] = 100.0 * np.arange(8).reshape(4, 2)
    made.uns["spatial"] = {"lib": {"scalefactors": uns}}
    return made


@pytest.mark.parametrize("value", ["many", -0.5, np.nan])
def test_factors_of_an_h5ad_that_are_no_scales_say_what_to_do(
    value: object, tmp_path: Path
) -> None:
    table(tissue_hires_scalef=value).write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(SpotTableError, match=f"library lib, found {value}; correct it there, or"):
        read_spots("h5ad", SpotSource(expression=tmp_path / "t.h5ad"))


def test_a_position_or_a_gene_without_a_value_says_what_to_do(tmp_path: Path) -> None:
    made = table()
    made.obsm["spatial"][0] = np.nan
    made.write_h5ad(tmp_path / "t.h5ad")
    source = SpotSource(expression=tmp_path / "t.h5ad")
    with pytest.raises(SpotTableError, match="found 1 spots without; leave these spots out"):
        read_spots("h5ad", source)
    made = table()
    made.var_names = ["A", "", "C"]
    made.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(SpotTableError, match="an empty one at place 2; name this gene, or leave"):
        read_spots("h5ad", source)


@pytest.mark.parametrize("name", ["2_10", "s1_2x10"])
def test_spots_of_legacy_st_named_otherwise_say_what_to_do(name: str, tmp_path: Path) -> None:
    counts = pd.DataFrame({"A": [1, 2], "B": [3, 1]}, index=["9x13", name])
    counts.to_csv(tmp_path / "c.tsv", sep="\t")
    (tmp_path / "s.tsv").write_text("x\ty\tpixel_x\tpixel_y\n9\t13\t100\t100\n2\t10\t300\t100\n")
    source = SpotSource(expression=tmp_path / "c.tsv", spots=tmp_path / "s.tsv")
    with pytest.raises(SpotTableError, match=f"found '{name}' in row 3; rename the spots so"):
        read_spots("legacy_st", source)
