"""Weights of the reference become a model file whose predictions are the reference's own numbers."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from hespotex import pipeline
from hespotex.cli.main import app
from hespotex.config import Machine
from hespotex.errors import ModelFileError
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.genes.gene_sets import GeneSet
from hespotex.models.bundle import read_model
from hespotex.models.import_model import import_model
from hespotex.predicting import SlideOptions
from hespotex.predicting.gene_choice import chosen_genes

GOLDEN = Path(__file__).parents[1] / "golden" / "decoder_forward.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """The reference decoder's inputs, weights and outputs."""
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def _files(folder: Path, golden: dict[str, np.ndarray], *, side_px: int = 20) -> Path:
    """Manifest of one unmeasured section whose features come from a TRIDENT file."""
    xy = golden["xy_px"]
    with h5py.File(folder / "features.h5", "w") as file:
        file["features"] = golden["features"]
        file["coords"] = (xy - side_px // 2).astype(np.int64)
        file["coords"].attrs["patch_size_level0"] = side_px
    table = anndata.AnnData(
        np.ones((len(xy), 2), np.float32),
        obs=pd.DataFrame(index=[f"s{i}" for i in range(len(xy))]),
        var=pd.DataFrame(index=["G0", "G1"]),
    )
    table.obsm["spatial"] = xy.astype(np.float64)
    table.write_h5ad(folder / "spots.h5ad")
    (folder / "sections.csv").write_text(
        "section_id,patient_id,slide,expression,format,features,mpp,spot_pitch_um,spot_diameter_um\n"
        "S,P,,spots.h5ad,h5ad,features.h5,0.5,100,55\n"
    )
    return folder / "sections.csv"


def _imported(folder: Path, golden: dict[str, np.ndarray]) -> Path:
    """The golden weights as a model file."""
    state = {k[2:]: torch.as_tensor(v) for k, v in golden.items() if k.startswith("w/")}
    torch.save(state, folder / "reference.pt")
    n_genes = golden["expression_hat"].shape[1]
    genes = folder / "genes.txt"
    genes.write_text("\n".join(f"G{j}" for j in range(n_genes)))
    command = ["import-checkpoint", str(folder / "reference.pt"), "--genes", str(genes)]
    command += ["--encoder", "features-file", "--no-nuclei", "--out", str(folder / "m.hespotex")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return folder / "m.hespotex"


def test_imported_checkpoint_predicts_the_golden_output(
    tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    model, manifest = _imported(tmp_path, golden), _files(tmp_path, golden)
    machine = Machine(device="cpu", cache=tmp_path / "cache")
    pipeline.predict(
        model, manifest, tmp_path / "p", options=SlideOptions(untested=True), machine=machine
    )
    stored = anndata.read_h5ad(tmp_path / "p" / "predictions" / "S.h5ad")
    expected = golden["expression_hat"] / golden["nuclei_factor"]
    np.testing.assert_allclose(stored.X, expected, atol=1e-5)
    assert set(stored.var["grade"]) == {"ungraded"}


@pytest.mark.slow
def test_scores_of_an_imported_model_say_that_its_training_is_unknown(
    tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    model, manifest = _imported(tmp_path, golden), _files(tmp_path, golden)
    counts = np.random.default_rng(0).poisson(3.0, size=golden["expression_hat"].shape)
    spots = anndata.read_h5ad(tmp_path / "spots.h5ad")
    genes = pd.DataFrame(index=[f"G{j}" for j in range(counts.shape[1])])
    measured = anndata.AnnData(counts.astype(np.float32), obs=spots.obs, var=genes)
    measured.obsm["spatial"] = spots.obsm["spatial"]
    measured.write_h5ad(tmp_path / "spots.h5ad")
    machine = Machine(device="cpu", cache=tmp_path / "cache")
    result = pipeline.evaluate(model, manifest, tmp_path / "e", machine=machine)
    assert "does not say what it was trained on" in result.metrics["note"]
    assert "were, or may have been, in training" in result.metrics["headline"]
    assert "does not say what it was trained on" in (tmp_path / "e" / "report.html").read_text()
    scores = result.metrics["mean"]["model"]
    assert scores["pcc_log1p_mean"] is not None
    assert scores["pcc_composition_abundant200"] is None  # unknown: abundant in training
    sets = [GeneSet("set", ("G0", "G1", "G2"))]
    with pytest.raises(ModelFileError, match=r"training shares .* found an imported one; leave"):
        pipeline.evaluate(model, manifest, tmp_path / "s", gene_sets=sets, machine=machine)


def test_encoder_of_another_size_is_refused(tmp_path: Path, golden: dict[str, np.ndarray]) -> None:
    state = {k[2:]: torch.as_tensor(v) for k, v in golden.items() if k.startswith("w/")}
    torch.save(state, tmp_path / "reference.pt")
    genes = [f"G{j}" for j in range(golden["expression_hat"].shape[1])]
    with pytest.raises(ModelFileError, match="checkpoint's 512 features a patch, found 1568"):
        import_model(
            tmp_path / "reference.pt",
            tmp_path / "m.hespotex",
            genes=genes,
            encoder="efficientnet-lite0",
            side_um=55.0,
            spot_pitch_um=100.0,
        )
    assert not (tmp_path / "m.hespotex").exists()


def test_an_imported_model_shows_its_first_genes(
    tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    bundle = read_model(_imported(tmp_path, golden))
    everything = np.arange(len(bundle.genes))
    shown = chosen_genes(bundle, bundle_claims(bundle, "unknown"), everything, None, 3)
    assert shown.tolist() == [0, 1, 2]
