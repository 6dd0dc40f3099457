"""Nuclei factor: golden numbers, physical units, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hespotex.errors import SlideError
from hespotex.nuclei.factor import (
    SATURATION_PER_MM2,
    density_nuclei_factor,
    published_nuclei_factor,
)


def test_published_factor_equals_golden(golden):
    values = golden("nuclei_factor")
    ours = published_nuclei_factor(values["label_values_in_patch"])
    np.testing.assert_allclose(ours, values["factor"], rtol=0, atol=1e-15)


def test_published_factor_is_relative_to_the_slide():
    assert published_nuclei_factor([1, 2, 4]).tolist() == [1.25, 1.5, 2.0]
    assert published_nuclei_factor([1, 2]).tolist() == [1.5, 2.0]
    assert published_nuclei_factor([]).tolist() == []


def test_density_factor_by_hand():
    """A 100 um square is 0.01 mm2; 33 nuclei there are 3,300 per mm2, half of saturation or so."""
    factor = density_nuclei_factor([0, 33, 10_000], 100.0**2)
    np.testing.assert_allclose(factor, [1, 1 + 3300 / SATURATION_PER_MM2, 2], rtol=1e-12)
    np.testing.assert_allclose(SATURATION_PER_MM2, 6611.57, rtol=1e-5)


def test_density_factor_does_not_change_with_the_patch_side():
    small = density_nuclei_factor([5], 50.0**2)
    large = density_nuclei_factor([20], 100.0**2)
    np.testing.assert_allclose(small, large, rtol=1e-12)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.integers(0, 60))
def test_density_factor_of_a_spot_ignores_the_rest_of_the_slide(nuclei, other):
    alone = density_nuclei_factor(nuclei[:1], 3000.0)
    among = density_nuclei_factor([*nuclei, other], 3000.0)
    assert among[0] == alone[0]
    assert ((among >= 1) & (among <= 2)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: published_nuclei_factor([1, -2], section="C2"),
            r"section C2: label values.*found -2 \(1 of 2\): check the nuclei mask",
        ),
        (lambda: density_nuclei_factor([np.nan], 1.0), "nuclei in a patch .* found nan"),
        (lambda: density_nuclei_factor([1], 0.0), "above 0 um2, found 0: check patch side"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(SlideError, match=message):
        call()
