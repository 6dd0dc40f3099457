"""A cohort of fine bins runs through every verb: fitted on and scored as squares, predicted at its bins."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

from hespotex import pipeline
from hespotex.cli.terminal import print_scores
from hespotex.config import Machine, RunConfig
from hespotex.datasets import PaintedPatient, PaintedPlan, write_cohort
from hespotex.models.bundle import read_model
from hespotex.storage.metrics import Evidence, Metrics

_PLAN = PaintedPlan(
    patients=tuple(PaintedPatient(name) for name in ("P1", "P2", "P3", "P4")),
    sections_per_patient=1,
    n_genes=60,
    lattice="square",
    spot_pitch_um=16.0,
    spot_diameter_um=16.0,
    side_um=700.0,
    mpp=2.0,
    mean_depth=60.0,
)
_CONFIG = RunConfig.from_values(
    {
        "encoder": {"reading": "area"},
        "patches": {"sides_um": [112.0, 448.0]},
        "model": {"epochs": 4, "ensemble": 1},
    }
)
_IDS = ("P1S1", "P2S1", "P3S1")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(_PLAN, tmp_path_factory.mktemp("fine"))


@pytest.mark.slow
def test_a_run_says_at_which_size_of_square_it_scored(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(cache=tmp_path / "cache", threads=1)
    found = pipeline.cross_validate(
        manifest, tmp_path / "cv", config=_CONFIG, sections=_IDS, machine=machine
    )
    metrics = Metrics.model_validate(found.metrics)
    assert [scored.size_um for scored in metrics.sizes] == [16.0, 32.0, 64.0, 128.0]
    assert [scored.n_fitted for scored in metrics.sizes] == [0, 0, 3, 0]
    assert all(scored.n_sections == 3 for scored in metrics.sizes)
    at_own = metrics.sizes[2]
    assert at_own.n_squares == sum(section.n_spots for section in metrics.sections)
    assert at_own.scores["model"].pcc_log1p_mean == pytest.approx(
        metrics.mean_of("model", "pcc_log1p_mean")
    )
    ceilings = [scored.ceiling.pcc_composition_mean for scored in metrics.sizes]
    assert ceilings == sorted(ceilings)
    of_genes = Evidence.read(tmp_path / "cv" / "evidence.json").gene_sizes
    assert of_genes.sizes_um == (16.0, 32.0, 64.0, 128.0)
    for column, scored in zip(np.array(of_genes.pcc).T, metrics.sizes, strict=True):
        mean = scored.scores["model"].pcc_composition_mean
        assert np.nanmean(column) == pytest.approx(mean, abs=0.02)
    note = "bins 16 um apart are summed into squares of 64 um in P1S1, P2S1, P3S1"
    assert any(note in sentence for sentence in metrics.sentences)
    page = (tmp_path / "cv" / "report.html").read_text(encoding="utf-8")
    assert "At which size of square" in page
    assert "64 um, fitted" in page
    print_scores(metrics)
    assert "64 um, fitted" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_of_squares_is_scored_on_squares_and_predicts_at_bins(
    manifest: Path, tmp_path: Path
) -> None:
    machine = Machine(cache=tmp_path / "cache", threads=1)
    model = pipeline.train(
        manifest, tmp_path / "m.hespotex", config=_CONFIG, sections=_IDS[:2], validate=False,
        machine=machine,
    )  # fmt: skip
    assert read_model(model).spot_pitch_um == 64.0
    scored = pipeline.evaluate(
        model, manifest, tmp_path / "external", sections=["P4S1"], machine=machine
    )
    assert Metrics.model_validate(scored.metrics).sizes[2].n_fitted == 1
    pipeline.predict(
        model, manifest, tmp_path / "at_bins", sections=["P1S1", "P4S1"], machine=machine
    )
    squares = anndata.read_h5ad(tmp_path / "external" / "predictions" / "P4S1.h5ad")
    bins = anndata.read_h5ad(tmp_path / "at_bins" / "predictions" / "P4S1.h5ad")
    assert bins.n_obs > 10 * squares.n_obs
    assert "training_note" not in bins.uns["hespotex"]
    fitted_on = anndata.read_h5ad(tmp_path / "at_bins" / "predictions" / "P1S1.h5ad")
    assert "its training section P1S1" in fitted_on.uns["hespotex"]["training_note"]
