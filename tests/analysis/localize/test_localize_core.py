"""Bags, fits and maps of `localize`: known answers, torchmil's own models, and no leak from slides left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hespotex.analysis.localize import attention, evidence, nested, reduce
from hespotex.analysis.localize.bags import (
    Bag,
    Bags,
    check_labels,
    given_folds,
    patient_folds,
    permuted_labels,
    write_bags,
)
from hespotex.analysis.localize.compare import map_auroc, site_folds
from hespotex.errors import ConfigError

N_PATIENTS = 20


def _bags(folder: Path, *, effect: float = 4.0) -> tuple[Bags, np.ndarray]:
    """20 patients of 36 spots in a square; on slides of `ill` a block of 9 spots has another first value."""
    rng = np.random.default_rng(5)
    xy = np.stack(np.meshgrid(np.arange(6), np.arange(6)), axis=-1).reshape(-1, 2) * 100.0
    block = (xy[:, 0] < 300) & (xy[:, 1] < 300)
    slides, values, painted = [], [], []
    for patient in range(N_PATIENTS):
        ill = patient % 2 == 1
        of = rng.normal(size=(36, 8)).astype(np.float32)
        of[block & ill, 0] += effect
        slides.append(Bag(f"S{patient}", f"P{patient}", "ill" if ill else "well", xy))
        values.append(of)
        painted.append(block & ill)
    return write_bags(folder, slides, values), np.concatenate(painted)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bags, np.ndarray]:
    return _bags(tmp_path_factory.mktemp("bags"))


@pytest.fixture(scope="module")
def reduced(painted: tuple[Bags, np.ndarray]) -> reduce.Reduced:
    return reduce.reduce_folds(painted[0], patient_folds(painted[0]))


@pytest.fixture(scope="module")
def passed(painted: tuple[Bags, np.ndarray], reduced: reduce.Reduced) -> nested.Passed:
    bags = painted[0]
    return nested.nested_pass(reduced, bags.labels[None], bags.neighbours())


@pytest.mark.slow
def test_a_painted_block_tells_patients_apart_and_is_found_on_slides_left_out(
    painted: tuple[Bags, np.ndarray], passed: nested.Passed
) -> None:
    bags, block = painted
    margin = evidence.patient_margins(bags, passed.margin[0])
    labels = evidence.patient_labels(bags, bags.labels)
    # Class 0 is `ill`: the second column is that of `well`.
    assert evidence.auroc(margin, labels) >= 0.9
    ill = np.repeat(bags.labels == 0, 36)
    assert map_auroc(passed.loss[0][ill], block[ill]) >= 0.9


@pytest.mark.slow
def test_labels_of_patients_left_out_do_not_reach_their_predictions(
    painted: tuple[Bags, np.ndarray], reduced: reduce.Reduced
) -> None:
    bags = painted[0]
    labels = np.stack([bags.labels, bags.labels])
    held = reduced.folds == 0
    labels[1, held] = 1 - labels[1, held]
    found = nested.nested_pass(reduced, labels, bags.neighbours())
    np.testing.assert_allclose(found.margin[0, held], found.margin[1, held], atol=1e-5)
    np.testing.assert_allclose(
        found.loss[0, np.repeat(held, 36)], found.loss[1, np.repeat(held, 36)], atol=1e-5
    )
    assert np.abs(found.margin[0, ~held] - found.margin[1, ~held]).max() > 1e-3


@pytest.mark.slow
def test_values_of_a_patient_left_out_reach_no_other_patient_of_its_fold(tmp_path: Path) -> None:
    bags, _ = _bags(tmp_path)
    folds, near, spots = patient_folds(bags), bags.neighbours(), slice(3 * 36, 4 * 36)
    before = nested.nested_pass(reduce.reduce_folds(bags, folds), bags.labels[None], near)
    table = np.load(bags.values, mmap_mode="r+")
    table[spots] = table[spots][::-1] * 30
    table.flush()
    after = nested.nested_pass(reduce.reduce_folds(bags, folds), bags.labels[None], near)
    beside = (folds == folds[3]) & (np.arange(N_PATIENTS) != 3)
    np.testing.assert_array_equal(before.margin[0, beside], after.margin[0, beside])
    np.testing.assert_array_equal(before.variant[0, folds[3]], after.variant[0, folds[3]])
    rows = np.repeat(beside, 36)
    np.testing.assert_array_equal(before.loss[0, rows], after.loss[0, rows])
    others = folds != folds[3]
    assert np.abs(before.margin[0, others] - after.margin[0, others]).max() > 1e-3


def test_values_of_patients_left_out_do_not_reach_the_components(tmp_path: Path) -> None:
    bags, _ = _bags(tmp_path)
    kept = np.arange(N_PATIENTS) != 3
    before = reduce.fit_components(bags, kept)
    table = np.load(bags.values, mmap_mode="r+")
    table[bags.starts[3] : bags.starts[4]] = 99.0
    table.flush()
    np.testing.assert_array_equal(before.axes, reduce.fit_components(bags, kept).axes)


def test_other_folds_of_the_same_bags_do_not_replace_the_components_of_the_first(
    painted: tuple[Bags, np.ndarray], reduced: reduce.Reduced
) -> None:
    before = reduced.read(0, "spots")
    other = reduce.reduce_folds(painted[0], np.arange(N_PATIENTS) % 2)
    np.testing.assert_array_equal(reduced.read(0, "spots"), before)
    assert not np.array_equal(other.read(0, "spots"), before)


def test_folds_by_site_keep_patients_whole_and_both_diagnoses_in_every_training() -> None:
    xy, said = np.zeros((1, 2)), []

    def folds(*slides: tuple[str, str, str]) -> list[int] | None:
        bags = Bags(
            tuple(Bag(f"S{k}", p, d, xy, s) for k, (p, d, s) in enumerate(slides)), Path(), Path()
        )
        found, why = site_folds(bags)
        assert (found is None) == bool(why)
        said.append(why)
        return None if found is None else found.tolist()

    four = (("A", "ill", "x"), ("B", "well", "x"), ("C", "ill", "y"), ("D", "well", "y"))
    assert folds(*four) == [0, 0, 1, 1]
    assert folds(*four[:3]) is None  # without x no patient is well
    assert said[-1] == "Folds by site were not made: only x has patients of well."
    assert folds(*four, ("A", "ill", "y")) is None
    assert "A would lie on both sides" in said[-1]


def test_a_split_of_the_user_keeps_patients_whole_or_is_refused() -> None:
    def folds(*slides: tuple[str, str, str]) -> list[int]:
        of = [Bag(f"S{k}", p, d, np.zeros((1, 2)), split=f) for k, (p, d, f) in enumerate(slides)]
        return given_folds(of).tolist()

    four = (("A", "ill", "1"), ("B", "well", "1"), ("C", "ill", "2"), ("D", "well", "2"))
    assert folds(*four, ("A", "ill", "1")) == [0, 0, 1, 1, 0]
    with pytest.raises(
        ConfigError, match=r"expected each patient in one fold .* found A in several"
    ):
        folds(*four, ("A", "ill", "2"))
    with pytest.raises(ConfigError, match="found none for S4"):
        folds(*four, ("E", "ill", ""))
    with pytest.raises(ConfigError, match="two folds or more, found one: 1"):
        folds(*four[:2])
    with pytest.raises(
        ConfigError, match=r"two diagnoses or more in each fold .* found fold 3 with ill"
    ):
        folds(*four, ("E", "ill", "3"))


def test_smoothing_before_attention_is_the_smooth_model_of_torchmil() -> None:
    import torch
    from torchmil.models import SmABMIL
    from torchmil.nn import AttentionPool

    rng = np.random.default_rng(0)
    xy = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2) * 100.0
    values = rng.normal(size=(16, 5)).astype(np.float32)
    near = reduce.touching(xy).toarray() - np.eye(16)
    adjacency = torch.tensor(near / near.sum(axis=1, keepdims=True), dtype=torch.float32)[None]
    model = SmABMIL((5,), att_dim=7, sm_alpha=reduce.ALPHA, sm_steps=reduce.STEPS, sm_where="early")
    pool = AttentionPool(5, 7)
    with torch.no_grad():
        pool.fc1.module.weight.copy_(model.pool.proj1.weight)
        pool.fc1.module.bias.copy_(model.pool.proj1.bias)
        pool.fc2.weight.copy_(model.pool.proj2.weight)
        expected = model(torch.tensor(values)[None], adjacency)
        found = model.last_layer(pool(torch.tensor(reduce.smoothed(values, xy))[None]))[:, 0]
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_what_a_group_says_alone_is_what_the_model_says_of_a_slide_of_that_group_alone() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(40, 6)).astype(np.float32)
    starts = np.array([0, 10, 20, 30, 40])
    labels = np.array([[0, 1, 0, 1]])
    fits = attention.fit_attention(values, starts, labels, np.ones((1, 4), np.float32), 2)

    def whole(rows: np.ndarray) -> float:
        raised, said = fits.spots(values[rows])
        weight = attention.softmax_by_slide(raised, np.array([0, len(rows)]))
        return float((weight * said[..., 0]).sum())

    raised, said = fits.spots(values)
    weight = attention.softmax_by_slide(raised, starts)
    near = np.eye(40)
    near[0, :3] = 1  # the group of the first spot
    from scipy import sparse

    neutral = np.full((1, 40), fits.neutral[0, 0], np.float32)
    loss, alone = nested.group_scores(weight, said[..., 0], neutral, sparse.csr_matrix(near))
    assert alone[0, 0] == pytest.approx(whole(np.arange(3)) - fits.neutral[0, 0], abs=1e-4)
    rest = np.arange(3, 10)
    part = weight[0, :3].sum()
    replaced = (1 - part) * whole(rest) + part * fits.neutral[0, 0]
    assert loss[0, 0] == pytest.approx(whole(np.arange(10)) - replaced, abs=1e-4)


def test_permuted_labels_keep_the_classes_of_every_fold_and_move_patients_as_a_whole(
    tmp_path: Path,
) -> None:
    bags, _ = _bags(tmp_path)
    folds = patient_folds(bags)
    drawn = permuted_labels(bags, folds, 30)
    for fold in np.unique(folds):
        own = folds == fold
        assert (drawn[:, own].sum(axis=1) == bags.labels[own].sum()).all()
    assert len(np.unique(drawn, axis=0)) > 20


def test_two_slides_of_a_patient_lie_in_one_fold(tmp_path: Path) -> None:
    bags, _ = _bags(tmp_path)
    twice = [
        *bags.slides,
        *(Bag(f"{s.section_id}b", s.patient_id, s.label, s.xy_um) for s in bags.slides),
    ]
    values = [bags.read(k % N_PATIENTS) for k in range(2 * N_PATIENTS)]
    folds = patient_folds(write_bags(tmp_path / "twice", twice, values))
    np.testing.assert_array_equal(folds[:N_PATIENTS], folds[N_PATIENTS:])


@pytest.mark.slow
def test_permuted_labels_are_no_finding(tmp_path: Path) -> None:
    bags, _ = _bags(tmp_path, effect=0.0)
    reduced = reduce.reduce_folds(bags, patient_folds(bags))
    near = bags.neighbours()
    seen = nested.nested_pass(reduced, bags.labels[None], near)
    null = evidence.run_null({"x": reduced}, {"x": seen}, near, permutations=24)
    assert null.p_value > 0.05
    assert 0.3 < null.permuted.mean() < 0.7


def test_one_diagnosis_or_two_of_one_patient_are_refused() -> None:
    xy = np.zeros((1, 2))
    with pytest.raises(ConfigError, match="expected two diagnoses or more, found one: ill"):
        check_labels([Bag("a", "A", "ill", xy), Bag("b", "B", "ill", xy)])
    with pytest.raises(
        ConfigError, match="expected one diagnosis a patient, found 1 patient with several: A"
    ):
        check_labels([Bag("a", "A", "ill", xy), Bag("b", "A", "well", xy)])
    check_labels([Bag("a", "A", "ill", xy), Bag("b", "A", "ill", xy), Bag("c", "C", "well", xy)])


def test_auroc_and_balanced_accuracy_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    rng = np.random.default_rng(2)
    labels = rng.integers(2, size=50)
    margin = np.round(rng.normal(size=(50, 2)), 1)
    assert evidence.auroc(margin, labels) == pytest.approx(roc_auc_score(labels, margin[:, 1]))
    expected = balanced_accuracy_score(labels, margin.argmax(axis=1))
    assert evidence.balanced_accuracy(margin, labels) == pytest.approx(expected)


def test_wide_values_have_the_components_that_the_whole_spectrum_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    width = 4 * reduce.COMPONENTS + 40
    values = (rng.normal(size=(400, width)) * np.linspace(3, 1, width)).astype(np.float32)
    xy = np.stack([np.arange(400), np.zeros(400)], axis=1)
    bags = write_bags(tmp_path, [Bag("S", "P", "ill", xy)], [values])
    found = reduce.fit_components(bags, np.ones(1, bool)).of(values)
    assert found.shape == (400, reduce.COMPONENTS)
    _, spread, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-3)
    back, *_ = np.linalg.lstsq(found, values - values.mean(axis=0), rcond=None)
    left = ((values - values.mean(axis=0) - found @ back) ** 2).sum()
    assert left == pytest.approx((spread[reduce.COMPONENTS :] ** 2).sum(), rel=1e-3)
