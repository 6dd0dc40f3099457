"""Intervals of composition travel in the model file; one that lacks them, or has them of other sizes, has none."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from helpers.heard import Heard
from helpers.stored_model import MODEL
from helpers.toy_cohort import toy_cohort
from hespotex.config import RunConfig
from hespotex.evaluation.region_intervals import RegionIntervals
from hespotex.evaluation.trust import NO_INTERVALS, Trust, bundle_trust
from hespotex.models.bundle import read_model
from hespotex.models.fit import fit_bundle
from hespotex.results.announce import say_what_lacks
from hespotex.validation.cross_validation import calibrated

INTERVALS = RegionIntervals(
    (1, 4, 9, 25),
    (0.5, 0.9),
    np.linspace(0.1, 0.8, 8, dtype=np.float32).reshape(4, 2),
    np.full((4, 2), 1.25, np.float32),
    np.array([3, 3, 3, 2]),
)


def test_intervals_come_back_as_they_were_stored() -> None:
    found = Trust.from_tensors(Trust(regions=INTERVALS).tensors()).regions
    assert found is not None
    for field in fields(RegionIntervals):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(INTERVALS, field.name))
    np.testing.assert_allclose(found.half_width(0.9), 1.644854 * 1.25 * INTERVALS.sd, rtol=1e-5)


def test_sizes_of_another_version_are_taken_for_none() -> None:
    tensors = Trust(regions=INTERVALS).tensors() | {"regions.sizes": np.array([1, 7, 19, 37])}
    assert Trust.from_tensors(tensors).regions is None


def test_a_model_without_intervals_says_so_and_one_with_them_does_not() -> None:
    old, heard = read_model(MODEL), Heard()
    say_what_lacks(old, heard)
    assert heard.said == [NO_INTERVALS]
    train = toy_cohort(n_side=6).subset(("A1", "A2"))
    config = RunConfig.from_values({"panel": {"n_top": 15}, "model": {"epochs": 2, "ensemble": 2}})
    new, heard = calibrated(fit_bundle(train, config), train), Heard()
    say_what_lacks(new, heard)
    assert NO_INTERVALS not in heard.said
    assert bundle_trust(new).half_width() is not None


@pytest.mark.slow
@pytest.mark.parametrize(("training", "n_units"), [(("A1", "A2", "B1", "B2"), 2), (("A1", "B1"), 2), (("A1", "A2"), 2), (("A1",), 4)])  # fmt: skip
def test_patients_are_left_out_where_there_are_two_else_sections_else_blocks(
    training: tuple[str, ...], n_units: int
) -> None:
    train = toy_cohort(n_side=10).subset(training)
    config = RunConfig.from_values({"panel": {"n_top": 15}, "model": {"epochs": 2, "ensemble": 1}})
    found = bundle_trust(calibrated(fit_bundle(train, config), train)).regions
    assert found is not None
    assert found.n_units[0] == n_units
    width = found.half_width(0.9)
    assert np.isfinite(width[:3]).all()
    assert (width[:3] > 0).all()
