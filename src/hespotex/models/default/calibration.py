"""Composition and depth to log1p(CPM): the table of expectations and the offsets of the genes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.genes.panel import Margins, pooled_composition, sparse_log1p_cpm, spot_totals
from hespotex.genes.parts import part_of
from hespotex.models.default.ensemble import Decoded, Ensemble
from hespotex.models.default.expectation import Log1pExpectation, tabulate
from hespotex.models.types import FittedModel, TrainingSection
from hespotex.models.workers import Run, in_turn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# The offsets rest on so many spots at most, evenly spaced: a mean needs no more.
_OFFSET_SPOTS = 8192


@dataclass(frozen=True)
class Readout:
    """Composition and depth -> log1p(CPM over the panel).

    Attributes:
        log_pooled: (G,) log of the pooled shares of the training sections.
        expectation: E[log1p(CPM)] by share and depth.
        offset: (G,) added, so that at mean depth the mean over the training spots is the measured one.
        mean_log_depth: mean of log(1 + total) over the training spots.
        norm: (G,) log shares by which log ratios are made to sum to 1, where levels were fitted anew after the ratios: these
            move no map then, and shares of spots sum to 1 nearly. None: `log_pooled`.
    """

    log_pooled: Float32
    expectation: Log1pExpectation
    offset: Float32
    mean_log_depth: float
    norm: Float32 | None = None

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {
            "readout.log_pooled": self.log_pooled,
            "readout.table": self.expectation.table,
            "readout.offset": self.offset,
            "readout.mean_log_depth": np.array(self.mean_log_depth),
            **({} if self.norm is None else {"readout.norm": self.norm}),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Readout:
        """The read-out of a stored model."""
        return cls(
            np.asarray(tensors["readout.log_pooled"]),
            Log1pExpectation(np.asarray(tensors["readout.table"])),
            np.asarray(tensors["readout.offset"]),
            float(tensors["readout.mean_log_depth"]),
            np.asarray(tensors["readout.norm"]) if "readout.norm" in tensors else None,
        )

    def log_share(self, log_ratio: Float32) -> Float32:
        """(..., G) log ratios -> log shares that sum to 1 over the panel."""
        value = log_ratio + self.log_pooled
        whole = value if self.norm is None else log_ratio + self.norm
        top = whole.max(axis=-1, keepdims=True)
        value -= top + np.log(np.exp(whole - top).sum(axis=-1, keepdims=True))
        return value

    def log1p(self, log_share: Float32, centred_log_depth: Float64) -> Float32:
        """(b, G) log shares and (b,) depths -> expected log1p(CPM)."""
        depth = (centred_log_depth + self.mean_log_depth).astype(np.float32)
        return self.expectation(log_share, depth) + self.offset


def calibrate(
    model: FittedModel,
    sections: Sequence[TrainingSection],
    inputs: Sequence[Float32],
    *,
    run: Run = in_turn,
) -> FittedModel:
    """Add the read-out to a model whose networks are trained.

    A gene's offset is the difference of two means over the training spots (8,192 of them at most): of the measured values,
    and of what the model says at the mean depth. It needs one pass over spots x genes, in blocks. Each spot's own depth
    would be wrong here: the expectation is curved in depth, and predicted depths spread less in other sections than in
    training. Such an offset would move all spots of another section together.

    Args:
        model: networks and linear depth.
        inputs: the network's inputs of each of them.
    """
    measured = [s.measured for s in sections]
    pooled = pooled_composition([s.counts for s in sections], measured)
    log_depth = np.concatenate([np.log1p(panel_totals(s, pooled)) for s in sections])
    table = tabulate(float(model.hyper["dispersion"]), float(model.hyper["depth_residual_sd"]))
    start = Readout(
        np.log(pooled).astype(np.float32),
        table,
        np.zeros(len(pooled), np.float32),
        float(log_depth.mean()),
    )
    offset = gene_offsets(model, start, sections, inputs, run=run).astype(np.float32)
    return replace(model, tensors={**model.tensors, **replace(start, offset=offset).tensors()})


def gene_offsets(
    model: FittedModel,
    start: Readout,
    sections: Sequence[TrainingSection],
    inputs: Sequence[Float32],
    *,
    run: Run = in_turn,
) -> Float64:
    """(G,) mean measured log1p(CPM) less what a read-out says at the mean depth, over the sections that measured the gene."""
    ensemble, every = Ensemble.from_model(model), -(-sum(map(len, inputs)) // _OFFSET_SPOTS)
    pooled = np.exp(start.log_pooled.astype(np.float64))

    def gap(number: int) -> tuple[Float64, int]:
        section, x = sections[number], inputs[number]
        rows = np.arange(0, len(x), every)
        context, graph = ensemble.context(x, section.xy_um)
        _, blocks = ensemble.decode(context, graph, rows=rows, members=False)
        predicted = sum(_log1p_sums(start, blocks), start=np.zeros(len(start.log_pooled)))
        margins = Margins(panel_totals(section, pooled)[rows], np.empty(0))
        found = _column_sums(sparse_log1p_cpm(section.counts[rows], margins=margins))
        return section.measured * (found - predicted), len(rows)

    total, spots = np.zeros(len(start.log_pooled)), np.zeros(len(start.log_pooled))
    for section, (own, n) in zip(sections, run(gap, range(len(sections))), strict=True):
        total += own
        spots += section.measured * n
    return np.where(spots > 0, total / np.maximum(spots, 1), 0)


def _log1p_sums(readout: Readout, blocks: Iterator[Decoded]) -> Iterator[Float64]:
    for block in blocks:
        centre = np.zeros(len(block.log_ratio))
        values = readout.log1p(readout.log_share(block.log_ratio), centre)
        yield values.sum(axis=0, dtype=np.float64)


def panel_totals(section: TrainingSection, pooled: Float64) -> Float64:
    """(n,) totals over the whole panel, as far as the measured genes tell: their own over their part of all counts."""
    return spot_totals(section.counts) / part_of(pooled, section.measured)


def train_mean_log1p(sections: Sequence[TrainingSection]) -> Float64:
    """(G,) mean measured log1p(CPM over the whole panel) over the spots of the sections that measured the gene."""
    pooled = pooled_composition([s.counts for s in sections], [s.measured for s in sections])
    total = sum(
        (
            s.measured
            * _column_sums(
                sparse_log1p_cpm(s.counts, margins=Margins(panel_totals(s, pooled), np.empty(0)))
            )
            for s in sections
        ),
        start=np.zeros(1),
    )
    spots = sum((s.measured * s.counts.shape[0] for s in sections), start=np.zeros(1))
    mean: Float64 = total / np.maximum(spots, 1)
    return mean


def _column_sums(table: sparse.csr_matrix) -> Float64:
    return np.asarray(table.sum(axis=0, dtype=np.float64)).ravel()
