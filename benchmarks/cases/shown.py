"""What a map shows: how far X and composition follow depth, whether X could carry more of the gene, what measured composition is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.special import xlogy

from benchmarks.data import C, machine, panel
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed

NAME = "shown"
DATA = {"her2st": C, "mob": ("MOB4", "MOB9")}
# Composition added to X so many times; depth's spread in X times so much.
ADDED = (0.0, 0.5, 1.0, 2.0, 4.0)
SPREAD = (1.0, 0.75, 0.5, 0.25, 0.0)
_WHERE = {
    "her2st": "her2st C2, C3, C4 left out in turn",
    "mob": "olfactory bulb, animals left out in turn",
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {
        data: {"sections": list(ids)}
        for data, ids in DATA.items()
        if context.has(data) and panel(context, data)
    }


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import RunConfig
    from hespotex.progress import Silent
    from hespotex.sections.splits import make_folds
    from hespotex.stages import encode, read_sections
    from hespotex.validation.cross_validation import run_fold

    ids, where = parameters["sections"], machine(context)
    data = next(name for name, names in DATA.items() if list(names) == ids)
    config = RunConfig.from_values({"trust": {"calibrate": False}})
    config = config.with_genes(panel(context, data) or [])
    with timed() as spent:
        sections = read_sections(context.data / data / "sections.csv", ids, Silent())
        cohort = encode(sections, config, where, Silent())
        folds = make_folds(ids, [s.patient_id for s in sections], config.folds.by)
        found = []
        for fold in folds:
            outcome = run_fold(cohort, fold, config, machine=where)
            found += [_of_section(outcome.bundle, held) for held in outcome.held_out]
    mean = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
    return {**mean, "sections": len(found), **spent.as_dict()}


def _of_section(bundle: Any, held: Any) -> dict[str, float]:
    """Everything of one held-out section, mean or median over its genes."""
    from hespotex.evaluation.measured_composition import measured_composition
    from hespotex.evaluation.scores import Targets, pcc_per_gene

    prediction, counts = held.prediction, held.counts
    targets = Targets.of(counts.counts, counts.measured)
    depth = np.log1p(prediction.depth.astype(np.float64))[:, None]
    seen = counts.depth > 0
    measured_depth = np.log1p(counts.depth)[seen, None]

    def median(values: Any, by: Any) -> float:
        return float(np.nanmedian(np.abs(pcc_per_gene(by, values))))

    result = {
        "x_depth": median(prediction.log1p, depth),
        "composition_depth": median(prediction.composition, depth),
        "measured_x_depth": median(targets.log1p[seen], measured_depth),
        "measured_composition_depth": median(
            measured_composition(counts.counts)[seen], measured_depth
        ),
    }
    variants = {f"added {w:g}": prediction.log1p + w * prediction.composition for w in ADDED}
    variants |= {f"spread {s:g}": _with_spread(bundle, prediction, s) for s in SPREAD}
    for name, values in variants.items():
        result[f"{name} log1p"] = float(np.nanmean(pcc_per_gene(values, targets.log1p)))
        result[f"{name} gene"] = float(np.nanmean(pcc_per_gene(values, targets.residuals)))
    result["composition gene"] = float(
        np.nanmean(pcc_per_gene(prediction.composition, targets.residuals))
    )
    return result | _halves(counts.counts, held.item.section.xy_um)


def _with_spread(bundle: Any, prediction: Any, spread: float) -> np.ndarray:
    """X with the spread of predicted depth over the section times `spread`; its ridge of log1p is left as it is."""
    from hespotex.models.default.calibration import Readout

    readout = Readout.from_tensors(bundle.model.tensors)
    direct = np.float32(bundle.model.hyper["direct_share"])
    shift = readout.mean_log_depth + float(bundle.model.hyper["depth_residual_sd"]) ** 2 / 2
    centred = np.log1p(prediction.depth.astype(np.float64)) - shift
    log_p = prediction.composition + readout.log_pooled
    scaled = centred.mean() + spread * (centred - centred.mean())
    moved = readout.log1p(log_p, scaled) - readout.log1p(log_p, centred)
    return np.asarray(prediction.log1p + (1 - direct) * moved)


def _halves(counts: sparse.csr_matrix, xy_um: np.ndarray) -> dict[str, float]:
    """Deviance of one half of the counts that measured composition of the other half explains, all genes."""
    from hespotex.evaluation.measured_composition import measured_composition

    whole = counts.toarray().astype(np.int64)
    first = np.random.default_rng(0).binomial(whole, 0.5).astype(np.float64)
    other = whole - first
    kept = first.sum(axis=1) > 0
    first, other, xy_um = first[kept], other[kept], xy_um[kept]
    part = np.maximum(first.sum(axis=0), 0.5) / first.sum()
    null = _deviance(other, other.sum(axis=1, keepdims=True) * part)
    near = cKDTree(xy_um).query(xy_um, k=9)[1]
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    mean = sparse.csr_matrix((np.ones(near.size), (rows, near.ravel())))
    found = {}
    for name, seen in (("own spot", first), ("with 8 neighbours", mean @ first)):
        ratio = np.exp(measured_composition(sparse.csr_matrix(seen.astype(np.float32))))
        expected = ratio * part
        expected *= first.sum(axis=0) / np.maximum(
            (first.sum(axis=1, keepdims=True) * expected).sum(axis=0), 1e-12
        )
        expected /= expected.sum(axis=1, keepdims=True)
        mu = np.maximum(expected, 1e-9) * other.sum(axis=1, keepdims=True)
        found[f"explained by {name}"] = 1 - _deviance(other, mu) / null
    return found


def _deviance(counts: np.ndarray, mu: np.ndarray) -> float:
    return float((xlogy(counts, counts) - xlogy(counts, np.maximum(mu, 1e-12)) - counts + mu).sum())


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    for name, r in found.items():
        where = _WHERE[name]
        rows += [
            Row(f"{where}: correlation with log depth, median gene: X", f"{r['x_depth']:.2f}",
                f"composition {r['composition_depth']:.2f}"),
            Row(f"{where}: the same of measured log1p(CPM)", f"{r['measured_x_depth']:.2f}",
                f"measured composition {r['measured_composition_depth']:.2f}"),
            *(
                Row(f"{where}: X + {w:g} x composition: PCC with log1p(CPM)", f"{r[f'added {w:g} log1p']:.3f}",
                    f"with the residuals {r[f'added {w:g} gene']:.3f} (composition {r['composition gene']:.3f})")
                for w in ADDED
            ),
            *(
                Row(f"{where}: X, spread of depth x {s:g}: PCC with log1p(CPM)", f"{r[f'spread {s:g} log1p']:.3f}",
                    f"with the residuals {r[f'spread {s:g} gene']:.3f}")
                for s in SPREAD
            ),
            Row(f"{where}: half of the counts explained by measured composition of the other half",
                f"{r['explained by own spot']:.3f}", f"with 8 neighbours {r['explained by with 8 neighbours']:.3f}"),
        ]  # fmt: skip
    notes = (
        "Composition is a gene's part of all counts of a spot, as natural log ratio to its part in the training sections. "
        "Fixed panels, default model, mean over held-out sections; correlations with depth are absolute. Depth is the predicted "
        "one for X and composition, the measured one for what was measured. The last rows: share of the Poisson deviance.",
    )
    return [Table("What is shown", ("what", "ours", "beside", "bar"), tuple(rows), notes)]
