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
from hespotex.model_import import import_model

GOLDEN = Path(__file__).parent / "golden" / "decoder_forward.npz"


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


def test_imported_checkpoint_predicts_the_golden_output(
    tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    state = {k[2:]: torch.as_tensor(v) for k, v in golden.items() if k.startswith("w/")}
    torch.save(state, tmp_path / "reference.pt")
    n_genes = golden["expression_hat"].shape[1]
    genes = tmp_path / "genes.txt"
    genes.write_text("\n".join(f"G{j}" for j in range(n_genes)))
    command = ["import-checkpoint", str(tmp_path / "reference.pt"), "--genes", str(genes)]
    command += ["--encoder", "features-file", "--no-nuclei", "--out", str(tmp_path / "m.hespotex")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    manifest = _files(tmp_path, golden)
    machine = Machine(device="cpu", cache=tmp_path / "cache")
    pipeline.predict(tmp_path / "m.hespotex", manifest, tmp_path / "p", machine=machine)
    stored = anndata.read_h5ad(tmp_path / "p" / "predictions" / "S.h5ad")
    expected = golden["expression_hat"] / golden["nuclei_factor"]
    np.testing.assert_allclose(stored.X, expected, atol=1e-5)
    assert set(stored.var["grade"]) == {"ungraded"}


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
