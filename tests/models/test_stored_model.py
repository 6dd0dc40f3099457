"""A model file that was written once keeps loading, and says what it said then."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.stored_model import GRADES, MODEL, PREDICTION, predict_stored
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.neighbours import NearestPatches
from hespotex.evaluation.trust import bundle_trust
from hespotex.models.bundle import read_model


def test_a_stored_model_file_predicts_the_stored_table() -> None:
    with np.load(PREDICTION) as stored:
        found = predict_stored(read_model(MODEL), stored["features"], stored["xy_um"])
        assert set(stored.files) == {*found, "features", "xy_um"}
        for name, array in found.items():
            assert np.isfinite(array).all(), name
            np.testing.assert_allclose(array, stored[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_model_of_0_1_0_claims_nothing_since_its_grades_do_not_say_what_they_rest_on() -> None:
    bundle = read_model(MODEL)
    assert bundle.validation["grades"] == GRADES
    for patient in ("same", "new", "unknown"):
        claims = bundle_claims(bundle, patient)
        assert set(claims.grade) == {"ungraded"}
        assert set(claims.evidence) == {"untested"}
        assert claims.scope == "none"
        assert "graded by hespotex 0.1.0" in claims.sentence()


def test_a_stored_model_file_keeps_intervals_and_baselines() -> None:
    bundle = read_model(MODEL)
    intervals = bundle_trust(bundle).intervals
    assert intervals is not None
    assert intervals.upper.shape == (len(intervals.levels), len(bundle.genes))
    assert bundle_trust(bundle).regions is None  # it was written before there were any
    assert bundle_trust(bundle).half_width() is None
    assert bundle.pooled.sum() == pytest.approx(1)
    kept = {k.removeprefix("nearest."): v for k, v in bundle.trust.items() if "nearest." in k}
    assert NearestPatches.from_tensors(kept).counts.shape == (16, len(bundle.genes))
