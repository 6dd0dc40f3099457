"""Tables as people have them: what is missing, coded, doubled or said twice gives right numbers or one clear line."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from benchmarks.made_predictions import pooled_of, write_made_prediction
from lifelines import CoxPHFitter
from scipy import stats

from helpers.commands import command, refusal
from helpers.made_association import GENES, PATIENTS, bulk_values, clinical, made_cohort
from hespotex.analysis.association.bulk import against_bulk
from hespotex.analysis.association.bulk_table import read_bulk
from hespotex.analysis.association.groups import between_groups
from hespotex.analysis.association.patients import covariates, read_patients
from hespotex.analysis.association.profiles import components, products
from hespotex.analysis.association.survival import with_survival
from hespotex.analysis.cohort import cohort
from hespotex.errors import ConfigError, RunError
from hespotex.evaluation.regions import SIZES
from hespotex.genes.gene_sets import SetScores
from hespotex.progress import Silent

NAMES = ("007", "012", "100")


def _slides(
    folder: Path, names: tuple[str, ...], patients: tuple[str, ...], **more: object
) -> Path:
    for k, (name, patient) in enumerate(zip(names, patients, strict=True)):
        write_made_prediction(
            folder / "predictions" / f"{name}.h5ad", level=np.linspace(0, 0.2 * k, 6), section_id=name, patient_id=patient,
            genes=tuple(f"G{j}" for j in range(6)), side=5, seed=k, **more,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients whose ids look like numbers."""
    return _slides(tmp_path_factory.mktemp("numbered"), tuple(f"S{n}" for n in NAMES), NAMES)


def _obs(slides: Path, tmp_path: Path, text: str, name: str = "t.tsv") -> pd.DataFrame:
    (tmp_path / name).write_text(text)
    found = cohort(slides, tmp_path / "c", clinical=tmp_path / name)
    return anndata.read_h5ad(found.paths.h5ad).obs


