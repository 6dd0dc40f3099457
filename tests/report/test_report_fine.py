"""A fine map's page says what it means: what its model was scored at, and how much of each gene's map is finer than that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helpers.toy_slide import toy_bundle
from hespotex import keys
from hespotex.export.h5ad import StoredPrediction
from hespotex.predicting.compact import scale_record
from hespotex.report.report_fine import (
    GENE_SCORED,
    PAINTED,
    UNSCORED,
    fine_lines,
    finer_share,
    scale_texts,
)
from hespotex.storage.gene_sizes import GeneSizes
from hespotex.storage.metrics import ScoreSummary, SizeScores, Validation


def fine_map(values: np.ndarray, **record: object) -> StoredPrediction:
    """A square lattice of 8 x 8 places 16 um apart at 0.5 um a pixel, (64, k) composition."""
    row, column = np.divmod(np.arange(64), 8)
    n, k = values.shape
    empty = np.zeros(n, np.float32)
    return StoredPrediction(
        section_id="S", patient_id="P", genes=np.array([f"G{j}" for j in range(k)]),
        barcodes=np.array([f"b{i}" for i in range(n)]),
        xy_px0=(np.column_stack([column, row]) + 0.5) * 32.0, mpp=0.5, spot_diameter_um=16.0,
        log1p=None, composition=values, depth=empty, measured=None, measured_counts=None,
        measured_depth=None, thumbnail=None, record={"spot_pitch_um": 16.0, **record},
    )  # fmt: skip


def test_the_share_of_a_map_inside_squares_is_that_of_its_variance() -> None:
    row, column = np.divmod(np.arange(64), 8)
    between = np.where(column < 4, -1.0, 1.0)  # squares of 64 um are 4 x 4 places
    inside = np.where(row % 2 == 0, -1.0, 1.0)
    values = np.column_stack([between, inside, 3 * between + 4 * inside, np.ones(64), between])
    values[5, 4] = np.nan
    found = finer_share(fine_map(values), np.arange(5), 64.0)
    np.testing.assert_allclose(found, [0.0, 1.0, 0.8, np.nan, 0.0], atol=1e-12)


def test_every_gene_says_where_it_is_graded_and_how_much_is_finer() -> None:
    row = np.arange(64) // 8
    values = np.column_stack([np.where(row % 2 == 0, -1.0, 1.0), np.zeros(64)])
    columns = np.arange(2)
    varies, flat = scale_texts(fine_map(values, **{keys.FITTED_UM: 64.0}), columns)
    assert varies == (
        "a value every 16 um; graded at 64 um; inside squares of 64 um, where nothing was measured, it varies 1.00 times as "
        "much as in all"
    )
    assert flat == "a value every 16 um; graded at 64 um; it does not vary"
    as_fitted = fine_map(values, **{keys.FITTED_UM: 16.0})
    assert scale_texts(as_fitted, columns) == ["a value every 16 um; graded at 16 um"] * 2
    older, coarse = fine_map(values), fine_map(values, spot_pitch_um=100.0, fitted_um=100.0)
    for section in (older, coarse):
        assert scale_texts(section, columns) == ["", ""]


def test_every_gene_says_its_own_scores_by_size_under_its_own_name() -> None:
    known = GeneSizes(
        genes=("G2", "G1", "G0"),
        sizes_um=(16.0, 64.0),
        pcc=((0.5, 0.75), (float("nan"), 0.25), (float("nan"), float("nan"))),
        ceiling=((0.6, 0.9), (float("nan"), 0.3), (0.1, 0.2)),
    )
    bundle = replace(toy_bundle(), validation=Validation(gene_sizes=known).model_dump(mode="json"))
    record = scale_record(bundle, 16.0) | {keys.FITTED_UM: 16.0}
    values = np.random.default_rng(0).normal(size=(64, 4))
    of_g0, of_g1, of_g2, absent = scale_texts(fine_map(values, **record), np.arange(4))
    graded = "a value every 16 um; graded at 16 um"
    assert of_g0 == absent == graded
    assert of_g1 == f"{graded}; {GENE_SCORED}: 64 um 0.25 of 0.30"
    assert of_g2 == f"{graded}; {GENE_SCORED}: 16 um 0.50 of 0.60, 64 um 0.75 of 0.90"
    finer = scale_texts(fine_map(values, **(record | {keys.FITTED_UM: 64.0})), np.array([2]))
    assert finer[0].startswith("a value every 16 um; graded at 64 um; inside")
    assert finer[0].endswith("64 um 0.75 of 0.90")


def test_lines_say_the_models_own_scores_by_size_where_it_has_them() -> None:
    note = "a map every 16 um of a model of 64 um spots extrapolates: nothing finer"
    bare = {keys.FITTED_UM: 64.0, "notes": np.array([note, "the slide is the first picture"])}
    scored = {**bare, keys.PCC_BY_SIZE: np.array([[16.0, 0.25, 0.5], [64.0, 0.5, 0.75]])}
    assert fine_lines([{}, {"notes": [note]}]) == []
    assert fine_lines([bare, bare]) == [f"A{note[1:]}.", UNSCORED, PAINTED]
    assert "16 um 0.25 of 0.50, 64 um 0.50 of 0.75." in fine_lines([scored])[1]


def test_a_models_scores_by_size_travel_with_its_fine_maps_alone() -> None:
    bundle = toy_bundle()
    assert scale_record(bundle, 16.0) == {keys.FITTED_UM: bundle.spot_diameter_um}
    sizes = [
        SizeScores(
            size_um=size,
            scores={"model": ScoreSummary(pcc_composition_mean=size / 100)},
            ceiling=ScoreSummary(pcc_composition_mean=size / 80),
        )
        for size in (16.0, 32.0)
    ]
    known = replace(bundle, validation=Validation(sizes=sizes).model_dump(mode="json"))
    np.testing.assert_allclose(
        scale_record(known, 16.0)[keys.PCC_BY_SIZE], [[16, 0.16, 0.2], [32, 0.32, 0.4]]
    )
    assert scale_record(known, 100.0) == {}
