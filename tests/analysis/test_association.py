"""Tests over patients find what was stated, nothing in shuffled labels, and say what their numbers rest on."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.commands import command
from helpers.made_association import (
    GENES,
    IN_BULK,
    OF_GROUP,
    OF_TIME,
    PATIENTS,
    bulk_values,
    groups,
    made_cohort,
)
from hespotex.analysis.association.bulk import _across_genes, against_bulk
from hespotex.analysis.association.correlations import steiger
from hespotex.analysis.association.groups import between_groups
from hespotex.analysis.association.patients import read_patients
from hespotex.analysis.association.survival import with_survival
from hespotex.progress import Silent


def _found(table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["q_value"] <= 0.05, "feature"])


def _written(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path)
    return path


def test_slides_of_a_patient_are_one_row(tmp_path: Path) -> None:
    table = read_patients(made_cohort())
    assert table.names == list(PATIENTS)
    assert "45 slides of 40 patients: slides of a patient are joined" in table.notes[0]


def test_bulk_finds_the_genes_that_follow_and_no_other(tmp_path: Path) -> None:
    bulk = _written(tmp_path / "bulk.csv", bulk_values().T)
    found = against_bulk(read_patients(made_cohort()), bulk)
    assert set(GENES[IN_BULK]) <= _found(found.table)
    assert len(_found(found.table) - set(GENES[IN_BULK])) <= 2
    row = found.table.set_index("feature").loc[GENES[0]]
    assert row["pcc"] > 0.8
    assert row["pcc_lower"] < row["pcc"] < row["pcc_upper"]
    assert (found.table["n_patients"] == 40).all()
    numbers = found.numbers["per_patient_across_genes"]
    assert numbers["same_profile"] > 0.6  # gene means alone
    text = " ".join(found.findings)
    assert "Per gene ACROSS 40 patients" in text
    assert "Per patient ACROSS genes" in text
    assert found.first[0].startswith(
        "The level of 30 of 30 genes is not shown to tell patients apart"
    )


def test_a_ridge_that_knows_as_much_leaves_nothing_above_the_best_baseline(tmp_path: Path) -> None:
    bulk = _written(tmp_path / "bulk.csv", bulk_values().T)
    path = tmp_path / "cohort.h5ad"
    table = anndata.read_h5ad(made_cohort())
    table.layers["ridge"] = table.X.copy()
    table.write_h5ad(path)
    plain = against_bulk(read_patients(made_cohort(), with_ridge=True), bulk)
    beside = against_bulk(read_patients(path, with_ridge=True), bulk)
    assert (plain.table["steiger_q"] <= 0.05).sum() >= 10
    assert (beside.table["steiger_q"] <= 0.05).sum() == 0
    own = beside.table.set_index("feature").loc[list(GENES[IN_BULK])]
    assert set(own["best_baseline"]) == {"ridge on the mean feature"}
    np.testing.assert_allclose(own["pcc_of_best_baseline"], own["pcc"], atol=0.02)
    assert "predictions carry no ridge" in " ".join(plain.findings)
    assert "carry no ridge" not in " ".join(beside.findings)


def test_numbers_across_genes_are_those_of_the_whole_table_of_patients_by_patients() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 7, 1300))
    second += 0.5 * first
    own, of_all = _across_genes(first, second)
    matrix = np.corrcoef(first, second)[:7, 7:]
    np.testing.assert_allclose(own, np.diag(matrix))
    np.testing.assert_allclose(of_all, matrix.mean(axis=0), atol=1e-12)
    one, _ = _across_genes(first[:1], second)
    np.testing.assert_allclose(one, matrix[0])


def test_shuffled_bulk_finds_nothing(tmp_path: Path) -> None:
    table = bulk_values()
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = table.iloc[order].set_index(table.index)
    found = against_bulk(read_patients(made_cohort()), _written(tmp_path / "b.csv", shuffled.T))
    assert len(_found(found.table)) <= 1
    assert found.numbers["across_patients"]["p_of_mean_pcc"] > 0.02


def test_a_difference_between_strata_is_no_signal_within(tmp_path: Path) -> None:
    """Bulk and prediction differ by cancer type and in nothing else: found without strata, not with them."""
    patients = read_patients(made_cohort())
    luad = (patients.obs["cancer_type"] == "LUAD").to_numpy()
    patients.values[:, 25] += 3.0 * luad
    bulk = bulk_values()
    bulk[GENES[25]] *= np.where(luad, 20.0, 1.0)
    path = _written(tmp_path / "b.csv", bulk)
    assert GENES[25] in _found(against_bulk(patients, path).table)
    within = against_bulk(patients, path, within=["cancer_type"])
    assert GENES[25] not in _found(within.table)
    assert set(GENES[IN_BULK]) <= _found(within.table)
    assert within.numbers["across_patients"]["effective_n"] == 39


def test_two_samples_of_a_patient_are_averaged_and_set_a_ceiling(tmp_path: Path) -> None:
    first, second = bulk_values(seed=7), bulk_values(seed=7)
    second = second * np.exp(np.random.default_rng(1).normal(scale=0.1, size=second.shape))
    first.index = [f"{p}-01A-11R" for p in PATIENTS]
    second.index = [f"{p}-01B-11R" for p in PATIENTS]
    found = against_bulk(
        read_patients(made_cohort()), _written(tmp_path / "b.csv", pd.concat([first, second]).T)
    )
    assert found.numbers["ceiling"]["patients_with_two_samples"] == 40
    assert found.table["bulk_ceiling"].between(0.9, 1).all()
    assert "Two bulk samples of 40 patients set the ceiling" in found.findings[-1]


@pytest.mark.slow
def test_groups_find_the_genes_that_differ(tmp_path: Path) -> None:
    found = between_groups(read_patients(made_cohort()), "arm", Silent(), adjust=["age"])
    table = found.table.set_index("feature")
    assert set(GENES[OF_GROUP]) <= _found(found.table)
    assert table.loc[list(GENES[OF_GROUP]), "effect"].between(0.3, 1.2).all()
    assert found.numbers["groups"] == {"a": 20, "b": 20}
    classifier = found.numbers["classifier"]
    assert classifier["auroc"] > 0.9
    assert classifier["null_mean"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_the_linear_model_without_covariates_is_the_t_test() -> None:
    patients = read_patients(made_cohort())
    found = between_groups(patients, "arm", Silent()).table.set_index("feature")
    for gene in GENES[10:14]:
        values = patients.of_feature(gene)
        t = stats.ttest_ind(values[groups() == "b"], values[groups() == "a"])
        assert found.loc[gene, "p_value"] == pytest.approx(t.pvalue, rel=1e-6)
        low, high = t.confidence_interval()
        np.testing.assert_allclose(
            found.loc[gene, ["lower", "upper"]].astype(float), [low, high], rtol=1e-6
        )


@pytest.mark.slow
def test_shuffled_groups_find_nothing() -> None:
    patients = read_patients(made_cohort())
    patients.obs["arm"] = np.random.default_rng(2).permutation(patients.obs["arm"].to_numpy())
    found = between_groups(patients, "arm", Silent())
    assert not _found(found.table)
    assert found.numbers["classifier"]["p_value"] > 0.02


@pytest.mark.slow
def test_survival_finds_the_gene_that_shortens_life() -> None:
    found = with_survival(read_patients(made_cohort()), "months", "death", Silent(), adjust=["age"])
    row = found.table.iloc[0]
    assert row["feature"] == GENES[OF_TIME]
    assert row["q_value"] < 0.01
    assert row["lower"] > 1
    assert len(_found(found.table)) <= 2
    assert found.numbers["profile_model"]["null_mean"] == pytest.approx(0.5, abs=0.08)
    assert {p.name for p in found.pictures} == {"volcano", "kaplan_meier", "profile_model"}


def test_steiger_is_that_of_the_literature_and_zero_between_equals() -> None:
    """Steiger (1980), page 247: r12 0.50, r13 0.32, r23 0.25 (n 103) gave Z of about 1.68 by the pooled estimate."""
    r = [np.array([v]) for v in (0.5, 0.32, 0.25)]
    z, p = steiger(*r, 103)
    assert z[0] == pytest.approx(1.68, abs=0.03)
    assert p[0] == pytest.approx(stats.norm.sf(z[0]))
    assert steiger(r[0], r[0], r[2], 103)[0] == pytest.approx(0, abs=1e-12)


def test_every_file_says_research_use_and_grades_travel(tmp_path: Path) -> None:
    bulk = _written(tmp_path / "bulk.csv", bulk_values())
    said = command(
        "associate", made_cohort(), "--out", tmp_path / "o", "--bulk", bulk, "--adjust", "age"
    )
    assert said.exit_code == 0, said.output
    assert "is not shown to tell patients apart" in " ".join(said.stderr.split())
    assert "Research use only" in said.stdout
    for name in ("features.csv", "dropped.csv", "patients.csv"):
        table = pd.read_csv(tmp_path / "o" / name)
        assert (table["use"] == "research use only").all()
    features = pd.read_csv(tmp_path / "o" / "features.csv")
    assert set(features["level_grade"]) == {"ungraded"}
    numbers = json.loads((tmp_path / "o" / "association.json").read_text())
    assert numbers["use"] == "research use only"
    page = (tmp_path / "o" / "report.html").read_text()
    assert "research use only" in page
    assert page.index("is not shown to tell patients apart") < page.index("Per gene ACROSS")
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
