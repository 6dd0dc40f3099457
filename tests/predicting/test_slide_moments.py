"""Moments of a slide's features: merged over chunks, they are those of the whole."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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
    for name in ("mean", "std"):
        np.testing.assert_allclose(
            getattr(merged, name), getattr(alone, name), rtol=1e-4, atol=1e-4
        )
