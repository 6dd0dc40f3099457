"""Whole transcriptomes beside a targeted panel, by the real command: one unit, no NaN where something was said, honest scores."""

from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.feature_cohort import SMALL, toy_items, write_cohort
from hespotex.config import Machine
from hespotex.pipeline import cross_validate
from hespotex.storage.metrics import Metrics
from hespotex.storage.run_folder import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_pictures")]
KEPT = [f"G{j:02d}" for j in range(30) if j % 3 == 0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A1, B1 and B2 measured everything; A2 a third of the genes, of which one has a name that no other section knows."""
    folder = tmp_path_factory.mktemp("mixed")
    items = toy_items()
    section = items[1].section
    assert section.genes is not None
    assert section.counts is not None
    kept = np.isin(section.genes, KEPT)
    names = np.where(section.genes[kept] == "G03", "G98", section.genes[kept])
    items[1] = replace(
        items[1], section=replace(section, genes=names, counts=section.counts[:, kept])
    )
    missing = ["zero", "unmeasured", "zero", "zero"]
    manifest = write_cohort(folder, items, missing_genes=missing)
    config = SMALL.model_copy(update={"panel": SMALL.panel.model_copy(update={"kind": "all"})})
    machine = Machine("cpu", 1, folder / "cache")
    cross_validate(manifest, folder / "run", config=config, machine=machine)
    return RunDir(folder / "run")


def test_every_prediction_is_a_number_of_the_whole_panel(run: RunDir) -> None:
    for name in ("A1", "A2", "B1", "B2"):
        table = anndata.read_h5ad(run.predictions / f"{name}.h5ad")
        assert table.n_vars >= 25
        values = np.asarray(table.X)
        assert np.isfinite(values).all()
        # log1p(CPM) of a spot: its CPM sum up to about a million, over all genes whoever measured them.
        assert np.median(np.expm1(values).sum(axis=1)) == pytest.approx(1e6, rel=0.25)


def test_a_gene_is_scored_only_where_it_was_measured(run: RunDir) -> None:
    genes = pd.read_csv(run.genes_csv, keep_default_na=True)
    scored = genes[genes["pcc_composition"].notna()]
    of_targeted = set(scored.loc[scored["section_id"] == "A2", "gene"])
    assert of_targeted
    assert of_targeted <= set(KEPT)
    assert len(set(scored.loc[scored["section_id"] == "A1", "gene"])) > 2 * len(of_targeted)
    assert not np.isinf(scored["pcc_composition"]).any()


def test_errors_in_units_leave_the_targeted_section_out(run: RunDir) -> None:
    metrics = Metrics.read(run.metrics_json)
    assert np.isfinite(metrics.mean["model"].rmse_log1p)
    assert len(metrics.sections) == 4
    for section in metrics.sections:
        found = section.scores["model"]
        assert np.isfinite(found.pcc_composition_mean)
        assert np.isfinite(found.rmse_log1p) == (section.section_id != "A2")
