"""The first pass over a slide: patches in reading order -> features, chunk by chunk on the disk."""

from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import Encoder
from hespotex.errors import SlideError
from hespotex.features.appearance import Appearance
from hespotex.features.encode import encode_batches, orthonormal_projection
from hespotex.features.patches import PatchPlan
from hespotex.models.preprocessing import FeatureStats, stats_of_moments
from hespotex.predicting.store import FeatureChunk, FeatureStore, n_rows
from hespotex.progress import Advance
from hespotex.slide import Slide


def encode_slide(
    slide: Slide,
    xy_px0: npt.NDArray[np.float64],
    mpp: float,
    encoder: Encoder,
    plan: PatchPlan,
    store: FeatureStore,
    *,
    projection: int | None = None,
    max_bad: float = 0.01,
    advance: Advance,
) -> int:
    """Encode the chunks that the store lacks; patches are decoded ahead while the encoder works.

    `features.encode.BATCH` divides a chunk, so that no batch straddles two.

    Args:
        xy_px0: (n, 2) centres in level-0 pixels, in reading order.
        mpp: microns per level-0 pixel.
        store: where finished chunks are and go.
        projection: columns of the fixed projection of the features, or None.
        max_bad: share of spots whose pixels may be unreadable.
        advance: hears of every so many spots that are done.

    Returns:
        how many spots could not be read.

    Raises:
        SlideError: more than `max_bad` of the spots cannot be read; what is done stays.
        RunError: the disk is full.
    """
    missing = store.missing()
    there = sorted(set(range(len(store.slices))) - set(missing))
    n_bad = sum(int(store.read(number).bad.sum()) for number in there)
    advance(len(xy_px0) - sum(n_rows(store.slices[n]) for n in missing))
    unreadable = _Unreadable(len(xy_px0), n_bad, max_bad)
    unreadable.check()
    if not missing:
        return n_bad
    rows = np.concatenate([np.r_[store.slices[n]] for n in missing])
    matrix = None if projection is None else orthonormal_projection(encoder.dim, projection)
    parts: list[FeatureChunk] = []
    filled, waiting = 0, iter(missing)
    number = next(waiting)
    encoded = encode_batches(
        slide, xy_px0[rows], encoder, plan, mpp,
        on_bad=unreadable, area_batch=n_rows(store.slices[0]),
    )  # fmt: skip
    with closing(encoded) as batches:
        for indices, raw, seen in batches:
            features = raw if matrix is None else np.matmul(raw, matrix).astype(np.float32)
            bad = np.array([int(i) in unreadable.spots for i in indices], dtype=bool)
            parts.append(FeatureChunk(features, seen, bad))
            filled += len(indices)
            advance(len(indices))
            if filled == n_rows(store.slices[number]):
                unreadable.check()  # first: a chunk that is too much is read again by the next run
                store.write(number, _join(parts))
                parts, filled = [], 0
                number = next(waiting, number)
    return n_bad + len(unreadable.spots)


class _Unreadable:
    """Spots whose pixels cannot be read, and when they become too many."""

    def __init__(self, n_spots: int, n_before: int, share: float) -> None:
        self.spots: set[int] = set()
        self._n, self._before, self._share = n_spots, n_before, share
        self._lock = threading.Lock()
        self._first: SlideError | None = None

    def __call__(self, spot: int, error: SlideError) -> None:
        with self._lock:
            self.spots.add(spot)
            self._first = self._first or error

    def check(self) -> None:
        count = self._before + len(self.spots)
        if count > self._share * self._n:
            first = (
                self._first or "found by an earlier run, delete its folder work to read them again"
            )
            raise SlideError(
                expected=f"at most {self._share:.2%} of {self._n} spots unreadable (--max-bad-tiles)",
                found=count,
                remedy=f"the first: {first}",
            ) from self._first


def _join(parts: list[FeatureChunk]) -> FeatureChunk:
    return FeatureChunk(
        np.concatenate([p.features for p in parts]),
        Appearance.joined([p.appearance for p in parts]),
        np.concatenate([p.bad for p in parts]),
    )


def slide_stats(store: FeatureStore) -> FeatureStats:
    """Mean and deviation of every feature over the readable spots of the whole slide.

    Chunks are merged in float64 (Chan, Golub and LeVeque 1983), so memory does not grow with spots.
    """
    count, mean, square = 0, np.zeros(1), np.zeros(1)
    for chunk in store:
        values = chunk.features[~chunk.bad].astype(np.float64)
        n = len(values)
        if not n:
            continue
        own = values.mean(axis=0)
        values -= own
        total, shift = count + n, own - mean
        square = square + np.square(values).sum(axis=0) + np.square(shift) * (count * n / total)
        mean = mean + shift * (n / total)
        count = total
    return stats_of_moments(count, mean, square)
