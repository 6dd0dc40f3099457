"""Gene sets in a cohort have what genes have: each layer is what the files say, and one that cannot be is left out with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
from benchmarks.made_predictions import write_made_prediction

from helpers.made_association import GENES as NAMES
from helpers.made_association import made_cohort
from hespotex.analysis.association.groups import between_groups
from hespotex.analysis.association.patients import GENE, SET, read_patients
from hespotex.analysis.cohort import cohort
from hespotex.analysis.slide_summary import summarise_slide
from hespotex.export.h5ad import read_prediction
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.progress import Silent

GENES = tuple(f"G{j}" for j in range(12))
SETS = PanelSets.of([GeneSet("one", GENES[:4]), GeneSet("two", GENES[3:9])], GENES)
WIDTH = np.array([[0.9, 0.8], [0.6, 0.5], [0.4, np.nan], [0.3, np.nan]], np.float32)
LAYERS = ("", "_spread", "_above_upper_quartile", "_morans_i", "_lower", "_upper")


# The first has other genes under its name.
OTHER = PanelSets.of([GeneSet("one", GENES[5:11]), GeneSet("two", GENES[3:9])], GENES)


def _predictions(folder: Path, *, learnt: bool, last: PanelSets = SETS) -> Path:
    """P0 with two slides, P1 with one; P2 with one that is unlike the training's, where no set has a grade."""
    for patient, slide in ((0, 0), (0, 1), (1, 0), (2, 0)):
        more = {"half_width": WIDTH, "upper_quartile": np.array([0.1, 0.0], np.float32)}
        unlike = patient == 2
        write_made_prediction(
            folder / f"P{patient}S{slide}.h5ad",
            level=np.random.default_rng([3, patient, slide]).normal(scale=0.5, size=len(GENES)),
            section_id=f"P{patient}S{slide}",
            patient_id=f"P{patient}",
            genes=GENES,
            side=6 + 2 * slide,
            seed=10 * patient + slide,
            depth=1000.0 * (1 + slide),
            verdict="unlike: tissue" if unlike else "like the training slides",
            sets=last if (patient, slide) == (1, 0) else SETS,
            of_sets={"grades": ("ungraded",) * 2 if unlike else ("B", "C")} | (more if learnt else {}),
        )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _predictions(tmp_path_factory.mktemp("sets"), learnt=True)


def test_a_slide_has_of_sets_what_the_whole_tables_say(predictions: Path) -> None:
    path = predictions / "P0S1.h5ad"
    found, stored = summarise_slide(path), read_prediction(path)
    assert stored.extras.gene_sets is not None
    values = np.asarray(stored.extras.gene_sets.values, np.float64)
    weight = stored.depth.astype(float)[:, None]
    bulk = np.log((weight * np.exp(values)).sum(axis=0) / weight.sum())
    np.testing.assert_allclose(found.set_composition, bulk, rtol=1e-5)
    np.testing.assert_allclose(found.set_spread, values.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.set_above, (values > [0.1, 0.0]).mean(axis=0))
    # The largest region that each was calibrated for.
    np.testing.assert_allclose(found.set_half_width, [0.3, 0.5])


def test_a_patient_has_sets_of_the_counts_of_all_slides_and_an_interval_around(
    predictions: Path, tmp_path: Path
) -> None:
    table = anndata.read_h5ad(cohort(predictions, tmp_path / "c").paths.h5ad)
    assert set(table.obsm) == {f"gene_sets{part}" for part in LAYERS}
    slides = [summarise_slide(predictions / f"P0S{k}.h5ad") for k in (0, 1)]
    counts, spots = [36 * slides[0].depth, 64 * slides[1].depth], [36, 64]
    share = np.average([np.exp(s.set_composition) for s in slides], axis=0, weights=counts)
    np.testing.assert_allclose(table.obsm["gene_sets"][0], np.log(share), rtol=1e-5)
    for end, sign in (("lower", -1), ("upper", 1)):
        ends = np.log(share) + sign * np.array([0.3, 0.5])
        np.testing.assert_allclose(table.obsm[f"gene_sets_{end}"][0], ends, rtol=1e-5)
    above = np.average([s.set_above for s in slides], axis=0, weights=spots)
    np.testing.assert_allclose(table.obsm["gene_sets_above_upper_quartile"][0], above, rtol=1e-5)
    record = table.uns["hespotex"]
    # The worst grade on slides that are like the training's.
    assert record["gene_sets"]["grade"].tolist() == ["B", "C"]
    assert record["gene_sets"]["upper_quartile"].tolist() == pytest.approx([0.1, 0.0])
    assert "gene_sets_absent" not in record
    assert {f"gene_sets{part}" for part in LAYERS} <= set(record["units"])


def test_slides_joined_by_the_tests_are_the_row_of_the_patient(
    predictions: Path, tmp_path: Path
) -> None:
    found = [
        read_patients(cohort(predictions, tmp_path / by, by=by).paths.h5ad)
        for by in ("slide", "patient")
    ]
    assert found[0].names == found[1].names == ["P0", "P1"]
    np.testing.assert_allclose(found[0].values, found[1].values, rtol=1e-4)


def test_what_a_model_did_not_learn_of_its_sets_is_left_out_with_the_reason(tmp_path: Path) -> None:
    folder = _predictions(tmp_path / "old", learnt=False)
    table = anndata.read_h5ad(cohort(folder, tmp_path / "c").paths.h5ad)
    assert set(table.obsm) == {"gene_sets", "gene_sets_spread", "gene_sets_morans_i"}
    absent = table.uns["hespotex"]["gene_sets_absent"]
    assert set(absent) == {f"gene_sets_{n}" for n in ("above_upper_quartile", "lower", "upper")}
    for why in absent.values():
        assert why.startswith("the model that predicted these slides learnt none for its sets")


def test_a_name_that_stands_for_other_genes_in_a_file_makes_no_column(tmp_path: Path) -> None:
    folder = _predictions(tmp_path / "mixed", learnt=True, last=OTHER)
    made = cohort(folder, tmp_path / "c")
    table = anndata.read_h5ad(made.paths.h5ad)
    assert table.uns["hespotex"]["gene_sets"].index.tolist() == ["two"]
    whole = anndata.read_h5ad(
        cohort(_predictions(tmp_path / "one", learnt=True), tmp_path / "d").paths.h5ad
    )
    for name in table.obsm:
        np.testing.assert_allclose(table.obsm[name][[0, 2]], whole.obsm[name][[0, 2], 1:])
    (said,) = [n for n in made.notes if "gene set" in n]
    assert said == (
        "1 gene set left out, of other genes in some files under the same name: one; "
        "predict all slides with one --gene-sets."
    )


def test_without_a_gene_that_all_patients_have_no_profile_is_made_of_nothing() -> None:
    table = read_patients(made_cohort())
    kind, values = np.where(np.arange(len(NAMES)) < 5, SET, GENE), table.values.copy()
    values[0, 5:] = np.nan
    found = between_groups(replace(table, kind=kind, values=values), "arm", Silent())
    assert set(found.table["feature"]) == set(NAMES[:5])
    assert (
        "No gene has a value in every patient: there is no whole profile to classify by."
        in found.findings
    )
    assert found.numbers["classifier"] == {
        "auroc": None, "lower": None, "upper": None, "null_mean": None, "p_value": None, "shufflings": 0,
    }  # fmt: skip
    (said,) = [s for s in found.first if "left out" in s]
    assert said.startswith(
        "25 of 30 genes and gene sets left out, since some patient has no value: GENE5,"
    )
