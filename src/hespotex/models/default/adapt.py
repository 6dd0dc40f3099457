"""A fitted default model adapted to a few sections of one's own: what it leaves over there is fitted and added; pure.

    pattern   Pearson residuals of the own counts around the model's prediction, denoised, by kernel regression; likewise what
              the direct regression leaves of log1p. A large penalty shrinks both to nothing: the model as it came.
    depth     ridge on what the model's depth leaves over; its mean is that of the own sections.
    level     of every gene: what the model leaves over, shrunk by how much patients differ and counts vary. It moves no
              map. The looks of slides are read from the own ones on, and from four own patients on how far these follow.

Every part is added to one of the same form, so whatever reads a model reads an adapted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import ModelFileError
from hespotex.genes.panel import Margins, spot_totals
from hespotex.models.default.adapted_level import counted_from_own, level_of_own, with_own_slopes
from hespotex.models.default.calibration import Readout, gene_offsets, train_mean_log1p
from hespotex.models.default.depth import fit_depth
from hespotex.models.default.ensemble import RIDGE_SHARE, Ensemble, Factors
from hespotex.models.default.expectation import tabulate
from hespotex.models.default.level import SlideLevel
from hespotex.models.default.low_rank import LowRank, Rows, centred_log1p, fit_low_rank
from hespotex.models.default.regression import (
    DIRECT_PENALTY,
    DirectLog1p,
    KernelComposition,
    direct_coefficients,
    joined_kernel,
    regression_tensors,
)
from hespotex.models.preprocessing import (
    FeatureStats,
    InputProjection,
    feature_stats,
    with_nuclei,
)
from hespotex.models.types import FittedModel, TrainingSection
from hespotex.models.workers import in_turn, workers

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_THETA = 100.0  # as of `pearson_residuals`
_LEAST_LOG = -50.0
_WHOLE = 0.99  # of the counts of the panel, as of `evaluation.units`


@dataclass(frozen=True)
class Strength:
    """How far a model is adapted.

    Attributes:
        penalty: of the added pattern, beside the model's own; None: the pattern stays as it came.
        levels: whether levels and depth are fitted anew.
    """

    penalty: float | None = None
    levels: bool = False

    @property
    def none(self) -> bool:
        """The model stays as it came."""
        return self.penalty is None and not self.levels

    def text(self) -> str:
        """In words."""
        if self.none:
            return "as it came"
        parts = ["levels and depth"] if self.levels else []
        if self.penalty is not None:
            parts.insert(0, f"pattern (penalty x {self.penalty:g})")
        return " and ".join(parts)


@dataclass(frozen=True)
class Prepared:
    """What all strengths share.

    Attributes:
        model: as it came, with the columns of new genes.
        projection: of its inputs.
        sections: own sections over the model's genes.
        stats, inputs, contexts, factors: of each.
        table: denoised Pearson residuals around the model's prediction.
        direct: what the direct regression leaves of log1p; None where the model has none.
        seed: of landmarks and decompositions.
    """

    model: FittedModel
    ensemble: Ensemble
    projection: InputProjection
    kernel: KernelComposition
    sections: tuple[TrainingSection, ...]
    stats: tuple[FeatureStats, ...]
    inputs: tuple[Float32, ...]
    contexts: tuple[Float32, ...]
    factors: tuple[Factors, ...]
    table: LowRank
    direct: LowRank | None
    seed: int

    def adapted(self, strength: Strength) -> FittedModel:
        """The model at a strength."""
        with workers() as run:
            tensors, hyper = dict(self.model.tensors), dict(self.model.hyper)
            if strength.penalty is not None:
                config = self.ensemble.config
                kernel = joined_kernel(
                    self.kernel, self.sections, self.contexts, self.table,
                    strength.penalty * config.kernel_penalty, config, seed=self.seed, run=run,
                )  # fmt: skip
                tensors |= regression_tensors(kernel, self._joined_direct(strength.penalty))
            model = replace(self.model, tensors=tensors, hyper=hyper)
            if strength.levels:
                return self._with_levels(model)
            level = SlideLevel.from_tensors(tensors)
            if level is None:
                return model
            looks = np.stack([*level.looks, *(level.look(s) for s in self.stats)])
            return replace(model, tensors={**tensors, "level.looks": np.asarray(looks, np.float32)})

    def _joined_direct(self, penalty: float) -> DirectLog1p | None:
        known = self.ensemble.direct
        if known is None or self.direct is None:
            return known
        added = direct_coefficients(
            self.contexts, self.direct, self.kernel.weight, penalty * DIRECT_PENALTY
        )
        return replace(
            known,
            coefficients=np.concatenate([known.coefficients, added], axis=1),
            loadings=np.concatenate([known.loadings, self.direct.loadings]),
        )

    def _with_levels(self, model: FittedModel) -> FittedModel:
        """Depth, levels and offsets of the own sections, shrunk towards the model's."""
        known, sections = Readout.from_tensors(model.tensors), self.sections
        told, centred = counted_from_own(model, sections, self.stats)
        expected = known.log_pooled.astype(np.float64) + told
        parts = [np.exp(expected)[s.measured].sum() / np.exp(expected).sum() for s in sections]
        depth = [np.log1p(spot_totals(s.counts) / p) for s, p in zip(sections, parts, strict=True)]
        ridge = fit_depth(
            self.contexts,
            [d - d.mean() - f.depth for d, f in zip(depth, self.factors, strict=True)],
            [s.xy_um for s in sections],
            [s.section_id for s in sections],
            [s.patient_id for s in sections],
            np.square(self.kernel.weight),
            self.ensemble.config.depth_penalty,
        )
        coefficients = self.ensemble.depth_coefficients + ridge.coefficients / RIDGE_SHARE
        moved, weight = level_of_own(model, sections, expected)
        hyper = {
            **model.hyper,
            "depth_residual_sd": ridge.residual_sd,
            "depth_sd": float(np.std(np.concatenate([d - d.mean() for d in depth]))),
        }
        start = Readout(
            moved.astype(np.float32),
            tabulate(float(model.hyper["dispersion"]), ridge.residual_sd),
            np.zeros(len(moved), np.float32),
            float(np.concatenate(depth).mean()),
            known.log_pooled if known.norm is None else known.norm,
        )
        centred, of_level = with_own_slopes(
            centred,
            self.model.hyper,
            self.projection,
            sections,
            self.stats,
            self.inputs,
            seed=self.seed,
        )
        hyper |= of_level
        tensors = {**model.tensors, **centred, "depth.coefficients": coefficients}
        model = replace(model, tensors=tensors, hyper=hyper)
        offset: npt.NDArray[Any] = known.offset
        mean = tensors.get("direct.train_mean")
        # CPM over a part of the genes is another unit: such sections say nothing of offsets.
        whole = [i for i, part in enumerate(parts) if part >= _WHOLE]
        if whole:
            in_unit = [sections[i] for i in whole]
            found = gene_offsets(model, start, in_unit, [self.inputs[i] for i in whole])
            offset = weight * found + (1 - weight) * offset
            if mean is not None:
                mean = weight * train_mean_log1p(in_unit) + (1 - weight) * np.asarray(mean)
                tensors["direct.train_mean"] = mean.astype(np.float32)
        tensors |= replace(start, offset=offset.astype(np.float32)).tensors()
        return replace(model, tensors=tensors)


