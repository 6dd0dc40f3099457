"""A cohort against bulk RNA: per gene across patients, and per patient across genes, which are two numbers; pure but for the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hespotex import keys
from hespotex.analysis.association import pictures
from hespotex.analysis.association.bulk_table import Bulk, Unit, read_bulk
from hespotex.analysis.association.correlations import (
    correlate,
    effective_n,
    interval,
    p_values,
    q_values,
    ranks,
    residuals,
    steiger,
)
from hespotex.analysis.association.patients import Floats, Patients, covariates
from hespotex.analysis.association.profiles import blocks
from hespotex.analysis.association.result import FDR, Association, best_first, discoveries
from hespotex.analysis.patients import bootstrap_means, patient_means
from hespotex.errors import ConfigError, counted, shorten

_FEWEST: Final = 3
_FEW: Final = 8
_SHUFFLES: Final = 999
_ROWS: Final = 512  # patients of a block
_RIDGE: Final = "ridge on the mean feature"
# What a slide says without a model: names of obs, and how they are called.
_BASELINES: Final[Mapping[str, str]] = {
    "tissue_mm2": "tissue area", "n_used": "number of spots", keys.PREDICTED_DEPTH: "predicted depth",
}  # fmt: skip


@dataclass(frozen=True)
class _Pairs:
    """Both sides of P patients and g genes, on log scales.

    Attributes:
        predicted, measured: (P, g).
        design: (P, k) of strata and covariates.
        stratum: (P,) name of each; empty without.
    """

    table: Patients
    predicted: npt.NDArray[np.float32]
    measured: npt.NDArray[np.floating[Any]]
    design: Floats
    stratum: npt.NDArray[np.str_]
    names: tuple[str, ...]


def against_bulk(
    table: Patients,
    path: Path,
    *,
    adjust: Sequence[str] = (),
    within: Sequence[str] = (),
    unit: Unit = "auto",
    seed: int = 0,
) -> Association:
    """Correlate predictions with bulk RNA of the same patients.

    Args:
        table: of the cohort.
        path: genes x samples or the other way round.
        adjust: covariates that both sides are freed of.
        within: columns whose strata are centred apart, so that differences between strata are no signal.
        unit: of the bulk values.
        seed: of shuffled pairs and of the bootstrap.

    Raises:
        ConfigError: nothing matches, too few patients, or a table that does not fit.
    """
    genes = table.take(table.is_gene, "gene sets have no bulk value")
    bulk = read_bulk(path, genes.features.tolist(), genes.names, unit=unit)
    pairs = _paired(genes, bulk, adjust, within)
    n, effective = len(pairs.predicted), effective_n(len(pairs.predicted), pairs.design)
    across = _all_genes(pairs, effective)
    ceiling, n_twice = _ceiling(bulk)
    across["bulk_ceiling"] = across["feature"].map(ceiling).astype(float)
    null_mean, null_p = _shuffled(pairs, seed)
    patients, of_patients = _per_patient(pairs, seed)
    across = best_first(across, ["q_value", "pcc"], [True, False])
    mean, n_found = float(across["pcc"].mean()), int((across["q_value"] <= FDR).sum())
    numbers = {
        "across_patients": {
            "mean_pcc": mean, "median_pcc": float(across["pcc"].median()), "mean_spearman": float(across["spearman"].mean()),
            "mean_pcc_of_shuffled_pairs": null_mean, "p_of_mean_pcc": null_p, "n_genes": len(across),
            "n_found": n_found, "n_above_baselines": int((across["steiger_q"] <= FDR).sum()), "effective_n": effective,
        },
        "per_patient_across_genes": of_patients,
        "ceiling": {"patients_with_two_samples": n_twice},
        "bulk_unit": bulk.unit, "adjust": list(adjust), "within": list(within),
    }  # fmt: skip
    strata = (
        f", within {counted(len(set(pairs.stratum)), 'stratum').replace('stratums', 'strata')} of {shorten(within)}"
        if len(pairs.stratum)
        else ""
    )
    findings = [
        f"Per gene ACROSS {counted(n, 'patient')}{strata}: mean PCC {mean:.3f} (shuffled pairs of slides and patients "
        f"{round(null_mean, 3) + 0.0:.3f}, p = {null_p:.2g}). {discoveries(across, 'correlate')}",
        f"Above the best baseline ({_named(pairs)}) by Steiger's test: {discoveries(across, '', 'steiger_q').replace('  ', ' ')} "
        "The train mean is one number for all patients and correlates with nothing"
        f"{'; predictions carry no ridge.' if pairs.table.ridge is None else '.'}",
        f"Per patient ACROSS genes: mean PCC {of_patients['model']:.3f}; the same profile for all patients gives "
        f"{of_patients['same_profile']:.3f}, pairs of different patients {of_patients['other_patients']:.3f}. {_beside_means(of_patients)}",
        *_by_level(across),
        _ceiling_sentence(across, n_twice),
    ]
    return Association(
        kind="bulk",
        title=f"Predicted slides against bulk RNA of {counted(n, 'patient')}",
        first=_first(pairs, bulk, n),
        findings=tuple(findings),
        table=across,
        tables={"patients": patients},
        numbers=numbers,
        pictures=pictures.of_bulk(across, pairs.predicted, pairs.measured, pairs.table.features, pairs.design, patients),
        dropped=pairs.table.dropped,
        n_patients=n,
    )  # fmt: skip


def _beside_means(found: Mapping[str, Any]) -> str:
    """Whether the number across genes is more than gene means alone give."""
    lower, upper = found["above_same_profile"]
    gain = found["model"] - found["same_profile"]
    if not lower > 0:
        return "This number says next to nothing of a model: gene means alone reach it."
    return f"Gene means alone give all of it but {gain:.3f} [{lower:.3f}, {upper:.3f}]."


def _first(pairs: _Pairs, bulk: Bulk, n: int) -> tuple[str, ...]:
    said = [pairs.table.level_sentence(), *pairs.table.notes, f"Bulk: {bulk.unit}."]
    if n < _FEW:
        said.append(f"{counted(n, 'patient')}: far too few for any statement on a gene.")
    return tuple(s for s in said if s)


def _paired(table: Patients, bulk: Bulk, adjust: Sequence[str], within: Sequence[str]) -> _Pairs:
    """Patients with both sides, genes with both, strata of three patients at least."""
    frame = pd.DataFrame(list(bulk.dropped), columns=["what", "name", "why"])
    table = replace(table, dropped=pd.concat([table.dropped, frame], ignore_index=True))
    table = table.keep(np.isin(table.names, bulk.patients), "no bulk sample")
    table = table.take(np.isin(table.features, bulk.genes), "not in the bulk table").complete()
    kinds = table.obs["preparation"].fillna("").astype(str)
    within = list(dict.fromkeys([*within, *(["preparation"] if kinds.nunique() > 1 else [])]))
    for name in within:
        present = table.column(name, "--within").notna().to_numpy(bool)
        if not present.any():
            raise ConfigError(expected=f"values in column {name} for --within", found="none")
        table = table.keep(present, f"no value of {name}")
    table, design, names = covariates(table, adjust)
    stratum = np.zeros(0, dtype=np.str_)
    if within:
        labels = table.obs[within].astype(str).agg(" / ".join, axis=1)
        large = labels.map(labels.value_counts()).to_numpy() >= _FEWEST
        design = design[large]
        why = [f"fewer than {_FEWEST} patients in stratum {s}" for s in labels]
        table = table.keep(large, why)
        if not large.all():
            note = f"{counted(int((~large).sum()), 'patient')} left out: fewer than {_FEWEST} share their stratum of {shorten(within)}."
            table = replace(table, notes=(*table.notes, note))
        stratum = labels.to_numpy(dtype=str)[large]
        levels = np.unique(stratum)[1:]
        design = np.column_stack([design, *((stratum == level).astype(float) for level in levels)])
    n = len(table.obs)
    if effective_n(n, design) < _FEWEST or not len(table.features):
        raise ConfigError(
            expected=f"at least {_FEWEST} patients and a gene with predictions and bulk, covariates and strata counted off",
            found=f"{counted(n, 'patient')}, {counted(len(table.features), 'gene')}",
            remedy="give more patients, or fewer covariates and strata",
        )
    owners: Sequence[str] = bulk.patients
    measured: npt.NDArray[np.floating[Any]] = bulk.values
    if len(set(owners)) < len(owners):
        owners, measured = patient_means(bulk.values.astype(np.float64), bulk.patients)
    row = {name: k for k, name in enumerate(owners)}
    column = {name: k for k, name in enumerate(bulk.genes)}
    places = np.ix_([row[p] for p in table.names], [column[g] for g in table.features.tolist()])
    return _Pairs(table, table.values, measured[places], design, stratum, names)


def _baselines(pairs: _Pairs) -> dict[str, Floats]:
    found = {}
    for name, label in _BASELINES.items():
        if name in pairs.table.obs:
            values = pd.to_numeric(pairs.table.obs[name], errors="coerce").to_numpy(np.float64)
            if np.isfinite(values).all() and values.std() > 1e-9 * max(abs(values.mean()), 1e-9):
                found[label] = values[:, None]
    return found


def _named(pairs: _Pairs) -> str:
    names = [*_baselines(pairs), *([] if pairs.table.ridge is None else [_RIDGE])]
    return ", ".join(names) or "no baseline (nothing varies)"


def _all_genes(pairs: _Pairs, effective: int) -> pd.DataFrame:
    """`_across` in blocks of genes; q-values of all of them."""
    rows = [_across(pairs, part, effective) for part in blocks(len(pairs.table.features))]
    table, kind = pd.concat(rows, ignore_index=True), pairs.table.kind
    for p, q in (("p_value", "q_value"), ("steiger_p", "steiger_q")):
        place = table.columns.tolist().index(p) + 1
        table.insert(place, q, q_values(table[p].to_numpy(np.float64), kind))
    return table


def _across(pairs: _Pairs, part: slice, effective: int) -> pd.DataFrame:
    """One row a gene: correlation across patients, and beside the best baseline, whatever that one's sign."""
    both_sides = [v[:, part].astype(np.float64) for v in (pairs.predicted, pairs.measured)]
    predicted, measured = (residuals(v, pairs.design) for v in both_sides)
    r = correlate(predicted, measured)
    rho = correlate(*(residuals(ranks(v), pairs.design) for v in both_sides))
    both = p_values(r, effective)
    p = np.where(r > 0, both / 2, 1 - both / 2)  # only a positive correlation is a success
    lower, upper = interval(r, effective)
    best = np.zeros_like(r)
    between, label = np.zeros_like(r), np.full(len(r), "", dtype=object)
    baselines = _baselines(pairs)
    if pairs.table.ridge is not None:
        baselines[_RIDGE] = pairs.table.ridge[:, part].astype(np.float64)
    for name, values in baselines.items():
        freed = residuals(values, pairs.design)
        if freed.std() < 1e-9 * max(values.std(), 1e-9):
            continue
        of_bulk, of_model = (np.nan_to_num(correlate(freed, v)) for v in (measured, predicted))
        larger = np.abs(of_bulk) > np.abs(best)
        label[larger] = name
        between = np.where(larger, np.sign(of_bulk) * of_model, between)
        best = np.where(larger, of_bulk, best)
    z, steiger_p = steiger(r, np.abs(best), between, effective)
    table = pairs.table
    return pd.DataFrame(
        {
            "feature": table.features[part],
            "kind": table.kind[part],
            "pcc": r,
            "pcc_lower": lower,
            "pcc_upper": upper,
            "spearman": rho,
            "p_value": p,
            "best_baseline": label,
            "pcc_of_best_baseline": best,
            "steiger_z": z,
            "steiger_p": steiger_p,
            "n_patients": len(pairs.predicted),
            keys.GRADE: table.grade[part],
            keys.LEVEL_GRADE: table.level_grade[part],
        }
    )


