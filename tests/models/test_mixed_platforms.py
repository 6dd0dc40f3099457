"""Whole transcriptomes beside targeted panels: one unit of CPM and of depth, whoever measured what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.toy_cohort import encoded_section, toy_cohort
from hespotex.config import RunConfig
from hespotex.genes.panel import GenePanel, log1p_cpm, spot_totals
from hespotex.models.bundle import Bundle
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_section
from hespotex.models.types import Cohort, EncodedSection

CONFIG = RunConfig.from_values(
    {}, ["panel.kind='all'", "panel.min_spots=0", "model.epochs=4", "model.ensemble=1"]
)
TARGETED = [f"G{j:02d}" for j in range(30) if j % 3 == 0]


def _targeted(item: EncodedSection) -> EncodedSection:
    section = item.section
    assert section.genes is not None
    assert section.counts is not None
    kept = np.isin(section.genes, TARGETED)
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
