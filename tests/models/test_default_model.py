"""The default model end to end on made sections: it finds what drives them, and keeps its promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from helpers.default_sections import SMALL, make_section
from hespotex.errors import ModelFileError, SpotTableError
from hespotex.genes.panel import log1p_cpm
from hespotex.models.default.calibration import Readout
from hespotex.models.default.loop import fit_model
from hespotex.models.predict import predict_expression
from hespotex.models.preprocessing import feature_stats
from hespotex.models.types import FittedModel, Prediction

TRAIN = [make_section(n, seed=i).section for i, n in enumerate("ABC")]
HELD = make_section("D", seed=9)


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return fit_model(TRAIN, SMALL, seed=3)


def _predict(model: FittedModel, section=HELD.section, **options) -> Prediction:
    return predict_expression(model, section.features, section.xy_um, section.nuclei, **options)


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _pcc(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return float(np.mean((a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))))


def _assert_equal(a: FittedModel, b: FittedModel) -> None:
    assert a.tensors.keys() == b.tensors.keys()
    for name, value in a.tensors.items():
        np.testing.assert_array_equal(value, b.tensors[name], err_msg=name)
    assert a.hyper == b.hyper
    assert a.history == b.history


def test_composition_and_depth_of_another_section_are_found(model: FittedModel):
    prediction = _predict(model)
    shares = np.exp(HELD.log_ratio - HELD.log_ratio.mean(axis=1, keepdims=True))
    assert _pcc(prediction.composition, np.log(shares)) > 0.7
    assert np.corrcoef(np.log(prediction.depth), HELD.log_depth)[0, 1] > 0.8
    assert prediction.spread is not None
    assert prediction.spread.min() >= 0
    assert prediction.spread.max() > 0


def test_predictions_are_in_their_documented_units(model: FittedModel):
    prediction = _predict(model)
    pooled = np.exp(model.tensors["readout.log_pooled"])
    share = np.exp(prediction.composition) * pooled
    np.testing.assert_allclose(share.sum(axis=1), 1, rtol=1e-4)
    measured = np.asarray(HELD.section.counts.sum(axis=1)).ravel()
    assert 0.6 < prediction.depth.mean() / measured.mean() < 1.6
    assert _mean(prediction.log1p) == pytest.approx(_mean(log1p_cpm(HELD.section.counts)), abs=0.3)


def test_at_the_mean_depth_the_training_mean_is_the_measured_one(model: FittedModel):
    readout = Readout.from_tensors(model.tensors)
    said = []
    for s in TRAIN:
        log_share = _predict(model, s).composition + readout.log_pooled
        said.append(readout.log1p(log_share, np.zeros(len(log_share))))
    truth = np.concatenate([log1p_cpm(s.counts) for s in TRAIN])
    np.testing.assert_allclose(
        np.concatenate(said).mean(axis=0), truth.mean(axis=0), rtol=0, atol=1e-3
    )


def test_the_same_seed_gives_the_same_bits_and_another_does_not(model: FittedModel):
    torch.rand(3)  # whatever happened to the global generator before
    state = torch.random.get_rng_state()
    again = fit_model(TRAIN, SMALL, seed=3)
    _assert_equal(again, model)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = fit_model(TRAIN, SMALL, seed=4)
    assert (other.tensors["member0.genes.weight"] != model.tensors["member0.genes.weight"]).any()


def test_the_number_of_cores_changes_no_bit(model: FittedModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hespotex.models.default.loop._WORTH_SHARING", 0)
    before = torch.get_num_threads()
    try:
        for cores in (1, 3):
            torch.set_num_threads(cores)
            _assert_equal(fit_model(TRAIN, SMALL, seed=3), model)
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("changes", [{}, {"graph_layers": 2}, {"hops": 0}])
def test_permuting_spots_permutes_predictions(changes: dict[str, int]):
    model = fit_model(TRAIN[:2], SMALL.model_copy(update={"epochs": 2, **changes}), seed=0)
    order = np.random.default_rng(0).permutation(81)
    held = HELD.section
    whole, moved = (
        _predict(model, replace(held, features=held.features[o], xy_um=held.xy_um[o]))
        for o in (np.arange(81), order)
    )
    np.testing.assert_allclose(moved.log1p, whole.log1p[order], atol=2e-3)
    np.testing.assert_allclose(moved.composition, whole.composition[order], atol=2e-3)


def test_a_part_with_the_slides_stats_is_the_part_of_the_whole():
    model = fit_model(TRAIN[:2], SMALL.model_copy(update={"epochs": 2, "hops": 0}), seed=0)
    held = HELD.section
    part = replace(held, features=held.features[:30], xy_um=held.xy_um[:30])
    found = _predict(model, part, stats=feature_stats(held.features))
    np.testing.assert_allclose(found.log1p, _predict(model).log1p[:30], atol=1e-3)


def test_a_gene_that_a_section_did_not_measure_is_learnt_from_the_others():
    """As a measured zero it would be learnt as half as abundant."""
    counts = TRAIN[1].counts.toarray()
    counts[:, :4] = 0
    second = replace(TRAIN[1], counts=sparse.csr_matrix(counts))
    mask = np.arange(30) >= 4
    config = SMALL.model_copy(update={"epochs": 2})
    unmeasured = fit_model([TRAIN[0], replace(second, measured=mask)], config, seed=0)
    zero = fit_model([TRAIN[0], second], config, seed=0)
    own = TRAIN[0].counts.toarray()
    share = own.sum(axis=0) / own.sum()
    found, halved = (np.exp(m.tensors["readout.log_pooled"])[:4] for m in (unmeasured, zero))
    np.testing.assert_allclose(found / share[:4], found.sum() / share[:4].sum(), rtol=1e-3)
    assert found.sum() > 1.5 * halved.sum()
    mean = np.log1p(1e6 * own / own.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(unmeasured.tensors["direct.train_mean"][:4], mean[:4], atol=1e-3)


def test_gate_latents_guide_the_network_when_asked_for():
    config = SMALL.model_copy(update={"epochs": 2, "latent_target": "gate", "gate_steps": 5})
    guided = fit_model(TRAIN[:2], config, seed=0)
    assert len(guided.history["gate_mse"]) == 5
    assert guided.history["gate_mse"][-1] < guided.history["gate_mse"][0]
    plain = fit_model(TRAIN[:2], config.model_copy(update={"latent_target": "components"}), seed=0)
    assert (guided.tensors["member0.genes.weight"] != plain.tensors["member0.genes.weight"]).any()


def test_a_model_with_nuclei_refuses_to_predict_without():
    sections = [make_section(n, seed=i, nuclei=True).section for i, n in enumerate("AB")]
    model = fit_model(sections, SMALL.model_copy(update={"epochs": 1}), seed=0)
    assert np.isfinite(_predict(model, sections[0]).log1p).all()
    with pytest.raises(ModelFileError, match=r"trained with nuclei, found none: say where"):
        _predict(model)


def test_sections_that_do_not_fit_each_other_are_refused():
    with pytest.raises(SpotTableError, match="at least one training section, found none"):
        fit_model([], SMALL, seed=0)
    other = replace(TRAIN[1], features=TRAIN[1].features[:, :1])
    with pytest.raises(SpotTableError, match=r"section B: .*as in A, found .*\(1, 5\)"):
        fit_model([TRAIN[0], other], SMALL, seed=0)
    empty = replace(TRAIN[1], counts=TRAIN[1].counts * 0)
    empty.counts.eliminate_zeros()
    with pytest.raises(SpotTableError, match=r"section B: expected counts .* found none"):
        fit_model([TRAIN[0], empty], SMALL, seed=0)
    short = replace(TRAIN[1], xy_um=TRAIN[1].xy_um[:-1])
    with pytest.raises(SpotTableError, match=r"found 81, 81 and 80: encode"):
        fit_model([TRAIN[0], short], SMALL, seed=0)


def test_features_that_cannot_be_are_refused(model: FittedModel):
    broken = HELD.section.features.copy()
    broken[3, 1, 2] = np.nan
    with pytest.raises(SpotTableError, match="finite features, found NaN"):
        _predict(model, replace(HELD.section, features=broken))
    with pytest.raises(SpotTableError, match="found 81 and 80: encode"):
        _predict(model, replace(HELD.section, xy_um=HELD.section.xy_um[:-1]))


def test_a_damaged_model_is_refused(model: FittedModel):
    tensors = {k: v for k, v in model.tensors.items() if k != "member1.genes.weight"}
    with pytest.raises(ModelFileError, match=r"not those of the default profile: .*genes.weight"):
        _predict(replace(model, tensors=tensors))
