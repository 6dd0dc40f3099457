"""Moments of a slide's features: merged over chunks, they are those of the whole."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from hespotex.models.preprocessing import feature_stats
from hespotex.predicting.encode import slide_stats


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 10_000))
def test_chunks_of_any_size_give_the_moments_of_the_whole(sizes, seed):
    rng = np.random.default_rng(seed)
    sizes = [*sizes, 3]
    chunks = [
        rng.gamma(1.5, 2.0, size=(n, 2, 3)).astype(np.float32) + 7 * k for k, n in enumerate(sizes)
    ]
    bad = [rng.random(n) < 0.2 for n in sizes[:-1]] + [np.zeros(3, bool)]
    store = [SimpleNamespace(features=f, bad=b) for f, b in zip(chunks, bad, strict=True)]
    whole = np.concatenate([f[~b] for f, b in zip(chunks, bad, strict=True)])
    merged, alone = slide_stats(store), feature_stats(whole)
    for name in ("mean", "std", "skew"):
        np.testing.assert_allclose(
            getattr(merged, name), getattr(alone, name), rtol=1e-4, atol=1e-4
        )
    np.testing.assert_allclose(
        alone.skew, skew(whole.astype(np.float64), axis=0), rtol=1e-3, atol=1e-3
    )


def test_a_constant_feature_has_no_skewness():
    stats = feature_stats(np.full((5, 1, 2), 3.0, np.float32))
    assert stats.skew is not None
    assert stats.skew == pytest.approx(0)
