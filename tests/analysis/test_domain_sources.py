"""What domains are drawn from: counts read in parts, features of one maker and one scale, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from benchmarks.made_predictions import write_made_prediction
from scipy import sparse

from helpers.sliced_predictions import slices_plan, write_slices
from hespotex.analysis import domain_sources
from hespotex.analysis.domain_sources import (
    Encoded,
    feature_sources,
    measured_sources,
)
from hespotex.analysis.domains import DomainOptions, draw_domains, find_domains
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.config import Machine
from hespotex.encoders import get_encoder
from hespotex.errors import ConfigError, GeometryError
from hespotex.features.appearance import N_COLOURS, Appearance, n_textures
from hespotex.features.encode import features_key, write_cached
from hespotex.features.patches import PatchPlan
from hespotex.genes.panel import pearson_residuals
from hespotex.progress import Silent
from hespotex.slide import slide_key

SIDE = 8
ENCODER = "efficientnet-lite0"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> PredictionFile:
    folder = tmp_path_factory.mktemp("counted")
    write_slices(folder, slices_plan(n=1))
    return PredictionFile(next((folder / "predictions").glob("*.h5ad")))


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_counts_that_are_read_in_parts_give_the_residuals_of_the_whole(
    counted: PredictionFile, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5ad"
    path.write_bytes(counted.path.read_bytes())
    with h5py.File(path, "r+") as file:
        stored = file["layers/measured_counts"]
        shape = (counted.n_spots, len(counted.genes))
        whole = sparse.csr_matrix(
            (stored["data"][()], stored["indices"][()], stored["indptr"][()]), shape=shape
        )
        del file["layers/measured_counts"]
        made = {"csr": whole, "csc": whole.tocsc(), "dense": whole.toarray()}[form]
        write_elem(file["layers"], "measured_counts", made)
    monkeypatch.setattr(domain_sources, "_BLOCK_VALUES", 50 * len(counted.genes))
    file = PredictionFile(path)
    mask = file.looked_for
    assert mask is not None
    (source,) = measured_sources([file]).values()
    blocks = list(source.blocks())
    assert len(blocks) == -(-file.n_spots // 50)
    np.testing.assert_allclose(
        np.concatenate([values for _, values in blocks]), pearson_residuals(whole)[:, mask], rtol=1e-6
    )  # fmt: skip


def made(folder: Path, name: str, **record: Any) -> PredictionFile:
    """A made prediction whose record names an encoder."""
    path = write_made_prediction(
        folder / f"{name}.h5ad", level=np.zeros(20), section_id=name, patient_id=name,
        genes=[f"G{j}" for j in range(20)], side=SIDE,
    )  # fmt: skip
    known = {"encoder": ENCODER, "encoder_key": get_encoder(ENCODER).key(), "sides_um": [100.0]}
    with h5py.File(path, "r+") as file:
        for key, value in (known | record).items():
            if key in file["uns/hespotex"]:
                del file[f"uns/hespotex/{key}"]
            write_elem(file["uns/hespotex"], key, np.asarray(value) if key == "sides_um" else value)
    return PredictionFile(path)


def manifest(folder: Path, files: list[PredictionFile], **columns: list[Any]) -> Path:
    """Features of two halves of each section; `columns` replace the manifest's."""
    rng = np.random.default_rng(0)
    for file in files:
        left = file.spots.xy_px0[:, 0] < file.spots.xy_px0[:, 0].mean()
        values = rng.normal(0, 0.1, (file.n_spots, 16)) + left[:, None] * np.arange(16)
        with h5py.File(folder / f"{file.spots.section_id}.h5", "w") as table:
            table["features"] = values.astype(np.float32)
            table["coords"] = (file.spots.xy_px0 - 100).astype(np.int64)
            table["coords"].attrs["patch_size_level0"] = 200
    names = [f.spots.section_id for f in files]
    table = {
        "section_id": names,
        "patient_id": names,
        "slide": "",
        "format": "h5ad",
        "features": [f"{n}.h5" for n in names],
        "expression": [f"{n}.h5ad" for n in names],
        "mpp": 0.5,
        "spot_pitch_um": 100,
        "spot_diameter_um": 55,
    }
    path = folder / "sections.csv"
    pd.DataFrame(table | columns).to_csv(path, index=False)
    return path


def machine(folder: Path) -> Machine:
    return Machine(device="cpu", threads=1, cache=folder / "cache")


def test_features_files_of_a_manifest_are_what_domains_are_drawn_from(tmp_path: Path) -> None:
    files = [made(tmp_path, "a"), made(tmp_path, "b")]
    options = DomainOptions(sources=("features",), n=2, manifest=manifest(tmp_path, files))
    labels, _ = draw_domains(
        {f.spots.section_id: f for f in files}, options, machine(tmp_path), [], Silent()
    )
    for file in files:
        left = file.spots.xy_px0[:, 0] < file.spots.xy_px0[:, 0].mean()
        found = labels["features"][file.spots.section_id]
        assert len(set(found[left].tolist())) == len(set(found[~left].tolist())) == 1
        assert found[left][0] != found[~left][0]


