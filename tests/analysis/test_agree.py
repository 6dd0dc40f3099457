"""Pairs of sections of a run: what is compared with what, marked, refused and written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.toy_prediction import (
    GENES,
    toy_counts,
    toy_extras,
    toy_prediction,
    toy_section,
    toy_thumbnail,
)
from hespotex.analysis.agree import agree, ridge_note, summary
from hespotex.analysis.agreement import (
    CONSISTENT,
    MEASURED,
    OWN,
    _compared,
    _Given,
    _Maps,
    _specific,
)
from hespotex.analysis.landmarks import read_landmarks
from hespotex.errors import GeometryError, RunError
from hespotex.evaluation.ridge_maps import RidgeMaps
from hespotex.evaluation.scores import pcc_per_gene, standardise
from hespotex.evaluation.spatial_null import build_modes, compare_cleared, compare_maps
from hespotex.export.h5ad import write_prediction
from hespotex.genes.panel import log1p_cpm, pearson_residuals
from hespotex.geometry import Affine, CommonFrame, SectionFrame, read_frames, write_frames
from hespotex.report.agree_page import drift_lines, drift_rows, write_pages

SHIFT = Affine.of(np.eye(2), (300.0, -40.0))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two sections with the same maps; the second's model was trained on the first."""
    section = toy_section()
    for name, trained in (("S1", ["S9"]), ("S2", ["S1"])):
        write_prediction(
            tmp_path / "run" / "predictions" / f"{name}.h5ad",
            section=replace(section, section_id=name),
            genes=GENES,
            prediction=toy_prediction(section),
            counts=toy_counts(section),
            thumbnail=toy_thumbnail(section),
            provenance={"training_sections": trained},
            extras=toy_extras(section),
        )
    return tmp_path / "run"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    path = tmp_path / "given.json"
    places = {"S1": SectionFrame(2.0, SHIFT), "S2": SectionFrame(2.0, SHIFT)}
    write_frames(path, CommonFrame(places))
    return path


def test_a_section_on_itself_scores_as_the_scores_do_and_says_what_was_trained(
    run: Path, frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (result,) = agree(run, out, pairs=["S1:S2"], transform=frames)
    assert result.refused == ""
    assert result.same_patient
    assert result.trained == "trained on it: S1 trained the model of S2"
    section, usable = toy_section(), ~toy_extras(toy_section()).ood
    table = pd.read_csv(out / "agree.csv")
    assert (table["n_places"] == usable.sum()).all()
    assert (table["trained"] == result.trained).all()
    of = table[(table["scale"] == "composition") & (table["what"] == OWN)].set_index("gene")["pcc"]
    expected = pcc_per_gene(
        toy_prediction(section).composition[usable],
        pearson_residuals(toy_counts(section).counts)[usable],
    )
    expected[3] = np.nan  # not measured
    np.testing.assert_allclose(of[list(GENES)], expected, atol=1e-5)
    same = table[(table["scale"] == "composition") & table["what"].isin([MEASURED, CONSISTENT])]
    assert same["pcc"].dropna().min() > 0.7  # of white noise, with a spot's own value foremost
    assert table.set_index("gene").loc["CD3E", "grade_a"].eq("D").all()


def test_ridge_is_compared_where_files_hold_its_maps_and_its_lack_is_said(
    run: Path, frames: Path, tmp_path: Path
) -> None:
    without = agree(run, tmp_path / "out", pairs=["S1:S2"], transform=frames)
    assert not without[0].table["what"].str.contains("ridge").any()
    assert "ridge is not compared on S1:S2" in ridge_note(without)
    rng = np.random.default_rng(3)
    section = toy_section()
    factors = [rng.normal(size=(n, 4)) for n in (section.n_spots, len(GENES), len(GENES))]
    maps = RidgeMaps(*(part.astype(np.float32) for part in factors))
    for name in ("S1", "S2"):
        write_prediction(
            run / "predictions" / f"{name}.h5ad",
            section=replace(section, section_id=name),
            genes=GENES,
            prediction=toy_prediction(section),
            counts=toy_counts(section),
            extras=replace(toy_extras(section), ridge=maps),
        )
    found = agree(run, tmp_path / "out2", pairs=["S1:S2"], transform=frames)
    assert ridge_note(found) == ""
    table = found[0].table
    usable = ~toy_extras(section).ood
    for scale, of_genes in (("log1p", maps.log1p), ("composition", maps.composition)):
        here = table[(table["scale"] == scale) & (table["what"] == "ridge A / measured A")]
        counts = toy_counts(section).counts
        measured = (pearson_residuals if scale == "composition" else log1p_cpm)(counts)
        expected = pcc_per_gene((maps.spots @ of_genes.T)[usable], measured[usable])
        expected[3] = np.nan  # not measured
        np.testing.assert_allclose(here.set_index("gene")["pcc"][list(GENES)], expected, atol=1e-5)
    assert table.loc[table["what"] == "ridge A / ridge B", "specificity"].notna().all()


@pytest.mark.parametrize("max_modes", [1000, 40])
def test_maps_are_compared_as_the_null_of_scores_compares_them(max_modes: int) -> None:
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.arange(12.0), np.arange(11.0)), -1).reshape(-1, 2) * 100
    modes = build_modes(grid, max_modes)
    depth = rng.normal(size=(len(grid), 2))
    a, b = rng.normal(size=(2, len(grid), 7)).astype(np.float32)
    b[:, :4] += a[:, :4] + depth[:, :1].astype(np.float32)
    a[:, 5], b[:, 6] = 3.0, depth[:, 1]  # constant; nothing but depth
    given = _Given(depth, modes)
    found = _Maps.of(a, given), _Maps.of(b, given)
    for of, taken in (("as_it_is", depth[:, :0]), ("cleared", depth)):
        _, expected = compare_maps(a, b, taken, modes)
        _, z = compare_cleared(*(getattr(maps, of) for maps in found), modes)
        np.testing.assert_allclose(z, expected, atol=1e-3)
    (table, *_) = _compared(
        {("predicted", "a"): found[0], ("measured", "b"): found[1]}, list("abcdefg"), [], "x", modes, {}
    )  # fmt: skip
    np.testing.assert_allclose(table["pcc"], pcc_per_gene(a, b), atol=1e-5)
    untested = table["pcc"].isna().to_numpy()
    assert untested[5]  # constant on one side: the other way round it is not tested, either
    (turned, *_) = _compared(
        {("measured", "a"): found[0], ("predicted", "b"): found[1]}, list("abcdefg"), [], "x", modes, {}
    )  # fmt: skip
    for one in (table, turned):
        assert (one["p_value"].isna()[:6] == untested[:6]).all()


