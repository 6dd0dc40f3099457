"""Simulated features know what is painted and how it is stained, and nothing of what no slide shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from hespotex.datasets import PaintedPlan, Scanner, draw_patients
from hespotex.datasets.simulated import simulated_cohort, simulated_sections
from hespotex.models.types import Cohort

PLAN = PaintedPlan(
    seed=4,
    patients=draw_patients(8, scanners=("a", "b")),
    sections_per_patient=1,
    n_genes=100,
    lattice="hexagonal",
    side_um=900.0,
    mpp=8.0,
    one_stain=True,
    scanners={"a": Scanner(), "b": Scanner(((0.8, 0.15, 0.05), (0.1, 0.9, 0.1), (0.0, 0.2, 0.8)))},
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return simulated_cohort(PLAN)


def test_the_counts_are_those_of_the_painted_section(cohort: Cohort) -> None:
    painted, item = PLAN.section(1, 0), cohort.items[1]
    assert painted.arrays.image.shape == (112, 112, 3)
    assert item.section.counts is not None
    np.testing.assert_array_equal(item.section.counts.toarray(), painted.arrays.counts)
    np.testing.assert_allclose(item.section.xy_um, painted.arrays.xy_um)
    assert item.features.shape == (len(painted.arrays.counts), 2, 32)
    assert (item.section.section_id, item.section.patient_id) == ("P2S1", "P2")


def test_sections_come_one_by_one_and_the_same_again(cohort: Cohort) -> None:
    first = next(simulated_sections(PLAN))
    assert first.features.tobytes() == cohort.items[0].features.tobytes()
    assert len(cohort.items) == 8
    other = next(simulated_sections(replace(PLAN, seed=5)))
    assert other.features[0, 0, 0] != first.features[0, 0, 0]


def test_features_tell_the_genes_of_tissues_and_not_the_smooth_ones(cohort: Cohort) -> None:
    features, composition = [], []
    for item in cohort.items:
        assert item.section.counts is not None
        counts = item.section.counts.toarray() + 0.5
        x = item.features.reshape(len(counts), -1)
        y = np.log(counts / counts.sum(axis=1, keepdims=True))
        features.append(x - x.mean(axis=0))
        composition.append(y - y.mean(axis=0))
    model = Ridge(30.0).fit(np.concatenate(features[:5]), np.concatenate(composition[:5]))
    found = model.predict(np.concatenate(features[5:])), np.concatenate(composition[5:])
    r = (found[0] * found[1]).sum(axis=0)
    r /= np.sqrt((found[0] ** 2).sum(axis=0) * (found[1] ** 2).sum(axis=0)) + 1e-12
    programme = PLAN.genes.programme
    assert r[np.isin(programme, ("tumour", "immune"))].mean() > 0.3
    assert abs(r[programme == "smooth"].mean()) < 0.1


def test_a_scanner_shows_in_the_features_unless_they_are_deaf_to_it(cohort: Cohort) -> None:
    on_b = np.array([p.scanner == "b" for p in PLAN.patients])
    assert on_b.sum() == 4

    def apart(sections: Cohort) -> float:
        mean = np.array([item.features.mean(axis=(0, 1)) for item in sections.items])
        gap = np.abs(mean[on_b].mean(axis=0) - mean[~on_b].mean(axis=0))
        inside = np.concatenate([mean[g] - mean[g].mean(axis=0) for g in (on_b, ~on_b)]).std(axis=0)
        return float((gap / inside).max())

    assert apart(cohort) > 2 * apart(simulated_cohort(PLAN, stain=0.0))
