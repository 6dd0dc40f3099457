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
    LevelFit,
    SlideLevel,
    level_words,
    log_shares,
)
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_expression, predict_section
from hespotex.models.preprocessing import feature_stats
from hespotex.models.types import Cohort, Prediction

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


@settings(max_examples=40, deadline=None)
@given(
    st.integers(4, 9), st.integers(1, 12), st.integers(0, 10_000),
)  # fmt: skip
def test_one_look_read_singly_has_the_level_of_the_table_of_coefficients(n, k, seed):
    rng = np.random.default_rng(seed)
    fit, y = LevelFit.of(rng.normal(size=(n, k))), rng.normal(size=(n, 3))
    scores = fit.basis @ (y - y.mean(axis=0))
    look = rng.normal(size=k)
    np.testing.assert_allclose(
        fit.level(look, scores), (look - fit.centre) @ fit.coefficients(scores), atol=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 9), st.integers(1, 12), st.integers(0, 10_000))
def test_the_mean_look_has_no_level(n, k, seed):
    rng = np.random.default_rng(seed)
    fit = LevelFit.of(rng.normal(size=(n, k)))
    assert np.abs(fit.level(fit.centre, fit.basis @ rng.normal(size=(n, 2)))).max() < 1e-9


def test_a_stain_that_shifts_and_stretches_a_whole_slide_moves_no_level(told):
    bundle, new, _ = told
    level = SlideLevel.from_tensors(bundle.model.tensors)
    assert level is not None
    features = new.items[0].features
    shift = np.random.default_rng(0).normal(size=features.shape[1:]).astype(np.float32)
    seen, moved = (level(feature_stats(f)) for f in (features, 1.3 * features + 5 * shift))
    np.testing.assert_allclose(moved[0], seen[0], atol=1e-3)
    assert moved[1] == pytest.approx(seen[1], abs=1e-3)
