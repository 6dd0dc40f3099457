"""A map of squares is scored at every size: the mean inside a larger square, its own value for smaller ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import pearsonr

from hespotex.evaluation.by_size import OfSize, score_sizes
from hespotex.evaluation.predictors import Rival
from hespotex.evaluation.scores import block_size
from hespotex.genes.panel import GenePanel, log1p_cpm, pearson_residuals
from hespotex.geometry import Geometry
from hespotex.sections.fine import fitted_squares, squares
from hespotex.sections.section import Section
from hespotex.storage.metrics import ScoreSummary, SizeScores

GENES = ("A", "B", "C")


def _section(n_side: int = 32, mean: float = 8.0) -> Section:
    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(n_side**2), n_side)
    share = np.column_stack([1 + np.sin(column / 5), 1 + np.cos(row / 7), np.ones(n_side**2)])
    return Section(
        section_id="F",
        patient_id="P",
        slide=None,
        geometry=Geometry(0.5, 16.0, 16.0),
        barcodes=np.array([f"b{i}" for i in range(n_side**2)]),
        xy_px0=np.column_stack([column, row]) * 32.0,
        counts=sparse.csr_matrix(rng.poisson(mean * share).astype(np.float32)),
        genes=np.array(GENES),
        array_xy=np.column_stack([column, row]).astype(float),
    )


def _every(section: Section, rival: Rival, **more: object) -> dict[float, OfSize]:
    none = np.full(3, np.nan)
    fitted = OfSize(SizeScores(size_um=section.geometry.spot_pitch_um, n_fitted=1), none, none)
    found = score_sizes(
        section, {"model": rival, "depth_only": rival}, GenePanel(GENES), np.array([0, 1]),
        fitted=fitted, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    assert fitted in found or section.bins is None
    return {scored.summary.size_um: scored for scored in found}


def _scored(section: Section, rival: Rival, **more: object) -> dict[float, SizeScores]:
    return {size: found.summary for size, found in _every(section, rival, **more).items()}


def test_every_size_is_scored_as_said_and_the_fitted_one_is_taken_as_it_is() -> None:
    section = fitted_squares(_section(), 64.0)
    rng = np.random.default_rng(1)
    rival = Rival(rng.normal(size=(64, 3)).astype("f4"), rng.normal(size=(64, 3)).astype("f4"))
    every = _every(section, rival)
    found = {size: scored.summary for size, scored in every.items()}
    assert list(found) == [16.0, 32.0, 64.0, 128.0]
    assert [found[size].n_squares for size in (16.0, 32.0, 128.0)] == [1024, 256, 16]
    assert list(found[16.0].scores) == ["model"]
    assert section.bins is not None
    own = squares(section.bins, 64.0).member
    for size in (16.0, 128.0):
        other = squares(section.bins, size)
        maps = [
            np.array([table[own[other.member == k]].mean(axis=0) for k in range(other.section.n_spots)])
            for table in (rival.log1p, rival.composition)
        ]  # fmt: skip
        counts = sparse.csr_matrix(other.section.counts)
        for part, measured in zip(
            maps, (log1p_cpm(counts), pearson_residuals(counts)), strict=True
        ):
            pcc = [pearsonr(part[:, g], measured[:, g]).statistic for g in range(3)]
            name = "pcc_log1p_mean" if part is maps[0] else "pcc_composition_mean"
            assert getattr(found[size].scores["model"], name) == pytest.approx(
                np.mean(pcc), abs=1e-5
            )
            if part is not maps[0]:
                np.testing.assert_allclose(every[size].pcc, pcc, atol=1e-5)
                assert found[size].ceiling.pcc_composition_mean == pytest.approx(
                    np.nanmean(every[size].ceiling)
                )
        assert np.isnan(found[size].scores["model"].rmse_log1p)


def test_single_bins_hold_more_noise_than_squares() -> None:
    section = fitted_squares(_section(), 64.0)
    zeros = np.zeros((64, 3), np.float32)
    found = _scored(section, Rival(zeros, zeros))
    ceilings = [found[size].ceiling.pcc_composition_mean for size in (16.0, 32.0, 128.0)]
    assert ceilings == sorted(ceilings)
    assert ceilings[0] < ceilings[-1] - 0.05


def test_unmeasured_genes_are_left_out_and_a_map_for_all_genes_is_taken() -> None:
    bins = _section()
    lacking = replace(
        bins.spots(np.arange(bins.n_spots)),
        missing_genes="unmeasured",
        genes=np.array(["A", "B", "Z"]),
    )
    section = fitted_squares(lacking, 32.0)
    one = Rival(np.arange(256, dtype=np.float32)[:, None], None)
    of_all = _every(section, one)[16.0]
    assert np.isnan(of_all.pcc).all()
    both = _every(
        section, Rival(np.zeros((256, 3), "f4"), np.arange(768, dtype="f4").reshape(256, 3))
    )
    assert np.isfinite(both[16.0].pcc).tolist() == [True, True, False]
    assert np.isfinite(both[16.0].ceiling).tolist() == [True, True, False]
    found = _scored(section, one)
    assert np.isfinite(found[16.0].scores["model"].pcc_log1p_mean)
    assert np.isnan(found[16.0].scores["model"].pcc_composition_mean)


def test_spots_that_are_no_squares_have_no_sizes() -> None:
    section = _section()
    maps = {"model": Rival(np.zeros((1024, 3), np.float32))}
    none = np.full(3, np.nan)
    fitted = OfSize(SizeScores(size_um=16.0, scores={"model": ScoreSummary()}), none, none)
    assert score_sizes(section, maps, GenePanel(GENES), np.array([0]), fitted=fitted) == ()


def test_blocks_of_coarse_sections_are_as_they_were_and_those_of_fine_ones_are_smaller() -> None:
    assert block_size(16_384) == block_size(10) == 512
    assert block_size(165_000) * 165_000 <= 512 * 16_384
    assert block_size(10**9) == 16
