"""The published profile: golden prediction, its training on a tiny cohort, leaks, errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from hespotex.config import PublishedConfig
from hespotex.errors import ModelFileError, SpotTableError
from hespotex.models.published.published import fit_published, predict_published
from hespotex.models.types import FittedModel, TrainingSection

TINY = PublishedConfig(latent_size=4, gate_hidden=8, gate_query=4, gate_steps=5, epochs=3)


def section(name="A", n=14, genes=6, seed=0, nuclei=False, **changes):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(3.0, size=(n, genes)).astype(np.float32)
    values = {
        "section_id": name,
        "patient_id": "P",
        "features": rng.normal(size=(n, 2, 5)).astype(np.float32),
        "xy_um": rng.normal(size=(n, 2)) * 100,
        "counts": sparse.csr_matrix(counts),
        "measured": np.ones(genes, bool),
        "nuclei": rng.uniform(1, 2, n) if nuclei else None,
    }
    return TrainingSection(**(values | changes))


@pytest.fixture(scope="module")
def model():
    return fit_published([section("A", seed=0), section("B", n=11, seed=1)], TINY)


def test_prediction_with_golden_weights_equals_golden(golden_model, golden):
    values = golden("decoder_forward")
    ours = predict_published(
        golden_model, values["features"], values["xy_px"], values["nuclei_factor"]
    )
    np.testing.assert_allclose(ours, values["expression_hat"], rtol=0, atol=1e-12)


def test_rows_predicted_in_parts_equal_all_at_once(golden_model, golden, monkeypatch):
    values = golden("decoder_forward")
    monkeypatch.setattr("hespotex.models.published.published._ROWS", 7)
    ours = predict_published(
        golden_model, values["features"], values["xy_px"], values["nuclei_factor"]
    )
    np.testing.assert_allclose(ours, values["expression_hat"], rtol=0, atol=1e-12)


def test_a_fit_learns_and_keeps_every_epoch_in_its_history(model):
    long = fit_published([section()], TINY.model_copy(update={"epochs": 40}))
    assert long.history["expression_mse"][-1] < 0.5 * long.history["expression_mse"][0]
    assert len(model.history["gate_mse"]) == 2 * 5
    assert {len(model.history[k]) for k in model.history if k != "gate_mse"} == {3}


def test_equal_seeds_give_equal_bits_whatever_the_global_state(model):
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    again = fit_published([section("A", seed=0), section("B", n=11, seed=1)], TINY)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(np.array_equal(again.tensors[k], model.tensors[k]) for k in model.tensors)
    other = fit_published([section("A", seed=0), section("B", n=11, seed=1)], TINY, seed=1)
    assert any(not np.array_equal(other.tensors[k], model.tensors[k]) for k in model.tensors)


def test_prediction_is_not_shifted_by_its_minimum(model):
    one = section("A", seed=0)
    shifted = dict(model.tensors)
    shifted["decoder.gene_head.3.bias"] = shifted["decoder.gene_head.3.bias"] - 50
    low = predict_published(dataclasses.replace(model, tensors=shifted), one.features, one.xy_um)
    np.testing.assert_allclose(
        low, predict_published(model, one.features, one.xy_um) - 50, atol=1e-4
    )


def test_permuted_spots_permute_the_prediction(model):
    one = section("A", seed=0)
    order = np.random.default_rng(0).permutation(14)
    straight = predict_published(model, one.features, one.xy_um)
    moved = predict_published(model, one.features[order], one.xy_um[order])
    np.testing.assert_allclose(moved, straight[order], rtol=0, atol=1e-5)


def test_an_unmeasured_gene_does_not_reach_the_weights_of_its_head():
    measured = np.array([True, True, True, True, True, False])
    fits = []
    for genes_epochs in (1, 6):
        fits.append(
            fit_published(
                [section(measured=measured)],
                TINY.model_copy(update={"epochs": genes_epochs, "weight_decay": 0.0}),
            )
        )
    bias = [f.tensors["decoder.gene_head.3.bias"] for f in fits]
    assert bias[0][5] == bias[1][5]
    assert (bias[0][:5] != bias[1][:5]).all()


def test_a_model_trained_with_nuclei_multiplies_by_them_and_refuses_to_go_without():
    one = section(nuclei=True)
    model = fit_published([one], TINY)
    plain = predict_published(model, one.features, one.xy_um, np.ones(14))
    double = predict_published(model, one.features, one.xy_um, np.full(14, 2.0))
    np.testing.assert_allclose(double, 2 * plain, rtol=1e-6)
    with pytest.raises(ModelFileError, match="trained with a nuclei factor, found no nuclei"):
        predict_published(model, one.features, one.xy_um)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([section("B", genes=7)], "section B: genes: expected 6 as in section A, found 7"),
        (
            [section("B", features=np.zeros((14, 1, 5), np.float32))],
            r"features a spot: expected \(2, 5\) as in section A, found \(1, 5\)",
        ),
        ([section("B", nuclei=True)], "nuclei factor present: expected False .* found True"),
    ],
)
def test_sections_that_differ_are_named(others, message):
    with pytest.raises(SpotTableError, match=message):
        fit_published([section("A"), *others], TINY)


def test_no_section_and_wrong_features_are_said(model):
    with pytest.raises(SpotTableError, match="one section or more, found none"):
        fit_published([], TINY)
    with pytest.raises(ModelFileError, match="expects 10 features a spot, found 3: encode with"):
        predict_published(model, np.zeros((5, 3)), np.random.default_rng(0).normal(size=(5, 2)))


def test_weights_of_another_network_are_refused(model):
    one = section()
    foreign = FittedModel("published", {"a": np.zeros(2)}, model.hyper)
    with pytest.raises(ModelFileError, match=r"not those of the published network.*train it anew"):
        predict_published(foreign, one.features, one.xy_um)
    other = dataclasses.replace(model, profile="default")
    with pytest.raises(ModelFileError, match="published profile, found default"):
        predict_published(other, one.features, one.xy_um)
