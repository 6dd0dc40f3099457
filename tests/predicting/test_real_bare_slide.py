"""A real section predicted as a bare slide on its own spots equals its prediction as a section."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

from hespotex import pipeline
from hespotex.config import Machine, RunConfig
from hespotex.predicting import SlideOptions


@pytest.mark.slow
def test_a_her2st_section_as_a_bare_slide_equals_the_section(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "her2st"
    machine = Machine(device="cpu", cache=tmp_path / "cache")
    config = RunConfig.from_values(
        {"patches": {"sides_um": [154.5]}, "panel": {"n_top": 40}, "model": {"epochs": 2}}
    )
    model = pipeline.train(
        folder / "sections.csv", tmp_path / "m.hespotex", config=config, sections=["C2"],
        validate=False, machine=machine,
    )  # fmt: skip
    pipeline.predict(
        model, folder / "sections.csv", tmp_path / "section", sections=["C2"], machine=machine
    )
    spots = SlideOptions(
        spots=folder / "spots" / "C2_selection.tsv", pitch_um=200.0, diameter_um=100.0
    )
    pipeline.predict(
        model, folder / "images" / "C2.jpg", tmp_path / "bare", options=spots, machine=machine
    )
    section = anndata.read_h5ad(tmp_path / "section" / "predictions" / "C2.h5ad")
    bare = anndata.read_h5ad(tmp_path / "bare" / "predictions" / "C2.h5ad")[section.obs_names]
    assert section.n_obs > 150
    assert list(bare.var_names) == list(section.var_names)
    np.testing.assert_array_equal(bare.obsm["spatial"], section.obsm["spatial"])
    np.testing.assert_allclose(bare.X, section.X, atol=1e-5)
    for layer in ("composition", "lower", "upper"):
        np.testing.assert_allclose(bare.layers[layer], section.layers[layer], atol=1e-5)
    np.testing.assert_allclose(
        bare.obs["predicted_depth"], section.obs["predicted_depth"], rtol=1e-5
    )
    np.testing.assert_allclose(bare.obs["ood_score"], section.obs["ood_score"], rtol=1e-4)
