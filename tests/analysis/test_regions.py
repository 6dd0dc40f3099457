"""Regions from and to GeoJSON, their pooled composition, and a region against the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.toy_prediction import GENES, toy_half_widths, toy_stored
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.analysis.regions import (
    Region,
    against_rest,
    pooled_composition,
    read_regions,
    write_regions,
)
from hespotex.errors import GenePanelError, GeometryError, RunError
from hespotex.export.claim_words import long


@pytest.fixture
def file(tmp_path: Path) -> PredictionFile:
    toy_stored(tmp_path)
    return PredictionFile(tmp_path / "S1.h5ad")


def _square(x: float, y: float, side: float) -> dict[str, object]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def test_a_file_is_read_by_gene_as_it_was_written(file: PredictionFile, tmp_path: Path) -> None:
    whole = toy_stored(tmp_path / "again")
    assert file.genes.tolist() == list(GENES)
    np.testing.assert_array_equal(
        file.read(["CD3E", "ACTB"]).composition, whole.composition[:, [3, 0]]
    )
    np.testing.assert_array_equal(_all(file), whole.composition)
    np.testing.assert_array_equal(file.claims.grade, whole.extras.claims.grade)  # type: ignore[union-attr]
    np.testing.assert_allclose(file.xy_um, whole.xy_px0 * 2.0)
    assert repr(file).startswith("<PredictionFile S1: 30 spots, 6 genes, ")


def test_few_rows_at_a_time_give_the_same(
    file: PredictionFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, inside = _all(file), np.arange(file.n_spots) % 3 == 0
    pooled = pooled_composition(file, [inside])
    monkeypatch.setattr("hespotex.analysis.prediction_file._BLOCK_VALUES", 70)
    assert [part for part, _ in file.rows()] == [slice(0, 11), slice(11, 22), slice(22, 30)]
    np.testing.assert_array_equal(_all(file), whole)
    np.testing.assert_allclose(pooled_composition(file, [inside]), pooled, rtol=1e-12)


def _all(file: PredictionFile) -> np.ndarray:
    return np.concatenate([values for _, values in file.rows()])


def test_an_unknown_gene_is_named(file: PredictionFile) -> None:
    with pytest.raises(GenePanelError, match=r"found NOPE; it holds 6 genes"):
        file.read(["ACTB", "NOPE"])


def test_a_gene_has_the_sentence_that_its_grade_rests_on(file: PredictionFile) -> None:
    place = file.genes.tolist().index("ACTB")
    assert file.sentence("ACTB") == long(file.claims, place)
    assert str(file.claims.evidence[place]).capitalize() in file.sentence("ACTB")
    with pytest.raises(GenePanelError, match=r"found NOPE; it holds 6 genes"):
        file.sentence("NOPE")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "x.h5ad"
    other.write_text("no table")
    with pytest.raises(RunError, match=r"expected a prediction of hespotex in .*x\.h5ad"):
        PredictionFile(other)


def test_regions_come_back_as_they_were_written(tmp_path: Path) -> None:
    import shapely
    from shapely.geometry import shape

    path = tmp_path / "regions.geojson"
    written = [
        Region("tumour", shapely.MultiPolygon([shape(_square(0, 0, 10))])),
        Region(
            "stroma", shapely.MultiPolygon([shape(_square(20, 0, 5)), shape(_square(0, 30, 5))])
        ),
    ]
    write_regions(path, written)
    read = read_regions(path)
    assert [r.name for r in read] == ["tumour", "stroma"]
    assert all(a.outline.equals(b.outline) for a, b in zip(read, written, strict=True))


@pytest.mark.parametrize("shape", ["collection", "list", "feature"])
def test_regions_are_named_by_name_or_class_and_points_passed_over(
    tmp_path: Path, shape: str
) -> None:
    features = [
        {
            "type": "Feature",
            "geometry": _square(0, 0, 10),
            "properties": {"classification": {"name": "Tumor"}},
        },
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}},
        {"type": "Feature", "geometry": _square(20, 0, 10), "properties": None},
    ]
    content = {
        "collection": {"type": "FeatureCollection", "features": features},
        "list": features,
        "feature": features[0],
    }[shape]
    (tmp_path / "r.geojson").write_text(json.dumps(content))
    names = [r.name for r in read_regions(tmp_path / "r.geojson")]
    assert names == (["Tumor"] if shape == "feature" else ["Tumor", "region 2"])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        '{"a": 1}',
        "[1]",
        "[]",
        '{"type": "Polygon", "coordinates": [[[0, 0], [1, NaN], [2, 2], [0, 0]]]}',
        '{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}',
        '{"type": "Point", "coordinates": [1, 1]}',
    ],
)
def test_what_is_no_region_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.geojson"
    path.write_text(content)
    with pytest.raises(GeometryError, match=r"r\.geojson, found") as caught:
        read_regions(path)
    assert caught.value.remedy


def test_what_qupath_ignores_and_detections_beside_areas_are_no_regions(tmp_path: Path) -> None:
    def feature(**properties: object) -> dict[str, object]:
        return {"type": "Feature", "geometry": _square(0, 0, 10), "properties": properties}

    features = [
        feature(classification={"name": "Ignore*"}),
        feature(objectType="detection"),
        feature(objectType="tma_core", isMissing=True, name="A-1"),
        feature(objectType="annotation", classification={"names": ["Tumor", "Positive"]}),
    ]
    (tmp_path / "r.geojson").write_text(json.dumps(features))
    assert [r.name for r in read_regions(tmp_path / "r.geojson")] == ["Tumor: Positive"]


def test_the_composition_of_one_spot_is_its_own(file: PredictionFile) -> None:
    one = np.arange(file.n_spots) == 3
    np.testing.assert_allclose(pooled_composition(file, [one])[0], _all(file)[3], rtol=1e-6)


def test_spots_weigh_by_depth_and_flagged_ones_do_not_count(file: PredictionFile) -> None:
    values = _all(file).astype(float)
    depth = np.asarray(file.spots.depth, float)
    everywhere = np.ones(file.n_spots, bool)
    usable = ~np.asarray(file.spots.extras.ood)
    assert 0 < usable.sum() < len(usable)
    weight = np.where(usable, depth, 0)
    expected = np.log(weight @ np.exp(values) / weight.sum())
    np.testing.assert_allclose(pooled_composition(file, [everywhere])[0], expected, rtol=1e-6)


def test_a_region_without_a_usable_spot_is_refused(file: PredictionFile) -> None:
    flagged = np.asarray(file.spots.extras.ood)
    with pytest.raises(GeometryError, match=r"spots in set 2 of section S1, found none"):
        pooled_composition(file, [~flagged, flagged])


def test_a_region_against_the_rest_ranks_genes_and_says_what_is_claimed(
    file: PredictionFile,
) -> None:
    area = Region("left", _area(0, 0, 250))
    inside = area.contains(file.spots.xy_px0)
    assert inside.sum() == 4
    table = against_rest(file, inside).set_index("gene")
    within, rest = pooled_composition(file, (inside, ~inside))
    order = list(GENES)
    np.testing.assert_allclose(table.loc[order, "difference"], within - rest)
    assert (np.diff(table["difference"].abs()) <= 0).all()
    np.testing.assert_allclose(table.loc[order, "half_width"], toy_half_widths()[1])
    assert table.loc["ACTB", "grade"] == "A"
    assert set(table["n_inside"]) == {4}
    turned = against_rest(file, ~inside).set_index("gene")
    np.testing.assert_allclose(turned.loc[order, "difference"], rest - within)
    np.testing.assert_allclose(turned.loc[order, "half_width"], toy_half_widths()[2])


def _area(x: float, y: float, side: float) -> object:
    import shapely
    from shapely.geometry import shape

    return shapely.MultiPolygon([shape(_square(x, y, side))])
