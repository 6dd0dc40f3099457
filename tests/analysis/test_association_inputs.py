"""Inputs of `associate`: what does not fit is one clear line and leaves nothing; what groups exchange passes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.made_predictions import write_made_prediction

from helpers.commands import command, refusal
from helpers.made_association import GENES, PATIENTS, bulk_values, made_cohort
from hespotex.analysis.association import survival
from hespotex.analysis.association.bulk import against_bulk
from hespotex.analysis.association.bulk_table import read_bulk
from hespotex.analysis.association.patients import independent, read_patients
from hespotex.analysis.cohort import cohort
from hespotex.analysis.patient_ids import patient_of, preparation_of
from hespotex.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "expected exactly one of --bulk, --group, --time with --event, found none of them"),
        (("--group", "arm", "--time", "months"), "found --group and --time with --event"),
        (("--time", "months"), "expected both --time and --event, found --time alone"),
        (("--event", "death"), "expected both --time and --event, found --event alone"),
        (("--group", "arm", "--within", "age"), "expected --within with --bulk, found --within with --group"),
        (("--group", "nope"), "expected a column nope of the cohort for --group"),
        (("--group", "one"), "expected two groups or more in column one, found one: same, 40 patients"),
        (("--group", "rare"), "expected two groups of 3 patients or more in column rare, found z (38), "),
        (("--group", "measurement"), "expected at most 12 groups in column measurement, found 40 different"),
        (("--group", "arm", "--adjust", "nope"), "expected a column nope of the cohort for --adjust"),
        (("--group", "arm", "--adjust", "patient_id"), "expected more patients than columns of --adjust need"),
        (("--group", "arm", "--adjust", "arm"), "expected covariates that are not the groups themselves"),
        (("--time", "negative", "--event", "death"), "expected times of 0 or longer in column negative, found 1 negative time: TCGA-AA-1003 -5"),
        (("--time", "words", "--event", "death"), "expected times as numbers in column words, found 'soon'"),
        (("--time", "months", "--event", "status"), "expected 1 (event) or 0 (lost before it) in column status, found 'alive', 'dead'"),
        (("--time", "months", "--event", "age"), "expected 1 (event) or 0 (lost before it) in column age"),
        (("--time", "death", "--event", "death"), "expected two columns for --time and --event, found death for both"),
        (("--time", "months", "--event", "death", "--adjust", "age,months"), "expected covariates beside time and event for --adjust, found months"),
        (("--time", "equal", "--event", "death"), "expected times that differ in column equal, found 7 for 40 patients"),
        (("--bulk", "missing.csv"), "expected a readable file at missing.csv"),
    ],
)  # fmt: skip
def test_a_column_that_does_not_fit_is_one_line_and_leaves_nothing(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    line = refusal(command("associate", made_cohort(), "--out", tmp_path / "o", *options))
    assert said in line
    assert not (tmp_path / "o").exists()


def test_another_h5ad_is_no_cohort(tmp_path: Path) -> None:
    path = tmp_path / "S.h5ad"
    write_made_prediction(
        path, level=np.zeros(3), section_id="S", patient_id="P", genes=("A", "B", "C"), side=3
    )
    line = refusal(command("associate", path, "--out", tmp_path / "o", "--group", "arm"))
    assert "expected a cohort of hespotex in" in line
    assert "make one: hespotex cohort PREDICTED" in line


def test_without_lifelines_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'hespotex\[cohort\]'"):
        survival.check_lifelines()


def _read(path: Path, table: pd.DataFrame, **more: object):
    table.to_csv(path)
    return read_bulk(path, GENES, PATIENTS, **more)  # type: ignore[arg-type]


def test_every_way_round_and_every_unit_gives_the_same_values(tmp_path: Path) -> None:
    tpm = bulk_values()
    plain = _read(tmp_path / "a.csv", tpm)
    assert plain.patients == PATIENTS
    assert plain.unit.startswith("linear values")
    np.testing.assert_allclose(plain.values, np.log1p(tpm.to_numpy()), rtol=1e-6)
    turned = _read(tmp_path / "b.tsv.gz", tpm.T)
    np.testing.assert_allclose(turned.values, plain.values)
    counts = _read(tmp_path / "c.csv", (tpm * 20).round())
    assert counts.unit.startswith("whole numbers, taken as counts")
    np.testing.assert_allclose(counts.values, plain.values, atol=2e-3)
    logs = _read(tmp_path / "d.csv", np.log2(tpm + 1))
    assert logs.unit.startswith("values on a log scale")
    np.testing.assert_allclose(logs.values * np.log(2), plain.values, rtol=1e-6)


def test_ensembl_ids_with_versions_beside_symbols_are_found(tmp_path: Path) -> None:
    table = bulk_values().T
    table.insert(0, "gene_name", table.index)
    table.index = [f"ENSG{100 + j:011d}.{j % 9 + 1}" for j in range(len(table))]
    assert _read(tmp_path / "t.csv", table).genes == GENES
    ids = [name.partition(".")[0] for name in table.index]
    (tmp_path / "u.csv").write_text((tmp_path / "t.csv").read_text())
    found = read_bulk(tmp_path / "u.csv", ids, PATIENTS)
    assert found.genes == tuple(ids)
    assert found.values.shape == (40, 30)


def test_r_tables_without_a_name_above_row_names_pass(tmp_path: Path) -> None:
    bulk_values().T.to_csv(tmp_path / "r.tsv", sep="\t")
    text = (tmp_path / "r.tsv").read_text().removeprefix("\t")
    (tmp_path / "r.tsv").write_text(text.replace("TCGA-AA-", "TCGA.AA."))
    found = read_bulk(tmp_path / "r.tsv", GENES, PATIENTS)
    assert found.patients == PATIENTS


def test_normal_samples_and_doubles_are_left_out_and_named(tmp_path: Path) -> None:
    table = bulk_values()
    table.index = [f"{p}-01A-11R-A000" for p in PATIENTS]
    extra = table.iloc[:2].copy()
    extra.index = ["TCGA-AA-1000-11A-11R-A000", "TCGA-AA-1001-01A-11R-A000 "]
    found = _read(tmp_path / "t.csv", pd.concat([table, extra]).T)
    assert len(found.patients) == 40
    assert [why for _, _, why in found.dropped] == [
        "normal tissue or blood, by its barcode",
        "the same values as TCGA-AA-1001-01A-11R-A000, of the same patient",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: pd.concat([np.log2(t[:5] + 1), t[5:]]), r"35 samples with linear values .* and 5 that look like logs"),
        (lambda t: t.set_axis([f"X{i}" for i in range(len(t))]), r"expected samples of the cohort's patients .*found X0, X1, X2"),
        (lambda t: t.set_axis([f"ENSG{j:011d}" for j in range(30)], axis=1), r"\(symbols: GENE0, .*found Ensembl ids: ENSG0"),
        (lambda t: t.set_axis([str(7000 + j) for j in range(30)], axis=1), r"found Entrez numbers: 7000"),
        (lambda t: t - 5000, r"expected counts or TPM in .*found negative values"),
        (lambda t: pd.concat([t[:39].astype(object), t[39:].map(lambda _v: "high")]), r"expected numbers"),
    ],
)  # fmt: skip
def test_a_bulk_table_that_does_not_fit_is_one_line(tmp_path: Path, change, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _read(tmp_path / "t.csv", change(bulk_values()))


@pytest.mark.parametrize(
    ("n", "options", "said"),
    [
        (1, (), "expected at least 3 patients to test over, found 1 patient; give more slides"),
        (40, ("--within", "nobody"), "expected values in column nobody for --within, found none"),
        (40, ("--within", "patient_id"), "found 0 patients, 30 genes; give more patients, or fewer covariates and strata"),
    ],
)  # fmt: skip
def test_too_few_patients_with_bulk_are_one_line(
    tmp_path: Path, n: int, options: tuple[str, ...], said: str
) -> None:
    bulk_values()[:n].to_csv(tmp_path / "b.csv")
    line = refusal(command("associate", made_cohort(), "--out", tmp_path / "o", "--bulk", tmp_path / "b.csv", *options))  # fmt: skip
    assert said in line
    assert not (tmp_path / "o").exists()


def test_covariates_of_any_size_are_scaled_and_no_patients_have_no_columns() -> None:
    huge = np.array([[1e300, 1.0], [0.0, 2.0], [0.0, 4.0], [0.0, 3.0]])
    design, kept = independent(huge, ("huge", "usual"))
    assert kept == ("huge", "usual")
    np.testing.assert_allclose(design.std(axis=0), 1)
    np.testing.assert_allclose(design.mean(axis=0), 0, atol=1e-12)
    design, kept = independent(np.zeros((0, 1)), ("any",))
    assert (design.shape, kept) == ((0, 0), ())


def test_bulk_with_decimal_commas_is_the_same_table(tmp_path: Path) -> None:
    plain, table = _read(tmp_path / "t.csv", bulk_values()), bulk_values().T
    (tmp_path / "c.csv").write_text(table.to_csv(sep=";", decimal=","))
    found = read_bulk(tmp_path / "c.csv", GENES, PATIENTS)
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-6)
    assert found.patients == PATIENTS


def test_negative_values_are_logs_and_it_is_said_what_centring_costs(tmp_path: Path) -> None:
    logs = np.log(bulk_values())
    found = _read(tmp_path / "t.csv", (logs - logs.mean()) / logs.std())
    assert (
        "if each gene was centred over samples the number ACROSS genes says nothing" in found.unit
    )
    assert "centred" not in _read(tmp_path / "u.csv", np.log2(bulk_values() + 1)).unit


def test_the_number_across_genes_says_what_it_is_beyond_gene_means(tmp_path: Path) -> None:
    """Centred genes have no mean that a profile could reach; of TPM means alone give more than the made levels."""
    logs = np.log(bulk_values())
    for name, table, said in (
        ("t", bulk_values(), "This number says next to nothing of a model: gene means alone reach it."),
        ("z", (logs - logs.mean()) / logs.std(), "Gene means alone give all of it but 0.1"),
    ):  # fmt: skip
        table.to_csv(tmp_path / f"{name}.csv")
        found = against_bulk(read_patients(made_cohort()), tmp_path / f"{name}.csv")
        assert said in found.findings[2]


def test_mixed_units_pass_once_they_are_stated(tmp_path: Path) -> None:
    table = np.log2(bulk_values() + 1)
    table.iloc[0] *= 3
    with pytest.raises(ConfigError, match=r"if they are, say which: --bulk-unit linear or log"):
        _read(tmp_path / "t.csv", table)
    assert _read(tmp_path / "t.csv", table, unit="log").values.shape == (40, 30)


def test_the_table_that_groups_exchange_passes_with_two_slides_a_patient(tmp_path: Path) -> None:
    """The shape of SEQUOIA's reference file: a row a slide, the patient's values in each."""
    rows = bulk_values().iloc[[0, 0, 1, 1, 2]]
    table = rows.set_axis([f"rna_{g}" for g in GENES], axis=1)
    table.insert(0, "patient_id", rows.index)
    table.insert(
        0, "wsi_file_name", [f"{p}-01Z-00-DX{k % 2 + 1}.F6E9" for k, p in enumerate(rows.index)]
    )
    path = tmp_path / "ref.csv.gz"
    with gzip.open(path, "wt") as stream:
        np.log2(table.set_index("wsi_file_name")[list(table.columns[2:])] + 1).assign(
            patient_id=table["patient_id"].to_numpy()
        ).to_csv(stream)
    found = read_bulk(path, GENES, PATIENTS)
    assert found.patients == PATIENTS[:3]
    assert found.genes == GENES
    assert len(found.dropped) == 2


REAL = Path(__file__).parents[3] / "shared" / "data" / "tcga_brca_bulk" / "ref_file.csv.gz"


@pytest.mark.skipif(not REAL.is_file(), reason=f"{REAL} is not there")
def test_the_real_table_of_tcga_passes_through_the_command(tmp_path: Path) -> None:
    genes = ("ESR1", "ERBB2", "GATA3", "KRT5", "ACTB", "CD3E")
    for i, name in enumerate(pd.read_csv(REAL, usecols=["wsi_file_name"])["wsi_file_name"]):
        write_made_prediction(
            tmp_path / "p" / f"{name}.h5ad", level=np.full(6, 0.1 * i) * np.arange(6), section_id=name, patient_id="",
            genes=genes, side=3, seed=i,
        )  # fmt: skip
    table = cohort(tmp_path / "p", tmp_path / "c").paths.h5ad
    said = command("associate", table, "--out", tmp_path / "o", "--bulk", REAL)
    assert said.exit_code == 0, said.output
    assert "3 patients: far too few for any statement on a gene" in " ".join(said.stderr.split())
    features = pd.read_csv(tmp_path / "o" / "features.csv")
    assert set(features["feature"]) == set(genes)
    assert (features["n_patients"] == 3).all()


@pytest.mark.parametrize(
    ("name", "patient", "preparation"),
    [
        ("TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB", "TCGA-3C-AALI", "FFPE"),
        ("TCGA-3C-AALI-01A-01-TS1.0000", "TCGA-3C-AALI", "frozen"),
        ("tcga.3c.aali.01A", "TCGA-3C-AALI", ""),
        (" P7 ", "P7", ""),
    ],
)
def test_barcodes_are_cut_to_the_patient(name: str, patient: str, preparation: str) -> None:
    assert (patient_of(name), preparation_of(name)) == (patient, preparation)
