"""What is written of a slide by what may be claimed on it: grades, patients, an unlike slide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest

from helpers.made_claims import validation_of
from helpers.toy_slide import MPP, graded
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide

pytestmark = pytest.mark.usefixtures("blank_pictures")


def _task(slide: Path, **options: object) -> SlideTask:
    return SlideTask("s", slide, replace(SlideOptions(mpp=MPP), **options))  # type: ignore[arg-type]


def _prediction(out: Path) -> Path:
    return out / "predictions" / "s.h5ad"


def test_genes_graded_d_are_left_out_unless_asked_for(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    genes = predictor.bundle.genes
    grades = {gene: "D" if j % 2 else "B" for j, gene in enumerate(genes)}
    unlike = replace(predictor, bundle=graded(predictor.bundle, grades))
    like = replace(unlike, trust=replace(unlike.trust, ood=None))
    predict_slide(like, _task(slide), tmp_path / "some")
    predict_slide(like, _task(slide, all_genes=True), tmp_path / "all")
    some, whole = (anndata.read_h5ad(_prediction(tmp_path / n)) for n in ("some", "all"))
    assert list(some.var_names) == list(genes[::2])
    assert list(whole.var_names) == list(genes)
    assert set(some.var["scope"]) == {"between_patients"}
    assert some.uns["hespotex"]["patient"] == "unknown"
    np.testing.assert_array_equal(some.X, whole[:, genes[::2]].X)


@pytest.mark.slow
def test_on_an_unlike_slide_no_grade_holds_and_depth_alone_is_written(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    chosen = replace(
        predictor, bundle=graded(predictor.bundle, dict.fromkeys(predictor.bundle.genes, "A"))
    )
    predict_slide(chosen, _task(slide), tmp_path / "none")
    table = anndata.read_h5ad(_prediction(tmp_path / "none"))
    assert table.n_vars == 0
    assert {"predicted_depth", "ood_score", "ood"} <= set(table.obs)
    assert table.uns["hespotex"]["sentence"].startswith("This slide is unlike the training slides")
    predict_slide(chosen, _task(slide, untested=True), tmp_path / "marked")
    marked = anndata.read_h5ad(_prediction(tmp_path / "marked"))
    assert set(marked.var["grade"]) == {"ungraded"}
    assert set(marked.var["evidence"]) == {"untested"}


@pytest.mark.slow
def test_a_patient_of_the_training_is_one_by_word_of_the_user_alone(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    trained = predictor.bundle.sections[0].patient_id
    within = validation_of(dict.fromkeys(predictor.bundle.genes, "B"), scope="within_patient")
    bundle = replace(predictor.bundle, validation=within)
    chosen = replace(predictor, bundle=bundle, trust=replace(predictor.trust, ood=None))
    for name, options, n_genes in (
        ("bare", {}, 0),
        ("named", {"patient": trained}, 0),
        ("same", {"patient": trained.lower(), "same_patient": True}, len(bundle.genes)),
        ("other", {"patient": "somebody else", "same_patient": True}, 0),
    ):
        predict_slide(chosen, _task(slide, **options), tmp_path / name)
        table = anndata.read_h5ad(_prediction(tmp_path / name))
        assert table.n_vars == n_genes, name
        assert table.uns["hespotex"]["scope"] == ("within_patient" if n_genes else "none")
