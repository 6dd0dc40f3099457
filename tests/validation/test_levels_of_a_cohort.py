"""Levels from training to a cohort: both grades, values that differ between patients, intervals as wide as levels are off."""

from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pytest

from helpers.feature_cohort import write_cohort
from helpers.levelled_slides import levelled_slides
from hespotex import pipeline
from hespotex.analysis.cohort import cohort
from hespotex.config import RunConfig
from hespotex.models.bundle import read_model, write_model
from hespotex.models.default.level import log_shares
from hespotex.predicting import SlideOptions

pytestmark = [pytest.mark.usefixtures("blank_pictures"), pytest.mark.slow]

CONFIG = RunConfig.from_values(
    {"model": {"epochs": 1, "ensemble": 2, "hidden": 8, "n_components": 8}}
)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, anndata.AnnData], object]:
    """Eight new patients by a model of 16, with its level and with the level taken out; and what was made."""
    folder, made = tmp_path_factory.mktemp("cohort"), levelled_slides(24)
    manifest = write_cohort(folder / "old", made.cohort.items[:16])
    new = write_cohort(folder / "new", made.cohort.items[16:])
    model = pipeline.train(manifest, folder / "with.hespotex", config=CONFIG)
    bundle = read_model(model)
    kept = {k: v for k, v in bundle.model.tensors.items() if not k.startswith("level.")}
    without = replace(bundle, model=replace(bundle.model, tensors=kept))
    write_model(folder / "without.hespotex", without)
    found = {}
    for name in ("with", "without"):
        pipeline.predict(
            folder / f"{name}.hespotex", new, folder / name, options=SlideOptions(all_genes=True)
        )
        cohort([folder / name], folder / f"{name}.cohort")
        found[name] = anndata.read_h5ad(folder / f"{name}.cohort" / "cohort.h5ad")
    return found, made


def test_a_cohort_has_both_grades_of_every_gene(cohorts):
    var = cohorts[0]["with"].var
    assert set(var.level_grade.astype(str)) >= {"A", "D"}
    assert "grade" in var
    assert var.level_grade.astype(str).tolist() != var.grade.astype(str).tolist()


def test_values_of_patients_differ_by_their_levels_and_follow_the_measured_ones(cohorts):
    found, made = cohorts
    x, plain = (np.asarray(found[name].X) for name in ("with", "without"))
    names = found["with"].var_names.tolist()
    measured = _measured(made, names, found["with"].obs_names.tolist())
    shown = np.array([int(name[1:]) < 30 for name in names])
    assert x[:, shown].std(axis=0).mean() > 1.5 * plain[:, shown].std(axis=0).mean()
    error, without = (
        np.square((values - values.mean(axis=0)) - (measured - measured.mean(axis=0)))[:, shown]
        for values in (x, plain)
    )
    assert error.mean() < 0.7 * without.mean()


def test_intervals_of_a_patient_hold_the_measured_pseudobulk_as_the_level_is_off(cohorts):
    found, made = cohorts
    table = found["with"]
    lower, upper = (np.asarray(table.layers[name]) for name in ("lower", "upper"))
    names = table.var_names.tolist()
    measured = _measured(made, names, table.obs_names.tolist())
    inside = (lower <= measured) & (measured <= upper)
    assert 0.8 <= inside.mean() <= 0.98
    width = (upper - lower).mean(axis=0)
    shown = np.array([int(name[1:]) < 30 for name in names])
    # Hidden levels are off by 0.5 in natural log, those that slides show by less.
    assert np.median(width[~shown]) > 1.2 * np.median(width[shown])


def _measured(made, genes: list[str], patients: list[str]) -> np.ndarray:
    """(P, G) log1p of counts per million of each patient's slide."""
    by_patient = {i.section.patient_id: i.section for i in made.cohort.items}
    rows = []
    for name in patients:
        section = by_patient[name]
        order = [section.genes.tolist().index(g) for g in genes]
        rows.append(log_shares(np.asarray(section.counts.sum(axis=0)).ravel())[order])
    return np.log1p(1e6 * np.exp(np.stack(rows)))
