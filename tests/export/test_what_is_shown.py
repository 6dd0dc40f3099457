"""What is shown: composition, unless log1p is asked for, under one name and unit in every file and picture."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pyarrow import parquet

from helpers.drawn import words
from helpers.toy_prediction import GENES, toy_stored
from hespotex import keys
from hespotex.errors import ConfigError
from hespotex.export.geojson import write_geojson
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.pyramid import write_ome_tiff
from hespotex.export.shown import (
    COMPOSITION_IS,
    LOG1P_IS,
    composition_end,
    composition_ends,
    measured_beside,
    scale_of,
)
from hespotex.export.spatialdata import write_spatialdata
from hespotex.export.tables import write_parquet
from hespotex.plots.gene_pictures import plot_gene
from hespotex.plots.overview import plot_overview
from hespotex.plots.style import UNLIKE_LIMIT, UNLIKE_LIMITS, colour_map
from hespotex.predicting import SlideOptions

GENE = "HLA-A"


@pytest.fixture
def stored(tmp_path: Path) -> StoredPrediction:
    return toy_stored(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # spatialdata announces changes of its dependencies
@pytest.mark.parametrize("show", ["composition", "log1p"])
def test_every_file_holds_what_is_shown_and_names_its_unit(
    stored: StoredPrediction, tmp_path: Path, show: str
) -> None:
    values = getattr(stored, show)[:, GENES.index(GENE)]
    unit = keys.UNIT_COMPOSITION if show == "composition" else keys.UNIT_LOG1P
    write_geojson(tmp_path / "a.geojson", stored, genes=[GENE], show=show)
    collection = json.loads((tmp_path / "a.geojson").read_text())
    (name,) = {n for n in collection["features"][0]["properties"]["measurements"] if GENE in n}
    assert name == f"{GENE} {'composition' if show == 'composition' else 'log1p(CPM)'}"
    found = [f["properties"]["measurements"][name] for f in collection["features"]]
    np.testing.assert_allclose(found, values, atol=1e-4)
    write_parquet(tmp_path / "a.parquet", stored, genes=[GENE], show=show)
    table = parquet.read_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(table.to_pandas()[GENE], values)
    write_ome_tiff(tmp_path / "a.ome.tif", stored, genes=[GENE], show=show)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        image, said = file.asarray(), file.ome_metadata or ""
    assert set(np.unique(image[np.isfinite(image) & (image != 0)])) <= set(values)
    assert unit in said
    for about in (collection["hespotex"], json.loads(table.schema.metadata[b"hespotex"])):
        assert (about["shown"], about["units"]["genes"]) == (show, unit)
    write_spatialdata(tmp_path / "a.zarr", stored, genes=[GENE], show=show)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        kept = spatialdata.read_zarr(tmp_path / "a.zarr").tables["hespotex_spots"]
    np.testing.assert_array_equal(np.asarray(kept.X)[:, 0], values)
    assert kept.uns["hespotex"]["units"]["X"] == unit


@pytest.mark.parametrize(
    ("show", "sentence"), [("composition", COMPOSITION_IS), ("log1p", LOG1P_IS)]
)
def test_pictures_explain_what_they_show(
    stored: StoredPrediction, show: str, sentence: str
) -> None:
    for figure in (
        plot_gene(stored, 0, show=show),  # type: ignore[arg-type]
        plot_overview(stored, [GENE], show=show),  # type: ignore[arg-type]
    ):
        assert sentence in words(figure)
        assert f"predicted {'composition' if show == 'composition' else 'log1p(CPM)'}" in words(
            figure
        )


def test_only_two_things_can_be_shown() -> None:
    with pytest.raises(ConfigError, match=r"expected --show composition or log1p, found 'cpm'"):
        SlideOptions(show="cpm")  # type: ignore[arg-type]


def test_scales_of_composition_are_few_and_lie_around_zero() -> None:
    rng = np.random.default_rng(0)
    flat, wide = rng.normal(0, 0.01, (200, 1)), rng.normal(0.3, 0.6, (200, 1))
    assert scale_of("composition", [flat]).limits == (-0.25, 0.25)  # hardly anything: pale
    low, high = scale_of("composition", [flat, wide]).limits
    assert low == -high == -1.5
    np.testing.assert_array_equal(
        composition_ends(np.hstack([flat, wide, np.full((200, 1), np.nan)])), [0.25, 1.5, 0.25]
    )
    assert composition_end([np.full(3, 99.0)]) == 4.0


def test_blue_and_red_stay_apart_for_eyes_that_confuse_red_and_green() -> None:
    # Machado et al. 2009 (doi 10.1109/TVCG.2009.113), deuteranopia and protanopia, severity 1, linear RGB.
    deutan = [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ]
    protan = [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
    table = (
        colour_map(scale_of("composition", [np.zeros(1)]).colours)(np.linspace(0, 1, 101))[:, :3]
        ** 2.2
    )
    for matrix in (deutan, protan):
        seen = np.clip(table @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        ends = np.abs(seen[10] - seen[90])
        assert ends.max() > 0.3
        light = seen @ [0.2126, 0.7152, 0.0722]
        assert light.argmax() in range(48, 53)  # palest where nothing differs from the training


def test_the_unlike_map_changes_colour_at_the_limit_and_nowhere_else() -> None:
    table = colour_map("unlike")(np.linspace(0, 1, 256))[:, :3]
    step = np.abs(np.diff(table, axis=0)).max(axis=1)
    at = (UNLIKE_LIMIT - UNLIKE_LIMITS[0]) / (UNLIKE_LIMITS[1] - UNLIKE_LIMITS[0])
    assert step.argmax() == pytest.approx(at * 255, abs=1)
    assert np.sort(step)[-2] < 0.05 < step.max()


def test_measured_composition_stands_at_the_level_of_the_prediction(tmp_path: Path) -> None:
    read = toy_stored(tmp_path, measured=True)
    beside = measured_beside(read, np.array([0, 3]))
    assert beside[:, 0].mean() == pytest.approx(read.composition[:, 0].mean(), abs=1e-5)
    assert np.isnan(beside[:, 1]).all()  # CD3E was not measured
    with pytest.raises(ValueError, match="section S1: expected measured values"):
        measured_beside(replace(read, measured=None), np.array([0]))