def _shuffled(pairs: _Pairs, seed: int) -> tuple[float, float]:
    """Mean PCC of the genes when slides are given to other patients (of the same stratum), and the p of the mean seen."""
    rng = np.random.default_rng([seed, 3])
    n, n_genes = pairs.predicted.shape
    # What each slide gives with each patient, mean over genes: 0.4 GB for 10,000 patients.
    paired = np.zeros((n, n), np.float32)
    for part in blocks(n_genes):
        both = (
            residuals(v[:, part].astype(np.float64), pairs.design)
            for v in (pairs.predicted, pairs.measured)
        )
        a, b = ((v / np.sqrt((v**2).sum(axis=0)).clip(1e-12)).astype(np.float32) for v in both)
        for at in range(0, n, _ROWS):
            paired[at : at + _ROWS] += a[at : at + _ROWS] @ b.T / n_genes
    seen, means = float(np.trace(paired, dtype=np.float64)), []
    for _ in range(_SHUFFLES):
        order = np.arange(n)
        for level in np.unique(pairs.stratum) if len(pairs.stratum) else [None]:
            own = np.flatnonzero(pairs.stratum == level) if level is not None else order.copy()
            order[own] = rng.permutation(own)
        means.append(float(paired[order, np.arange(n)].sum(dtype=np.float64)))
    above = int((np.array(means) >= seen - 1e-7).sum())  # as sums in single precision agree
    return float(np.mean(means)), (above + 1) / (_SHUFFLES + 1)


