"""Ridge's maps as factors: what they give is what the baseline predicts."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import anndata
import numpy as np

from helpers.toy_prediction import GENES, toy_extras, toy_prediction, toy_section
from hespotex.evaluation.baselines import RidgeBaseline
from hespotex.evaluation.ridge_maps import RidgeMaps, ridge_maps
from hespotex.export.h5ad import write_prediction
from hespotex.export.ridge_store import read_ridge


def test_factors_give_what_ridge_predicts_and_a_model_without_ridge_has_none() -> None:
    rng = np.random.default_rng(0)
    shapes = {"mean": (6,), "components": (6, 3), "coefficients": (2, 3, 5), "intercepts": (2, 5), "train_mean": (5,)}  # fmt: skip
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    assert set(shapes) == {f.name for f in fields(RidgeBaseline)}
    features = rng.normal(size=(20, 2, 3)).astype(np.float32)
    found = ridge_maps({f"ridge.{name}": array for name, array in arrays.items()}, features)
    assert found is not None
    log1p, composition = RidgeBaseline(**arrays).predict(features)
    np.testing.assert_allclose(found.spots @ found.log1p.T, log1p, atol=1e-5)
    np.testing.assert_allclose(found.spots @ found.composition.T, composition, atol=1e-5)
    assert ridge_maps({"nearest_patches.mean": arrays["mean"]}, features) is None


def test_a_file_keeps_them_for_the_genes_that_it_holds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    section = toy_section()
    maps = RidgeMaps(
        *(rng.normal(size=(n, 4)).astype("f4") for n in (section.n_spots, len(GENES), len(GENES)))
    )
    path = tmp_path / "S.h5ad"
    for extras, columns in (
        (toy_extras(section), None),
        (replace(toy_extras(section), ridge=maps), np.array([2, 0])),
    ):
        write_prediction(
            path, section=section, genes=GENES, prediction=toy_prediction(section), extras=extras, columns=columns
        )  # fmt: skip
        found = read_ridge(path)
        if columns is None:
            assert found is None
            continue
        assert found is not None
        assert (found.spots == maps.spots).all()
        assert (found.log1p == maps.log1p[columns]).all()
        assert (found.composition == maps.composition[columns]).all()
    table = anndata.read_h5ad(path)
    np.testing.assert_allclose(
        table.obsm["ridge"] @ table.varm["ridge_composition"].T,
        (maps.spots @ maps.composition.T)[:, [2, 0]],
        atol=1e-5,
    )