def prepare(model: FittedModel, sections: Sequence[TrainingSection], *, seed: int) -> Prepared:
    """All that does not depend on the strength.

    Args:
        sections: own sections over the model's genes, with features of its encoder.

    Raises:
        ModelFileError: the model has no kernel regression that could be added to.
    """
    ensemble = Ensemble.from_model(model)
    if ensemble.kernel is None or ensemble.config.kernel_share <= 0:
        raise ModelFileError(
            expected="a model with a kernel regression (model.kernel_share > 0) to adapt",
            found="one without",
            remedy="train one with your sections",
        )
    projection = InputProjection.from_tensors(model.tensors)
    stats = tuple(feature_stats(s.features) for s in sections)
    inputs = tuple(
        with_nuclei(projection.apply(s.features, own), s.nuclei)
        for s, own in zip(sections, stats, strict=True)
    )
    placed = [ensemble.context(x, s.xy_um) for x, s in zip(inputs, sections, strict=True)]
    factors = tuple(ensemble.factors(*one) for one in placed)
    contexts = tuple(context for context, _ in placed)
    log_pooled = Readout.from_tensors(model.tensors).log_pooled
    by_id = {s.section_id: around(s, f, log_pooled) for s, f in zip(sections, factors, strict=True)}
    config = ensemble.config
    with workers() as run:
        table = fit_low_rank(
            sections, lambda s: by_id[s.section_id], config.latent_size, seed=seed, run=run
        )
        direct, known = None, ensemble.direct
        if known is not None:
            said = {s.section_id: known.latent(c) for s, c in zip(sections, contexts, strict=True)}
            direct = fit_low_rank(
                sections, lambda s: _left_of_log1p(s, said[s.section_id], known),
                config.direct_rank, seed=seed, shrink=False, run=in_turn,
            )  # fmt: skip
    return Prepared(
        model, ensemble, projection, ensemble.kernel, tuple(sections), stats, inputs, contexts, factors, table,
        direct, seed,
    )  # fmt: skip