def test_features_of_two_makers_are_refused(tmp_path: Path) -> None:
    files = [made(tmp_path, "a"), made(tmp_path, "b")]
    path = manifest(tmp_path, files, features=["a.h5", ""], slide=["", "b.tif"])
    (tmp_path / "b.tif").touch()
    with pytest.raises(ConfigError, match=r"features files for all sections or for none, found both"):  # fmt: skip
        feature_sources(files, path, machine(tmp_path))
    other = [files[0], made(tmp_path, "b", encoder="another")]
    with pytest.raises(ConfigError, match=r"features of one encoder and patch size, found predictions of another .*, efficientnet-lite0"):  # fmt: skip
        feature_sources(other, manifest(tmp_path, other), machine(tmp_path))
    wider = [files[0], made(tmp_path, "b", sides_um=[200.0])]
    with pytest.raises(ConfigError, match=r"features of one encoder and patch size"):
        feature_sources(wider, manifest(tmp_path, wider), machine(tmp_path))


def test_an_encoder_of_other_weights_is_refused_and_the_same_one_passes(tmp_path: Path) -> None:
    older = [made(tmp_path, "a", encoder_key="older")]
    slides = {"features": [""], "slide": ["a.tif"]}
    (tmp_path / "a.tif").touch()
    with pytest.raises(ConfigError, match=r"the encoder of the predictions \(efficientnet-lite0, key older\), found other weights"):  # fmt: skip
        feature_sources(older, manifest(tmp_path, older, **slides), machine(tmp_path))
    same = [made(tmp_path, "a")]
    found = feature_sources(same, manifest(tmp_path, same, **slides), machine(tmp_path))
    assert isinstance(found["a"], Encoded)


def test_a_section_that_the_manifest_lacks_is_named(tmp_path: Path) -> None:
    files = [made(tmp_path, "a"), made(tmp_path, "b")]
    path = manifest(tmp_path, files[:1])
    with pytest.raises(ConfigError, match=r"rows for all sections in .*, found none for b"):
        feature_sources(files, path, machine(tmp_path))


def test_a_manifest_of_another_scale_is_refused(tmp_path: Path) -> None:
    files = [made(tmp_path, "a")]
    path = manifest(tmp_path, files, mpp=[0.25])
    with pytest.raises(GeometryError, match=r"mpp 0\.5 of the prediction for a in .*, found 0\.25"):
        feature_sources(files, path, machine(tmp_path))
    assert feature_sources(files, manifest(tmp_path, files, mpp=[0.503]), machine(tmp_path))


def test_a_scale_that_does_not_fit_the_pitch_is_said(tmp_path: Path) -> None:
    made(tmp_path, "a")
    found = find_domains([tmp_path], tmp_path / "out", DomainOptions(n=2))
    assert not any("um apart" in n for n in found.notes)
    with h5py.File(made(tmp_path, "b").path, "r+") as file:
        file["uns/hespotex/mpp"][()] = 0.25
    found = find_domains([tmp_path], tmp_path / "out", DomainOptions(n=2))
    assert any(
        n.startswith(
            "b: its spots lie 50 um apart by its scale (mpp 0.25), and 100 um by its pitch"
        )
        for n in found.notes
    )


def test_features_of_the_cache_are_read_in_pieces_and_not_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(tmp_path, "a")
    (tmp_path / "a.tif").write_bytes(b"no picture: to encode it would fail")
    encoder = get_encoder(ENCODER)
    plan = PatchPlan((100.0,), encoder.size_px, "patches")
    key = features_key(slide_key(tmp_path / "a.tif"), encoder, plan, 0.5, file.spots.xy_px0)
    values = np.random.default_rng(0).normal(size=(file.n_spots, 1, encoder.dim)).astype(np.float32)
    seen = Appearance(
        np.zeros((file.n_spots, N_COLOURS), np.float32),
        np.zeros((file.n_spots, n_textures(1, encoder.size_px)), np.float32),
    )
    write_cached(tmp_path / "cache" / "features" / f"{key}.safetensors", values, seen)
    monkeypatch.setattr(domain_sources, "_BLOCK_VALUES", 10 * encoder.dim)
    path = manifest(tmp_path, [file], features=[""], slide=["a.tif"])
    (source,) = feature_sources([file], path, machine(tmp_path)).values()
    blocks = list(source.blocks())
    assert [(r.start, r.stop) for r, _ in blocks] == [
        (k, min(k + 10, 64)) for k in range(0, 64, 10)
    ]
    np.testing.assert_array_equal(np.concatenate([v for _, v in blocks]), values[:, 0])
