"""Tiles with a halo give what the whole graph gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.toy_cohort import encoded_section, lattice, toy_cohort
from helpers.toy_slide import toy_bundle, toy_trust
from hespotex.evaluation.trust import Trust
from hespotex.features.appearance import Appearance
from hespotex.models.graph import Neighbours, knn_edges
from hespotex.models.predict import predict_expression
from hespotex.models.preprocessing import feature_stats
from hespotex.models.types import FittedModel
from hespotex.predicting.decode import (
    composition_shift,
    decode_slide,
    model_reach,
    open_predictions,
    with_halo,
)
from hespotex.predicting.encode import slide_stats
from hespotex.predicting.store import FeatureChunk, FeatureStore

N_SIDE = 12


def _stored(folder: Path, features: np.ndarray, bad: np.ndarray) -> FeatureStore:
    store = FeatureStore(folder, len(features))
    for number, rows in enumerate(store.slices):
        n = rows.stop - rows.start
        grey = Appearance(np.full((n, 6), 0.5, np.float32), np.zeros((n, 0), np.float32))
        store.write(number, FeatureChunk(features[rows], grey, bad[rows]))
    return store


def _decode(
    model: FittedModel,
    folder: Path,
    features: np.ndarray,
    xy: np.ndarray,
    bad: np.ndarray,
    trust: Trust,
) -> dict[str, np.ndarray]:
    store = _stored(folder / "features", features, bad)
    out = open_predictions(folder / "p", len(xy), int(model.hyper["genes"]), trust)
    decode_slide(model, trust, xy, store, out, device="cpu", advance=lambda _n: None)
    tables = {
        name: np.concatenate([out.layer(name, n) for n in range(len(out.slices))])
        for name in out.layers
    }
    shift = composition_shift(model, out)
    if shift is not None:
        tables["composition"] = tables["composition"] - shift
    return tables | {name: out.column(name) for name in out.columns}


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"hops": 2, "graph_layers": 2},
        {"hops": 0, "graph_layers": 3, "chained": False, "neighbours": 4},
    ],
    ids=["default", "two hops and chained layers", "parallel layers"],
)
def test_tiles_equal_the_whole_graph(tmp_path: Path, sizes: dict[str, object]) -> None:
    model = toy_bundle(**sizes).model
    item = encoded_section("N", "N", 9, n_side=N_SIDE)
    xy = item.section.xy_um
    none = np.zeros(len(xy), dtype=bool)
    found = _decode(model, tmp_path, item.features, xy, none, toy_trust())
    whole = predict_expression(model, item.features, xy)
    np.testing.assert_allclose(found["log1p"], whole.log1p, atol=1e-5)
    np.testing.assert_allclose(found["composition"], whole.composition, atol=1e-5)
    np.testing.assert_allclose(found["depth"], whole.depth, rtol=1e-5)
    extras = toy_trust().extras(whole, item.features)
    np.testing.assert_allclose(found["lower"], extras.lower, atol=1e-5)
    np.testing.assert_allclose(found["ood_score"], extras.ood_score, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_published_tiles_equal_the_whole_graph_and_are_centred_over_the_slide(
    tmp_path: Path,
) -> None:
    from hespotex.config import RunConfig
    from hespotex.models.fit import fit_bundle

    config = RunConfig.from_values(
        {
            "profile": "published",
            "panel": {"kind": "all", "min_spots": 1},
            "published": {"epochs": 1, "gate_steps": 2, "gate_hidden": 8, "latent_size": 6},
        }
    )
    model = fit_bundle(toy_cohort(), config).model
    item = encoded_section("N", "N", 9, n_side=N_SIDE)
    xy, none = item.section.xy_um, np.zeros(N_SIDE**2, dtype=bool)
    store = _stored(tmp_path / "f", item.features, none)
    out = open_predictions(tmp_path / "p", len(xy), 30, Trust())
    decode_slide(model, Trust(), xy, store, out, device="cpu", advance=lambda _n: None)
    whole = predict_expression(model, item.features, xy)
    shift = composition_shift(model, out)
    for number, rows in enumerate(out.slices):
        np.testing.assert_allclose(out.layer("log1p", number), whole.log1p[rows], atol=1e-5)
        centred = out.layer("composition", number) - shift
        np.testing.assert_allclose(centred, whole.composition[rows], atol=1e-5)


@pytest.mark.usefixtures("small_chunks")
def test_unreadable_spots_are_nan_and_send_no_message(tmp_path: Path) -> None:
    model = toy_bundle(hops=2).model
    item = encoded_section("N", "N", 9, n_side=N_SIDE)
    xy, bad = item.section.xy_um, np.zeros(N_SIDE**2, dtype=bool)
    bad[[0, 30, 31, 100]] = True
    spoilt = item.features.copy()
    spoilt[bad] = 1e6
    found = _decode(model, tmp_path, spoilt, xy, bad, Trust())
    whole = predict_expression(model, item.features[~bad], xy[~bad])
    assert np.isnan(found["log1p"][bad]).all()
    assert np.isnan(found["depth"][bad]).all()
    np.testing.assert_allclose(found["log1p"][~bad], whole.log1p, atol=1e-5)


def test_halo_of_a_chain_reaches_as_many_spots_as_steps() -> None:
    graph = Neighbours(np.stack([np.arange(10.0) ** 1.01, np.zeros(10)], axis=1), 1)
    # On this chain every spot hears from the one before it, the first from the second.
    assert with_halo(np.array([6]), graph, 0).tolist() == [6]
    assert with_halo(np.array([6]), graph, 1).tolist() == [5, 6]
    assert with_halo(np.array([6, 7]), graph, 3).tolist() == [3, 4, 5, 6, 7]


def test_halo_is_closed_under_messages_on_a_lattice() -> None:
    xy = lattice(9, 9, hexagonal=True)
    edges = knn_edges(xy, 6)
    tile = np.arange(20, 30)
    two = with_halo(tile, Neighbours(xy, 6), 2)
    one = with_halo(tile, Neighbours(xy, 6), 1)
    sources = edges[0][np.isin(edges[1], one)]
    assert set(sources.tolist()) <= set(two.tolist())
    assert len(tile) < len(one) < len(two) < 81


def test_reach_counts_hops_and_graph_layers() -> None:
    model = toy_bundle(hops=2, graph_layers=3, neighbours=5).model
    assert (model_reach(model).neighbours, model_reach(model).steps) == (5, 5)


@pytest.mark.usefixtures("small_chunks")
def test_statistics_by_chunks_are_those_of_the_whole_slide(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    features = (1000 + rng.normal(size=(75, 2, 5))).astype(np.float32)
    bad = rng.uniform(size=75) < 0.2
    bad[16:32] = True  # a chunk without a readable spot
    found = slide_stats(_stored(tmp_path, features, bad))
    expected = feature_stats(features[~bad])
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-5)