def _per_patient(pairs: _Pairs, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """PCC across genes in each patient; beside it one profile for all, and the slides of other patients."""
    shared = pairs.table.pooled_share
    mean = np.log1p(1e6 * shared) if np.isfinite(shared).all() else pairs.predicted.mean(axis=0)
    own, of_all = _across_genes(pairs.predicted, pairs.measured)
    n = len(own)
    other = (n * of_all - own) / max(n - 1, 1)
    profile, _ = _across_genes(mean[None], pairs.measured)
    table = pd.DataFrame(
        {"patient": pairs.table.names, "pcc_across_genes": own, "pcc_of_same_profile": profile, "pcc_of_other_patients": other}
    )  # fmt: skip
    lower, upper = bootstrap_means((own - profile)[:, None], seed=seed)
    return table, {
        "model": float(own.mean()),
        "same_profile": float(profile.mean()),
        "other_patients": float(other.mean()),
        "above_same_profile": [float(lower[0]), float(upper[0])],
        "profile": "the training's pooled expression"
        if np.isfinite(shared).all()
        else "mean of the predictions",
    }


def _across_genes(
    first: npt.NDArray[np.floating[Any]], second: npt.NDArray[np.floating[Any]]
) -> tuple[Floats, Floats]:
    """(P,) PCC of each row with its own in the other table, and mean of all rows of the first with it; no (P, P) table.

    A first table of one row stands for all.
    """
    means = [v.mean(axis=1, keepdims=True, dtype=np.float64) for v in (first, second)]
    sizes = [np.zeros(len(v)) for v in (first, second)]
    for part in blocks(first.shape[1]):
        a, b = (v[:, part] - mean for v, mean in zip((first, second), means, strict=True))
        sizes = [s + (v**2).sum(axis=1) for s, v in zip(sizes, (a, b), strict=True)]
    scales = [1 / np.sqrt(s).clip(1e-12)[:, None] for s in sizes]
    own, of_all = np.zeros((2, len(second)))
    for part in blocks(first.shape[1]):
        both = zip((first, second), means, scales, strict=True)
        a, b = ((v[:, part] - mean) * scale for v, mean, scale in both)
        own += (a * b).sum(axis=1)
        of_all += b @ a.mean(axis=0)
    return own, of_all


def _ceiling(bulk: Bulk) -> tuple[dict[str, float], int]:
    """Per gene the highest PCC that a perfect prediction of a patient could have with one sample, from patients with two."""
    places: dict[str, list[int]] = {}
    for k, name in enumerate(bulk.patients):
        places.setdefault(name, []).append(k)
    twice = [own[:2] for own in places.values() if len(own) > 1]
    if len(twice) < _FEWEST:
        return {}, len(twice)
    first, second = (bulk.values[[pair[k] for pair in twice]] for k in (0, 1))
    both = correlate(
        np.vstack([first, second]), np.vstack([second, first])
    )  # either order: which is first says nothing
    return dict(zip(bulk.genes, np.sqrt(np.maximum(both, 0)).tolist(), strict=True)), len(twice)


def _ceiling_sentence(across: pd.DataFrame, n_twice: int) -> str:
    if not np.isfinite(across["bulk_ceiling"]).any():
        return f"No ceiling: {counted(n_twice, 'patient')} with two bulk samples (at least {_FEWEST} are needed)."
    return f"Two bulk samples of {counted(n_twice, 'patient')} set the ceiling of a gene's PCC to {across['bulk_ceiling'].mean():.2f} in the mean."


def _by_level(across: pd.DataFrame) -> list[str]:
    """Whether the model's own grades of level say which genes correlate."""
    means = across.groupby(keys.LEVEL_GRADE)["pcc"].agg(["mean", "size"])
    said = ", ".join(
        f"{grade}: {row['mean']:.3f} ({int(row['size']):,})" for grade, row in means.iterrows()
    )
    if len(means) < 2:
        return [f"Mean PCC by level grade (genes): {said}."]
    order = across[keys.LEVEL_GRADE].map(
        {g: k for k, g in enumerate(("D", "ungraded", "C", "B", "A"))}
    )
    tau = stats.kendalltau(order, across["pcc"]).statistic
    return [f"Mean PCC by level grade (genes): {said}; Kendall's tau of grade and PCC {tau:.2f}."]