def test_ids_and_codes_that_begin_with_zero_stay_as_they_are(
    numbered: Path, tmp_path: Path
) -> None:
    obs = _obs(numbered, tmp_path, "patient_id\tsite\tgrade\n007\t01\t1\n012\t1\t2\n100\t02\t3\n")
    assert obs.index.tolist() == list(NAMES)
    assert obs["site"].tolist() == ["01", "1", "02"]
    assert obs["grade"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("nothing", ["NA", "nan", "'--", "[Not Available]", "not reported", "N/A"])
def test_words_for_nothing_are_empty_cells(numbered: Path, tmp_path: Path, nothing: str) -> None:
    text = f"patient_id\tage\tdrug\n007\t61\tnone\n012\t{nothing}\t{nothing}\n100\t50.5\tX\n"
    obs = _obs(numbered, tmp_path, text)
    np.testing.assert_array_equal(obs["age"], [61, np.nan, 50.5])
    assert obs["drug"].isna().tolist() == [False, True, False]
    assert obs["drug"].iloc[0] == "none"  # a group of patients without a drug


def test_a_table_of_samples_is_matched_by_its_patients(numbered: Path, tmp_path: Path) -> None:
    text = "SAMPLE_ID\tPATIENT_ID\tstage\n007-01\t007\tI\n012-01\t012\tII\n100-01\t100\tI\n"
    assert _obs(numbered, tmp_path, text)["stage"].tolist() == ["I", "II", "I"]


@pytest.mark.parametrize("above", ["#Patient\tAge\n#STRING\tNUMBER\n", "# of Friday\n", "#"])
def test_lines_of_comments_above_the_names_are_passed_over(
    numbered: Path, tmp_path: Path, above: str
) -> None:
    obs = _obs(numbered, tmp_path, f"{above}patient_id\tage\n007\t1\n012\t2\n100\t3\n")
    assert obs["age"].tolist() == [1, 2, 3]


def test_a_workbook_is_named_and_how_to_save_it(numbered: Path, tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("xl/workbook.xml", "<workbook/>")
    line = refusal(command("cohort", numbered, "--out", tmp_path / "c", "--clinical", path))
    assert "found an Excel workbook; save it as CSV UTF-8 and give that file" in line
    assert not (tmp_path / "c").exists()


def test_a_file_that_is_still_being_written_is_none(numbered: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(numbered, tmp_path / "run")
    (folder / "predictions" / ".S9.h5ad.tmp.h5ad").write_bytes(b"\x89HDF half")
    said = command("cohort", folder, "--out", tmp_path / "c")
    assert said.exit_code == 0
    assert "3 rows (patient)" in said.stdout
    assert "could not be used" not in said.stdout


def test_frozen_slides_have_no_part_beside_ffpe_ones(tmp_path: Path) -> None:
    ids = ("TCGA-AA-0001-01Z-00-DX1", "TCGA-AA-0001-01A-01-TS1", "TCGA-AA-0002-01A-01-TS1")
    slides = _slides(tmp_path / "run", ids, ("", "", ""))
    both = cohort(slides, tmp_path / "p")
    table = anndata.read_h5ad(both.paths.h5ad)
    alone = anndata.read_h5ad(cohort(slides, tmp_path / "s", by="slide").paths.h5ad)
    assert table.obs["slides"].tolist() == [ids[0], ids[2]]
    assert table.obs["preparation"].tolist() == ["FFPE", "frozen"]
    np.testing.assert_array_equal(table.X, alone[[ids[0], ids[2]]].X)
    assert "1 slide without a part in the row of a patient" in " ".join(both.notes)


def test_gene_sets_and_intervals_come_along_and_are_tested(tmp_path: Path) -> None:
    """Two sets; the first is higher in every second patient. Half widths are those of the largest region."""
    genes = tuple(f"G{j}" for j in range(6))
    width = np.tile(np.array([0.4, 0.3, 0.2, 0.1], np.float32)[: len(SIZES), None], (1, 6))
    for k in range(12):
        rng = np.random.default_rng(k)
        values = rng.normal(rng.normal(scale=0.1), 0.1, size=(25, 2))
        values[:, 0] += 0.8 * (k % 2)
        sets = SetScores(
            ("HYPOXIA", "OTHER"), ("B", "ungraded"), np.array([5, 4]), np.array([4, 3]), values.astype(np.float32)
        )  # fmt: skip
        write_made_prediction(
            tmp_path / "run" / "predictions" / f"S{k}.h5ad", level=rng.normal(scale=0.1, size=6), section_id=f"S{k}",
            patient_id=f"P{k}", genes=genes, side=5, seed=k, gene_sets=sets, half_width=width, level_grades=["B"] * 6,
            grades=["A"] * 6,
        )  # fmt: skip
    rows = "".join(f"P{k},{'ab'[k % 2]}\n" for k in range(12))
    (tmp_path / "t.csv").write_text(f"patient_id,arm\n{rows}")
    path = cohort(tmp_path / "run", tmp_path / "c", clinical=tmp_path / "t.csv").paths.h5ad
    table = anndata.read_h5ad(path)
    assert table.obsm["gene_sets"].shape == (12, 2)
    assert table.uns["hespotex"]["gene_sets"]["grade"].tolist() == ["B", "ungraded"]
    assert (set(table.var["grade"]), set(table.var["level_grade"])) == ({"A"}, {"B"})
    for name, sign in (("lower", -1), ("upper", 1)):
        np.testing.assert_allclose(
            np.expm1(table.layers[name]), np.expm1(table.X) * np.exp(sign * width[-1, 0]), rtol=1e-4
        )
    text = pd.read_csv(path.with_name("gene_sets.csv"), index_col=0)
    np.testing.assert_allclose(text[["HYPOXIA", "OTHER"]], table.obsm["gene_sets"], rtol=1e-4)
    for name in ("gene_sets.csv", "expression.csv", "genes.csv", "slides.csv"):
        assert set(pd.read_csv(path.with_name(name))["use"]) == {"research use only"}
    found = between_groups(read_patients(path), "arm", Silent())
    of_sets = found.table[found.table["kind"] == "gene set"].set_index("feature")
    assert of_sets.loc["HYPOXIA", "q_value"] < 1e-4
    assert of_sets.loc["OTHER", "q_value"] > 0.05
    assert of_sets["level_grade"].tolist() == ["ungraded", "ungraded"]
    assert "1 of 2 gene sets differ" in found.findings[0]


def test_components_of_many_patients_rest_on_some_of_the_training_ones_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 30)) + 3 * rng.normal(size=(60, 1)) * rng.normal(size=30)
    folds = [(np.arange(48), np.arange(48, 60))]
    order = np.arange(60)
    ((_, whole, _),) = components(products(values), order, folds)
    monkeypatch.setattr("hespotex.analysis.association.profiles._MOST_FITTED", 20)
    ((_, fitted, other),) = components(products(values), order, folds)
    assert (len(fitted), len(other)) == (48, 12)
    assert abs(np.corrcoef(whole[:, 0], fitted[:, 0])[0, 1]) > 0.99
    assert not np.allclose(np.abs(whole), np.abs(fitted))
    moved = values.copy()
    moved[50] += 9
    ((_, again, another),) = components(products(moved), order, folds)
    np.testing.assert_array_equal(fitted, again)
    same = np.arange(12) != 2
    np.testing.assert_allclose(other[same], another[same], atol=1e-12)
    assert not np.allclose(other[2], another[2])


def _with(**columns: object) -> object:
    patients = read_patients(made_cohort())
    for name, values in columns.items():
        patients.obs[name] = values
    return patients


def test_a_covariate_that_says_nothing_new_changes_nothing_and_is_named() -> None:
    age = clinical()["age"].to_numpy(float)
    plain = _with()
    _, design, names = covariates(plain, ["age"])
    more = _with(months_old=12 * age, birth_ns=1e18 - age, one="same", zero=0.0)
    table, wide, kept = covariates(more, ["age", "months_old", "one", "zero"])
    assert kept == names == ("age",)
    np.testing.assert_allclose(wide, design)
    assert "Of --adjust months_old, one, zero changed nothing" in table.notes[-1]


@pytest.mark.slow
def test_a_group_model_with_covariates_is_that_of_statsmodels() -> None:
    patients = _with(cells=np.arange(40) * 1e6, doubled=np.arange(40) * 2e6)
    adjust = ["age", "cancer_type", "cells", "doubled"]
    found = between_groups(patients, "arm", Silent(), adjust=adjust).table.set_index("feature")
    obs = patients.obs
    design = sm.add_constant(
        np.column_stack([obs["arm"] == "b", obs["age"], obs["cancer_type"] == "LUAD", np.arange(40)]).astype(float)
    )  # fmt: skip
    for gene in GENES[10:14]:
        fit = sm.OLS(patients.of_feature(gene), design).fit()
        assert found.loc[gene, "effect"] == pytest.approx(fit.params[1], rel=1e-5)
        assert found.loc[gene, "p_value"] == pytest.approx(fit.pvalues[1], rel=1e-5)


@pytest.mark.slow
def test_three_groups_are_the_f_test_and_a_group_of_one_is_left_out() -> None:
    stage = np.array(["I", "II", "III"] * 13 + ["IV"])
    patients = _with(stage=stage)
    found = between_groups(patients, "stage", Silent())
    assert found.numbers["groups"] == {"I": 13, "II": 13, "III": 13}
    assert "group IV has fewer than 3 patients" in found.dropped["why"].tolist()
    row = found.table.set_index("feature").loc[GENES[3]]
    values = [patients.of_feature(GENES[3])[stage == s] for s in ("I", "II", "III")]
    assert row["p_value"] == pytest.approx(stats.f_oneway(*values).pvalue, rel=1e-5)


def test_long_numbers_as_groups_stay_two_groups() -> None:
    patients = _with(centre=np.where(np.arange(40) % 2, 1234561.0, 1234562.0))
    with pytest.raises(ConfigError, match=r"found a design in which they cannot be told apart"):
        between_groups(patients, "centre", Silent(), adjust=["centre"])


@pytest.mark.slow
@pytest.mark.parametrize("words", [("TRUE", "False"), ("1", "0"), (True, False)])
def test_survival_is_that_of_lifelines_however_events_are_written(
    monkeypatch: pytest.MonkeyPatch, words: tuple[object, object]
) -> None:
    monkeypatch.setattr("hespotex.analysis.association.survival._SHUFFLES", 3)
    happened = clinical()["death"].to_numpy(bool)
    patients = _with(event=np.where(happened, *np.array(words, dtype=object)))
    found = with_survival(patients, "months", "event", Silent(), adjust=["age"]).table
    row, values = found.iloc[0], patients.of_feature(found.iloc[0]["feature"])
    frame = pd.DataFrame(
        {"x": (values - values.mean()) / values.std(), "age": clinical()["age"], "t": clinical()["months"], "e": happened}
    )  # fmt: skip
    fit = CoxPHFitter().fit(frame, "t", "e").summary.loc["x"]
    assert row["hazard_ratio"] == pytest.approx(fit["exp(coef)"], rel=1e-4)
    assert row["p_value"] == pytest.approx(fit["p"], rel=1e-3)


@pytest.mark.slow
def test_a_model_that_cannot_be_cross_validated_has_no_p_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "hespotex.analysis.association.survival._concordance"
    monkeypatch.setattr(name, lambda *_a: float("nan"))
    found = with_survival(_with(), "months", "death", Silent())
    assert found.numbers["profile_model"]["p_value"] is None
    assert "could not be cross-validated" in found.findings[-1]
    assert "profile_model" not in {p.name for p in found.pictures}


@pytest.mark.parametrize("turned", [True, False])
def test_rows_of_one_gene_are_summed_or_of_logs_the_largest_is_kept(
    tmp_path: Path, turned: bool
) -> None:
    tpm = bulk_values()
    part = pd.DataFrame({GENES[0]: 0.25 * tpm[GENES[0]]})
    halves = pd.concat([tpm.assign(**{GENES[0]: 0.75 * tpm[GENES[0]]}), part], axis=1)

    def read(table: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, str, str]]]:
        (table.T if turned else table).to_csv(tmp_path / "t.csv")
        found = read_bulk(tmp_path / "t.csv", GENES, PATIENTS)
        place = [found.genes.index(g) for g in GENES]
        return found.values[:, place], list(found.dropped)

    linear, said = read(halves)
    np.testing.assert_allclose(linear, np.log1p(tpm.to_numpy()), rtol=1e-4)
    assert said == [("bulk gene", GENES[0], "several rows of one gene: summed")]
    logs, said = read(np.log2(halves + 1))
    np.testing.assert_allclose(logs[:, 0], np.log2(0.75 * tpm[GENES[0]] + 1), rtol=1e-4)
    assert said[0][2] == "several rows of one gene: logs, the one with most counts"