def around(
    section: TrainingSection, factors: Factors, log_pooled: Float32
) -> Callable[[Rows], Float32]:
    """Pearson residuals of a section around a prediction of its pattern, row by row.

    Each gene's expected counts sum to its total in the section: levels are no pattern. 0 for genes that were not measured.
    """
    margins, measured = Margins.of(section.counts), section.measured
    base = np.where(measured, log_pooled + factors.bias, _LEAST_LOG).astype(np.float32)
    n, genes = section.counts.shape
    norm, expected = np.empty(n), np.zeros(genes)
    height = max(1, 2**20 // genes)
    for at in range(0, n, height):
        rows = slice(at, at + height)
        share = base + factors.latent[rows] @ factors.read_out
        top = share.max(axis=1)
        norm[rows] = top + np.log(np.exp(share - top[:, None]).sum(axis=1))
        expected += margins.spot[rows] @ np.exp(share - norm[rows, None])
    level = np.divide(margins.gene, expected, out=np.zeros(genes), where=expected > 0)
    bound = np.float32(np.sqrt(n))

    def rows_of(which: Rows) -> Float32:
        mu = base + factors.latent[which] @ factors.read_out
        mu -= norm[which][:, None].astype(np.float32)
        mu = np.exp(mu) * (margins.spot[which][:, None] * level).astype(np.float32)
        result = np.asarray(section.counts[which].toarray(), np.float32) - mu
        mu *= 1 + mu / np.float32(_THETA)
        np.sqrt(mu, out=mu)
        mu[mu == 0] = 1
        result /= mu
        np.clip(result, -bound, bound, out=result)
        return result if measured.all() else np.asarray(result * measured)

    return rows_of


def widened(model: FittedModel, shares: npt.ArrayLike, means: npt.ArrayLike) -> FittedModel:
    """A model with more genes, of which it predicts nothing: as in every spot of the own sections.

    Args:
        shares: (N,) of the new genes in all counts of the wider panel.
        means: (N,) their mean log1p(CPM).
    """
    new = np.asarray(shares, np.float64)
    if not len(new):
        return model
    known, rest = model.tensors, 1 - new.sum()
    n = len(np.asarray(known["readout.log_pooled"]))
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, value in known.items():
        if name.endswith(".genes.weight"):
            columns[name] = np.concatenate([value, np.zeros((len(new), value.shape[1]))])
        elif name.endswith((".genes.bias", "readout.offset")):
            columns[name] = np.concatenate([value, np.zeros(len(new))])
        elif name in {"kernel.loadings", "direct.loadings"}:
            columns[name] = np.concatenate([value, np.zeros((len(value), len(new)))], axis=1)
    for name in ("readout.log_pooled", "readout.norm"):
        if name in known:
            columns[name] = np.concatenate([known[name] + np.log(rest), np.log(new)])
    if "direct.train_mean" in known:  # CPM over more genes: less of each
        mean = np.log1p(np.expm1(np.asarray(known["direct.train_mean"], np.float64)) * rest)
        columns["direct.train_mean"] = np.concatenate([mean, np.asarray(means)])
    for name in ("level.slopes", "level.follows"):  # slides follow no level of a new gene
        if name in known:
            value = np.atleast_2d(known[name])
            nothing = np.zeros((len(value), len(new)))
            wide = np.concatenate([value[:, :-1], nothing, value[:, -1:]], axis=1)
            columns[name] = wide.reshape((*np.shape(known[name])[:-1], -1))
    as_float = {name: value.astype(np.float32) for name, value in columns.items()}
    return replace(
        model, tensors={**known, **as_float}, hyper={**model.hyper, "genes": n + len(new)}
    )


def _left_of_log1p(
    section: TrainingSection, latent: Float32, known: DirectLog1p
) -> Callable[[Rows], Float32]:
    """What the direct regression leaves of log1p(CPM) less its mean over the section."""
    measured, centred = centred_log1p(section), latent - latent.mean(axis=0)

    def rows(which: Rows) -> Float32:
        left = measured(which) - centred[which] @ known.loadings
        return left if section.measured.all() else np.asarray(left * section.measured)

    return rows
