"""Owns what turns composition and depth into log1p(CPM): the expectation's table and the genes' offsets; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.expression import log1p_cpm, pooled_composition, spot_totals
from hespotex.training.ensemble import Decoded, Ensemble
from hespotex.training.expectation import Log1pExpectation, tabulate
from hespotex.training.types import FittedModel, TrainingSection

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_GENE_BLOCK = 1024


@dataclass(frozen=True)
class Readout:
    """Composition and depth -> log1p(CPM over the panel).

    Attributes:
        log_pooled: (G,) log of the pooled shares of the training sections.
        expectation: E[log1p(CPM)] by share and depth.
        offset: (G,) added, so that the mean over the training spots is the measured one.
        mean_log_depth: mean of log(1 + total) over the training spots.
    """

    log_pooled: Float32
    expectation: Log1pExpectation
    offset: Float32
    mean_log_depth: float

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {
            "readout.log_pooled": self.log_pooled,
            "readout.table": self.expectation.table,
            "readout.offset": self.offset,
            "readout.mean_log_depth": np.array(self.mean_log_depth),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Readout:
        """The read-out of a stored model."""
        return cls(
            np.asarray(tensors["readout.log_pooled"]),
            Log1pExpectation(np.asarray(tensors["readout.table"])),
            np.asarray(tensors["readout.offset"]),
            float(tensors["readout.mean_log_depth"]),
        )

    def log_share(self, log_ratio: Float32) -> Float32:
        """(..., G) log ratios -> log shares that sum to 1 over the panel."""
        value = log_ratio + self.log_pooled
        top = value.max(axis=-1, keepdims=True)
        value -= top + np.log(np.exp(value - top).sum(axis=-1, keepdims=True))
        return value

    def log1p(self, log_share: Float32, centred_log_depth: Float64) -> Float32:
        """(b, G) log shares and (b,) depths -> expected log1p(CPM)."""
        depth = (centred_log_depth + self.mean_log_depth).astype(np.float32)
        return self.expectation(log_share, depth) + self.offset


def calibrate(
    model: FittedModel, sections: Sequence[TrainingSection], inputs: Sequence[Float32]
) -> FittedModel:
    """Add the read-out to a model whose networks are trained.

    A gene's offset closes the gap between the mean over the training spots of what the model says
    and of what was measured; it needs one pass over spots x genes, in blocks.

    Args:
        model: networks and linear depth.
        sections: the training sections.
        inputs: the network's inputs of each of them.
    """
    measured = [s.measured for s in sections]
    pooled = pooled_composition([s.counts for s in sections], measured)
    log_depth = np.concatenate([np.log1p(spot_totals(s.counts)) for s in sections])
    table = tabulate(float(model.hyper["dispersion"]), float(model.hyper["depth_residual_sd"]))
    start = Readout(
        np.log(pooled).astype(np.float32),
        table,
        np.zeros(len(pooled), np.float32),
        float(log_depth.mean()),
    )
    ensemble = Ensemble.from_model(model)
    total, spots = np.zeros(len(pooled)), np.zeros(len(pooled))
    for section, x in zip(sections, inputs, strict=True):
        depth, blocks = ensemble.decode(*ensemble.context(x, section.xy_um))
        predicted = sum(_log1p_sums(start, depth, blocks), start=np.zeros(len(pooled)))
        total += section.measured * predicted
        spots += section.measured * len(x)
    expected = total / np.maximum(spots, 1)
    offset = np.where(spots > 0, train_mean_log1p(sections) - expected, 0).astype(np.float32)
    return replace(model, tensors={**model.tensors, **replace(start, offset=offset).tensors()})


def _log1p_sums(readout: Readout, depth: Float64, blocks: Iterator[Decoded]) -> Iterator[Float64]:
    for block in blocks:
        values = readout.log1p(readout.log_share(block.log_ratio), depth[block.rows])
        yield values.sum(axis=0, dtype=np.float64)


def train_mean_log1p(sections: Sequence[TrainingSection]) -> Float64:
    """(G,) mean measured log1p(CPM) over the spots of the sections that measured the gene."""
    total = sum((s.measured * _measured_sum(s) for s in sections), start=np.zeros(1))
    spots = sum((s.measured * s.counts.shape[0] for s in sections), start=np.zeros(1))
    mean: Float64 = total / np.maximum(spots, 1)
    return mean


def _measured_sum(section: TrainingSection) -> Float64:
    """(G,) sum over the spots of the measured log1p(CPM)."""
    genes = section.counts.shape[1]
    return np.concatenate(
        [
            log1p_cpm(section.counts, slice(at, at + _GENE_BLOCK)).sum(axis=0, dtype=np.float64)
            for at in range(0, genes, _GENE_BLOCK)
        ]
    )