def test_patients_with_numbers_for_names_are_found_beside_a_column_of_words(
    tmp_path: Path,
) -> None:
    tpm = bulk_values()
    names = [f"{i:03d}" for i in range(len(tpm))]
    tpm.index = pd.Index(names, name="id")
    tpm.insert(0, "cancer", "BRCA")
    tpm.to_csv(tmp_path / "t.csv")
    assert read_bulk(tmp_path / "t.csv", GENES, names).patients == tuple(names)


def test_the_unit_says_by_which_rule_it_was_found(tmp_path: Path) -> None:
    tpm = bulk_values()
    tpm.to_csv(tmp_path / "a.csv")
    np.log2(tpm + 1).to_csv(tmp_path / "b.csv")
    said = [read_bulk(tmp_path / n, GENES, PATIENTS).unit for n in ("a.csv", "b.csv")]
    assert "(every sample has a value above 25)" in said[0]
    assert "(no sample has a value above 25:" in said[1]


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_bulk_in_blocks_of_genes_is_scipy_and_the_plain_shuffling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("hespotex.analysis.association.profiles._AT_ONCE", at_once)
    bulk_values().to_csv(tmp_path / "b.csv")
    patients = read_patients(made_cohort())
    found = against_bulk(patients, tmp_path / "b.csv")
    log = np.log1p(bulk_values())
    rows = found.table.set_index("feature")
    for gene in GENES[::7]:
        r = stats.pearsonr(patients.of_feature(gene), log[gene], alternative="greater")
        assert rows.loc[gene, "pcc"] == pytest.approx(r.statistic, abs=1e-5)
        assert rows.loc[gene, "p_value"] == pytest.approx(r.pvalue, rel=1e-3)
        rho = stats.spearmanr(patients.of_feature(gene), log[gene]).statistic
        assert rows.loc[gene, "spearman"] == pytest.approx(rho, abs=1e-6)
    own = [np.corrcoef(a, b)[0, 1] for a, b in zip(patients.values, log.to_numpy(), strict=True)]
    per_patient = found.tables["patients"]["pcc_across_genes"]
    np.testing.assert_allclose(per_patient, own, atol=1e-5)
    profile = np.log1p(1e6 * pooled_of(len(GENES)))
    same = [np.corrcoef(profile, b)[0, 1] for b in log.to_numpy()]
    np.testing.assert_allclose(found.tables["patients"]["pcc_of_same_profile"], same, atol=1e-5)
    assert abs(found.numbers["across_patients"]["mean_pcc_of_shuffled_pairs"]) < 0.01


def test_a_cohort_in_which_no_gene_was_shown_to_be_predicted_is_one_line(tmp_path: Path) -> None:
    whole = anndata.read_h5ad(made_cohort())
    assert "gene_sets" not in whole.obsm
    whole[:, :0].copy().write_h5ad(tmp_path / "cohort.h5ad")
    with pytest.raises(RunError, match=r"genes or gene sets in .*found none.*--all-genes"):
        read_patients(tmp_path / "cohort.h5ad")
