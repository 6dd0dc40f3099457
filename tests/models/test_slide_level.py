"""The level of a slide: found where slides show it, none where they do not, and of the image alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.levelled_slides import levelled_slides
from hespotex.config import RunConfig
from hespotex.models.bundle import Bundle
from hespotex.models.default.level import (
    CANNOT_TELL,
    Following,
    SlideLevel,
    level_words,
    log_shares,
    slopes_inside,
)
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_expression, predict_section
from hespotex.models.preprocessing import feature_stats
from hespotex.models.types import Cohort, Prediction, TrainingSection

CONFIG = RunConfig.from_values(
    {
        "model": {"epochs": 1, "ensemble": 1, "hidden": 8, "n_components": 8},
        "trust": {"calibrate": False},
    }
)


def _pcc(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


def _without_level(bundle: Bundle) -> Bundle:
    kept = {k: v for k, v in bundle.model.tensors.items() if not k.startswith("level.")}
    return replace(bundle, model=replace(bundle.model, tensors=kept))


@pytest.fixture(scope="module")
def told() -> tuple[Bundle, Cohort, np.ndarray]:
    """A model of 16 patients, 8 others, and which genes slides show."""
    made = levelled_slides(24)
    items = made.cohort.items
    bundle = fit_bundle(replace(made.cohort, items=items[:16]), CONFIG)
    return bundle, replace(made.cohort, items=items[16:]), made.shown


def _levels(bundle: Bundle, cohort: Cohort) -> np.ndarray:
    level = SlideLevel.from_tensors(bundle.model.tensors)
    assert level is not None
    return np.stack([level(feature_stats(i.features))[0] for i in cohort.items])


def test_levels_of_new_patients_follow_the_measured_ones_where_slides_show_them(told):
    bundle, new, shown = told
    measured = np.stack(
        [log_shares(np.asarray(i.section.counts.sum(axis=0)).ravel()) for i in new.items]
    )
    pcc = _pcc(_levels(bundle, new) + 1e-12, measured)
    assert bundle.model.hyper["level"]["tells_slides_apart"]
    assert pcc[shown].mean() > 0.6
    assert (
        abs(_levels(bundle, new)[:, ~shown]).mean()
        < 0.5 * abs(_levels(bundle, new)[:, shown]).mean()
    )


def test_the_error_of_a_new_slide_is_smaller_with_its_level(told):
    bundle, new, _ = told
    plain = _without_level(bundle)
    errors = {"with": [], "without": []}
    for item in new.items:
        total = np.asarray(item.section.counts.sum(axis=0)).ravel()
        own = log_shares(total) - np.log(bundle.pooled)
        for name, model in (("with", bundle), ("without", plain)):
            mean = predict_section(model, item.without_expression()).composition.mean(axis=0)
            errors[name].append(np.square(mean - own).mean())
    assert np.mean(errors["with"]) < 0.9 * np.mean(
        errors["without"]
    )  # half of the genes have levels that nothing shows


def test_correlations_inside_a_slide_stay_what_they_are(told):
    bundle, new, _ = told
    plain = _without_level(bundle)
    for item in new.items[:3]:
        counts = item.section.counts.toarray()
        seen = np.log1p(1e6 * counts / counts.sum(axis=1, keepdims=True))
        found = [predict_section(model, item.without_expression()) for model in (bundle, plain)]
        for name in ("log1p", "composition"):
            a, b = (_pcc(getattr(p, name).astype(float), seen) for p in found)
            assert abs(a.mean() - b.mean()) < 1e-6
            assert np.abs(a - b).max() < 1e-4


@pytest.mark.parametrize("n", [2, 3])
def test_few_patients_give_exactly_the_training_mean_and_say_so(n):
    made = levelled_slides(n, slides=2)
    bundle = fit_bundle(made.cohort, CONFIG)
    new = levelled_slides(5, seed=1).cohort.items[0].without_expression()
    with_level, without = predict_section(bundle, new), predict_section(_without_level(bundle), new)
    np.testing.assert_array_equal(with_level.composition, without.composition)
    np.testing.assert_array_equal(with_level.log1p, without.log1p)
    assert level_words(bundle.model.hyper).startswith(CANNOT_TELL)
    assert f"{n} training patients" in level_words(bundle.model.hyper)


def test_slides_that_show_nothing_have_the_training_mean():
    told = 0
    for seed in range(12):
        made = levelled_slides(14, seed=seed, visible=False)
        told += fit_bundle(made.cohort, CONFIG).model.hyper["level"]["tells_slides_apart"]
    assert told <= 2  # 5 % each


def test_a_model_of_before_has_no_level_and_says_nothing(told):
    bundle, new, _ = told
    old = replace(
        _without_level(bundle).model,
        hyper={k: v for k, v in bundle.model.hyper.items() if k != "level"},
    )
    assert SlideLevel.from_tensors(old.tensors) is None
    assert level_words(old.hyper) == ""
    item = new.items[0]
    assert isinstance(predict_expression(old, item.features, item.section.xy_um), Prediction)


def test_a_part_of_a_slide_has_the_level_of_the_whole(told):
    bundle, new, _ = told
    item = new.items[0].without_expression()
    whole = predict_section(bundle, item)
    stats, rows = feature_stats(item.features), np.arange(20)
    part = predict_expression(
        bundle.model, item.features[rows], item.section.xy_um[rows], stats=stats
    )
    inner = [3]  # its neighbours are all in the part
    np.testing.assert_allclose(part.composition[inner], whole.composition[inner], atol=1e-5)


def test_the_level_knows_nothing_of_the_slide_s_own_counts(told):
    bundle, new, _ = told
    item = new.items[0]
    rng = np.random.default_rng(0)
    dense = rng.permutation(item.section.counts.toarray().ravel()).reshape(
        item.section.counts.shape
    )
    other = replace(item, section=replace(item.section, counts=sparse.csr_matrix(7 * dense)))
    a, b = (predict_section(bundle, i) for i in (item, other))
    np.testing.assert_array_equal(a.composition, b.composition)
    np.testing.assert_array_equal(a.log1p, b.log1p)


def test_slopes_inside_slides_are_those_that_counts_were_made_with():
    rng = np.random.default_rng(0)
    slope, sections = rng.normal(0, 0.2, size=(2, 40)), []
    inputs = [rng.normal(size=(900, 2)) for _ in range(3)]
    for z in inputs:
        # What a whole slide has more of is nothing that happens inside it.
        rate = np.exp(z @ slope + rng.normal(0, 1, size=40))
        rate /= rate.sum(axis=1, keepdims=True)
        depth = np.exp(8 + 0.3 * z[:, :1])
        counts = sparse.csr_matrix(rng.poisson(rate * depth).astype(np.float32))
        own = np.zeros((900, 1, 1), np.float32)
        sections.append(TrainingSection("S", "P", own, z, counts, np.ones(40, bool)))
    found = slopes_inside(sections, inputs)
    assert _pcc(found[:, :-1].T, slope.T).min() > 0.95
    totals = np.asarray(sum(s.counts.sum(axis=0) for s in sections)).ravel()
    # Shares sum to 1, whatever the depth of a spot: where some rise, others fall.
    np.testing.assert_allclose(np.average(found[:, :-1], axis=1, weights=totals), 0, atol=0.02)
    np.testing.assert_allclose(found[:, -1], [0.3, 0.0], atol=0.02)


def test_a_slide_that_did_not_measure_a_gene_says_nothing_of_its_slope():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 1))
    rate = np.exp(np.column_stack([0.5 * z, np.zeros((500, 8))]))
    counts = rng.poisson(300 * rate / rate.sum(axis=1, keepdims=True)).astype(np.float32)
    own = np.zeros((500, 1, 1), np.float32)

    def slide(kept: np.ndarray) -> TrainingSection:
        return TrainingSection("S", "P", own, z, sparse.csr_matrix(counts * kept), kept)

    every, none = np.ones(9, bool), np.arange(9) > 0
    alone = slopes_inside([slide(every)], [z])[0, 0]
    beside = slopes_inside([slide(every), slide(none)], [z, z])[0, 0]
    assert beside == pytest.approx(alone, rel=0.02)


@pytest.mark.parametrize(
    ("followed", "least", "most"), [(0.0, 0.0, 0.1), (0.6, 0.5, 0.7), (3.0, 1.0, 1.0)]
)
def test_the_share_of_slopes_that_slides_follow_is_found_over_all_genes(followed, least, most):
    rng = np.random.default_rng(2)
    told = rng.normal(size=(40, 300))
    y = followed * told + rng.normal(size=(40, 300))
    told, y = told - told.mean(axis=0), y - y.mean(axis=0)
    found = Following.of(told, y)
    assert least <= found.mean <= most
    assert found.share(told, y).mean() == pytest.approx(found.mean, abs=0.1)


def test_genes_that_follow_in_full_and_genes_that_do_not_are_told_apart():
    rng = np.random.default_rng(3)
    told = rng.normal(size=(60, 100))
    y = np.where(np.arange(100) < 50, told, 0) + 0.3 * rng.normal(size=(60, 100))
    told, y = told - told.mean(axis=0), y - y.mean(axis=0)
    share = Following.of(told, y).share(told, y)
    assert share[:50].min() > 0.8
    assert share[50:].max() < 0.2


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 9), st.integers(1, 5), st.integers(0, 10_000))
def test_a_share_lies_between_0_and_1_and_several_deals_at_once_are_those_one_by_one(n, g, seed):
    rng = np.random.default_rng(seed)
    told, deals = rng.normal(size=(n, g)), rng.normal(size=(n, 3, g))
    told[:, 0], deals[:, 1] = 0.0, 0.0
    following = Following.of(told, deals[:, 0])
    share = following.share(told, deals)
    assert ((share >= 0) & (share <= 1)).all()
    for k in range(3):
        np.testing.assert_allclose(share[k], following.share(told, deals[:, k]))


def test_a_scanner_of_no_training_slide_takes_a_level_no_further_than_training_slides_go(told):
    bundle, new, _ = told
    level = SlideLevel.from_tensors(bundle.model.tensors)
    assert level is not None
    features = new.items[0].features
    shift = np.random.default_rng(0).normal(size=features.shape[1:]).astype(np.float32)
    look = level.look(feature_stats(features + 50 * shift))
    assert np.linalg.norm(look) <= float(level.farthest) * 1.001
