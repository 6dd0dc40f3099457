"""Nothing of a held-out section reaches a fit: permuting its counts changes no bit of any model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from hespotex.config import RunConfig
from hespotex.cross_validation import FoldOutcome, run_fold
from hespotex.section import Section
from hespotex.splits import Fold, make_folds
from hespotex.training.types import Cohort, EncodedSection
from toy_cohort import toy_cohort


def _scrambled(item: EncodedSection) -> EncodedSection:
    """The same spots with their counts permuted over spots and genes, and multiplied."""
    section = item.section
    assert section.counts is not None
    rng = np.random.default_rng(0)
    dense = section.counts.toarray()
    dense = 3 * rng.permutation(dense.ravel()).reshape(dense.shape)
    return replace(item, section=replace(section, counts=sparse.csr_matrix(dense)))


def _with_scrambled(cohort: Cohort, held_out: tuple[str, ...]) -> Cohort:
    items = tuple(_scrambled(i) if i.section.section_id in held_out else i for i in cohort.items)
    return replace(cohort, items=items)


def _assert_same_fit(a: FoldOutcome, b: FoldOutcome) -> None:
    assert a.bundle.genes == b.bundle.genes
    assert a.bundle.training_totals == b.bundle.training_totals
    assert a.bundle.model.hyper == b.bundle.model.hyper
    assert a.bundle.model.history == b.bundle.model.history
    assert a.bundle.model.tensors.keys() == b.bundle.model.tensors.keys()
    for name, value in a.bundle.model.tensors.items():
        np.testing.assert_array_equal(value, b.bundle.model.tensors[name], err_msg=name)
    for held_a, held_b in zip(a.held_out, b.held_out, strict=True):
        for name in ("log1p", "composition", "depth", "spread"):
            np.testing.assert_array_equal(
                getattr(held_a.prediction, name), getattr(held_b.prediction, name)
            )


CONFIGS = {
    "default": ["panel.min_spot_fraction=0.5", "panel.n_top=15"],
    "published": [
        "profile=published",
        "published.gate_steps=5",
        "published.epochs=2",
        "panel.n_top=15",
        "panel.min_spots=0",
    ],
}


@pytest.mark.parametrize("by", ["patient", "section", "kfold:2"])
@pytest.mark.parametrize("profile", sorted(CONFIGS))
def test_permuting_held_out_counts_changes_no_bit_of_the_fit(profile: str, by: str) -> None:
    cohort = toy_cohort(n_side=6)
    config = RunConfig.from_values({}, CONFIGS[profile])
    ids = [i.section.section_id for i in cohort.items]
    fold = make_folds(ids, [i.section.patient_id for i in cohort.items], by)[0]
    plain = run_fold(cohort, fold, config)
    scrambled = run_fold(_with_scrambled(cohort, fold.held_out), fold, config)
    _assert_same_fit(plain, scrambled)
    assert (
        plain.held_out[0].scores["model"].summary != scrambled.held_out[0].scores["model"].summary
    )


def test_permuting_training_counts_does_change_the_fit() -> None:
    cohort = toy_cohort(n_side=6)
    config = RunConfig.from_values({}, CONFIGS["default"])
    fold = Fold(("A1",), ("A2", "B1", "B2"))
    plain = run_fold(cohort, fold, config)
    scrambled = run_fold(_with_scrambled(cohort, ("B1",)), fold, config)
    with pytest.raises(AssertionError):
        _assert_same_fit(plain, scrambled)


def test_a_section_is_predicted_without_its_expression() -> None:
    item = toy_cohort(n_side=4).items[0]
    seen: Section = item.without_expression().section
    assert seen.counts is None
    assert seen.genes is None
    np.testing.assert_array_equal(seen.xy_px0, item.section.xy_px0)
