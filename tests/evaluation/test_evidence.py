"""What one held-out section says of its genes is made of the parts that are tested on their own."""

from __future__ import annotations

import numpy as np
from scipy import stats

from helpers.toy_cohort import toy_cohort
from hespotex.evaluation.bootstrap import pcc_interval
from hespotex.evaluation.evidence import section_evidence
from hespotex.genes.panel import GenePanel, log1p_cpm
from hespotex.models.types import Prediction


def test_every_score_of_a_section_is_where_its_name_says() -> None:
    section = toy_cohort(n_side=9).items[0].section
    assert section.genes is not None
    counts = GenePanel(tuple(section.genes.tolist())).counts(section)
    rng = np.random.default_rng(0)
    measured = log1p_cpm(counts.counts)
    noise = rng.normal(size=measured.shape).astype(np.float32)
    prediction = Prediction(measured + noise, noise, np.ones(len(noise), np.float32))
    found = section_evidence(prediction, counts, section.xy_um, np.full(30, 1 / 30))
    usual = pcc_interval(prediction.log1p, measured, section.xy_um)
    np.testing.assert_allclose(found.pcc_log1p_lower, usual.lower)
    np.testing.assert_allclose(found.pcc_log1p_upper, usual.upper)
    np.testing.assert_allclose(found.null_p, stats.norm.sf(found.null_z))
    expected = [
        stats.spearmanr(a, b)[0] for a, b in zip(prediction.log1p.T, measured.T, strict=True)
    ]
    np.testing.assert_allclose(found.spearman_log1p, expected, rtol=1e-6)
    assert found.pcc_log1p_lower.mean() > found.pcc_composition_lower.mean()  # signal against noise
