"""Whole transcriptomes beside targeted panels: one unit of CPM and of depth, whoever measured what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.levelled_slides import levelled_slides
from helpers.toy_cohort import encoded_section, toy_cohort
from hespotex.config import RunConfig
from hespotex.evaluation.held_out import evaluate_bundle
from hespotex.genes.panel import GenePanel, log1p_cpm, spot_totals
from hespotex.models.bundle import Bundle
from hespotex.models.default.level import slide_values
from hespotex.models.fit import fit_bundle, training_section
from hespotex.models.predict import predict_section
from hespotex.models.types import Cohort, EncodedSection
from hespotex.validation.run_levels import FoldLooks, cross_validated_levels, external_levels

CONFIG = RunConfig.from_values(
    {}, ["panel.kind='all'", "panel.min_spots=0", "model.epochs=4", "model.ensemble=1"]
)
TARGETED = [f"G{j:02d}" for j in range(30) if j % 3 == 0]


def _targeted(item: EncodedSection, genes: list[str] = TARGETED) -> EncodedSection:
    section = item.section
    assert section.genes is not None
    assert section.counts is not None
    kept = np.isin(section.genes, genes)
    panel = replace(
        section,
        genes=section.genes[kept],
        counts=section.counts[:, kept],
        missing_genes="unmeasured",
    )
    return replace(item, section=panel)


@pytest.fixture(scope="module")
def whole() -> Cohort:
    return toy_cohort()


@pytest.fixture(scope="module")
def mixed(whole: Cohort) -> Cohort:
    """The same sections, two of the four by a panel of a third of the genes."""
    items = [_targeted(i) if i.section.section_id in ("A2", "B2") else i for i in whole.items]
    return replace(whole, items=tuple(items))


@pytest.fixture(scope="module")
def models(whole: Cohort, mixed: Cohort) -> tuple[Bundle, Bundle]:
    return fit_bundle(whole, CONFIG), fit_bundle(mixed, CONFIG)


def test_levels_and_depth_are_those_of_the_same_sections_measured_whole(
    models: tuple[Bundle, Bundle],
) -> None:
    unseen = encoded_section("C1", "C", 30, n_side=12)
    counts = GenePanel(models[0].genes).counts(unseen.section).counts
    truth, total = log1p_cpm(counts).mean(axis=0), spot_totals(counts)
    of_whole, of_mixed = (predict_section(m, unseen) for m in models)
    np.testing.assert_allclose(models[1].pooled, models[0].pooled, rtol=0.15)
    gap = of_mixed.log1p.mean(axis=0) - of_whole.log1p.mean(axis=0)
    assert np.abs(gap).mean() < 0.06
    often = truth > 8
    assert np.abs(of_mixed.log1p.mean(axis=0) - truth)[often].mean() < 0.3
    assert np.median(of_mixed.depth) == pytest.approx(np.median(of_whole.depth), rel=0.05)
    assert np.median(of_mixed.depth) == pytest.approx(np.median(total), rel=0.2)


def test_the_order_of_platforms_changes_no_level(mixed: Cohort) -> None:
    turned = replace(mixed, items=mixed.items[::-1])
    one, other = fit_bundle(mixed, CONFIG), fit_bundle(turned, CONFIG)
    np.testing.assert_allclose(one.pooled, other.pooled, rtol=1e-6)


def _levelled(n: int) -> tuple[Cohort, Cohort, np.ndarray]:
    """Slides of n patients, the same with every third by a panel of a third of the genes, and which genes these have."""
    cohort = levelled_slides(n).cohort
    kept = np.arange(60) % 3 == 0
    few = [f"G{g:03d}" for g in np.flatnonzero(kept)]
    items = [i if k % 3 else _targeted(i, few) for k, i in enumerate(cohort.items)]
    return cohort, replace(cohort, items=tuple(items)), kept


def test_a_targeted_slide_has_the_level_and_depth_of_the_same_slide_measured_whole() -> None:
    whole, mixed, kept = _levelled(12)
    panel = GenePanel(tuple(f"G{g:03d}" for g in range(60)))
    truth, found = (
        slide_values([training_section(i, panel) for i in c.items]) for c in (whole, mixed)
    )
    targeted = np.arange(12) % 3 == 0
    shift = (found - truth)[targeted]
    # A third of the counts, in a unit of their own: about 1. Patients differ in the part, too.
    assert abs(shift[:, :-1][:, kept].mean()) < 0.2
    assert abs(shift[:, -1].mean()) < 0.2
    np.testing.assert_array_equal(found[targeted][:, :-1][:, ~kept], 0)
    np.testing.assert_array_equal(found[~targeted, -1], truth[~targeted, -1])


def test_slides_in_another_unit_are_in_no_score_of_levels() -> None:
    _, mixed, _ = _levelled(12)
    ids = [i.section.section_id for i in mixed.items]
    genes = [f"G{g:03d}" for g in range(60)]
    rng = np.random.default_rng(0)
    looks, slopes = rng.normal(size=(12, 2)), rng.normal(size=(60, 2))
    folds = [
        FoldLooks(
            dict(zip(ids, looks, strict=True)), {one: 1.0}, True, frozenset([one]),
            dict(zip(genes, slopes, strict=True)),
        )
        for one in ids
    ]  # fmt: skip
    scores = cross_validated_levels(mixed, folds, genes, seed=0)
    whole = mixed.subset([i for k, i in enumerate(ids) if k % 3])
    assert scores is not None
    assert scores.n_patients == 8
    expected = cross_validated_levels(
        whole, [f for k, f in enumerate(folds) if k % 3], genes, seed=0
    )
    assert expected is not None
    assert scores.table.equals(expected.table)


def test_a_model_is_not_scored_on_levels_in_another_unit() -> None:
    whole, mixed, _ = _levelled(6)
    bundle = fit_bundle(whole, CONFIG)
    held_out = evaluate_bundle(bundle, None, mixed)
    ids = [i.section.section_id for i in mixed.items]
    found = external_levels(bundle, held_out, ids)
    assert found is not None
    assert found.n_patients == 4
    assert np.isfinite(found.measured).all()
    none = external_levels(bundle, held_out, ids[::3])
    assert none is not None
    assert none.n_patients == 0