def test_frames_and_files_hold_microns_of_the_common_frame(
    run: Path, frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    agree(run, out, pairs=["S1:S2"], transform=frames)
    assert read_frames(out / "frames.json").between("S2", "S1")(np.ones((1, 2))).tolist() == [
        [1.0, 1.0]
    ]
    table = anndata.read_h5ad(out / "sections" / "S2.h5ad")
    np.testing.assert_allclose(table.obsm["spatial_common_um"], table.obsm["spatial"] * 2.0)


def test_the_page_shows_the_pair_and_its_mark(run: Path, frames: Path, tmp_path: Path) -> None:
    results = agree(run, tmp_path / "out", pairs=["S1:S2"], transform=frames)
    page = write_pages(run, tmp_path / "out", results)["report"].read_text(encoding="utf-8")
    assert "S1 trained the model of S2. Its consistency is no evidence." in page
    assert "data:image/png;base64," in page
    assert page.count("<td>trained on it</td>") == 18  # 9 comparisons on 2 scales


def test_sections_that_do_not_overlap_are_refused_and_nothing_is_written(
    run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "far.json"
    far = Affine.of(np.eye(2), (1e5, 0.0))
    write_frames(path, CommonFrame({"S1": SectionFrame(2.0), "S2": SectionFrame(2.0, far)}))
    with pytest.raises(GeometryError, match=r"S1 and S2: expected at least 8 spots .* found 0"):
        agree(run, tmp_path / "out", pairs=["S1:S2"], transform=path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        (["S1:S3"], r"sections of the run \(S1, S2\), found S3"),
        (["S1"], "two sections as A:B, found S1"),
        (["S1:S1"], "two sections as A:B, found S1:S1"),
        ([], r"a column series .* say which sections belong together: --pairs A:B"),
    ],
)
def test_pairs_that_cannot_be_are_named(
    run: Path, tmp_path: Path, pairs: list[str], match: str
) -> None:
    with pytest.raises(RunError, match=match):
        agree(run, tmp_path / "out", pairs=pairs)


def test_a_folder_without_predictions_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected predictions of sections in .* found none"):
        agree(tmp_path, tmp_path / "out")


def test_landmarks_of_another_form_are_named(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_text("section_a,section_b,x\nS1,S2,3\n")
    with pytest.raises(GeometryError, match=r"columns section_a, .*marks\.csv"):
        read_landmarks(path)
    path.write_text(
        "section_a,section_b,x_a_um,y_a_um,x_b_um,y_b_um\nS1,S2,1,2,3,4\nS1,S2,5,6,7,8\n"
    )
    fixed, moving = read_landmarks(path)["S1", "S2"]
    assert fixed.tolist() == [[1, 2], [5, 6]]
    assert moving.tolist() == [[3, 4], [7, 8]]


@pytest.mark.parametrize("signs", ["one", "turned"])
def test_one_blob_for_all_genes_is_consistent_but_not_specific(signs: str) -> None:
    """Exactly the same map: no rounding decides, ties count half."""
    names = [f"G{i}" for i in range(20)]
    blob = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    sign = np.where(np.arange(20) % 2, -1, 1) if signs == "turned" else np.ones(20)
    unit = standardise(np.ones((1, 20)) * blob * sign).astype(np.float32)
    alike, share = _specific(unit, unit, names, names, pcc_per_gene(unit, unit))
    np.testing.assert_allclose(alike, 1.0, atol=1e-5)
    # Of 19 others 10 are the opposite where signs alternate: they are below; 9 tie.
    np.testing.assert_allclose(share, 0.5 if signs == "one" else (10 + 9 / 2) / 19)


def test_specificity_is_a_half_by_chance_and_1_where_maps_are_the_genes_own() -> None:
    rng = np.random.default_rng(1)
    names = [f"G{i}" for i in range(200)]
    a, b = (standardise(rng.normal(size=(300, 200))).astype(np.float32) for _ in range(2))
    _, independent = _specific(a, b, names, names, pcc_per_gene(a, b))
    assert independent.mean() == pytest.approx(0.5, abs=0.07)
    _, own = _specific(a, a, names, names, pcc_per_gene(a, a))
    assert (own == 1).all()


def test_a_run_of_a_series_is_compared_without_naming_pairs(tmp_path: Path) -> None:
    section = toy_section()
    assert section.obs is not None
    for name, order in (("B", "2"), ("A", "10"), ("C", "1")):
        obs = section.obs.assign(series="block", order=order)
        write_prediction(
            tmp_path / "predictions" / f"{name}.h5ad",
            section=replace(section, section_id=name, obs=obs),
            genes=GENES,
            prediction=toy_prediction(section),
            extras=toy_extras(section),
        )
    path = tmp_path / "given.json"
    write_frames(path, CommonFrame({name: SectionFrame(2.0) for name in "ABC"}))
    found = agree(tmp_path, tmp_path / "out", transform=path)
    assert [(r.first, r.second, r.apart) for r in found] == [
        ("C", "B", 1.0),
        ("C", "A", 9.0),
        ("B", "A", 8.0),
    ]
    kinds = pd.read_csv(tmp_path / "out" / "agree.csv")["what"].unique().tolist()
    assert kinds == [CONSISTENT, "predicted depth A / predicted depth B"]  # nothing was measured


def test_drift_with_distance_is_told_of_series_of_three(tmp_path: Path) -> None:
    section = toy_section()
    assert section.obs is not None
    for order, name in enumerate("ABC"):
        write_prediction(
            tmp_path / "predictions" / f"{name}.h5ad",
            section=replace(
                section, section_id=name, obs=section.obs.assign(series="b", order=str(order))
            ),
            genes=GENES,
            prediction=toy_prediction(section),
            counts=toy_counts(section),
            provenance={"training_sections": ["A"] if name == "C" else []},
            extras=toy_extras(section),
        )
    path = tmp_path / "given.json"
    write_frames(path, CommonFrame({name: SectionFrame(2.0) for name in "ABC"}))
    results = agree(tmp_path, tmp_path / "out", transform=path)
    lines = drift_lines(summary(results))
    assert list(lines) == [MEASURED, "consistency", "accuracy"]
    assert [(p.apart, p.trained) for p in lines["accuracy"]] == [(1, False), (1, False), (2, True)]
    of = results[1].table.query("scale == 'composition'").groupby("what")["pcc"].mean()
    expected = (of["predicted A / measured B"] + of["measured A / predicted B"]) / 2
    assert lines["accuracy"][2].value == pytest.approx(expected)
    rows = drift_rows(lines)
    assert [row[:3] for row in rows] == [["1", "", "2"], ["2", "trained on it", "1"]]
    page = write_pages(tmp_path, tmp_path / "out", results)["report"].read_text(encoding="utf-8")
    assert "Drift with distance" in page
    assert (tmp_path / "out" / "figures" / "drift.png").exists()
    alone = summary(results[:1])
    assert drift_lines(alone) == {}
