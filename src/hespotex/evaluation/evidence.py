"""Owns what one held-out section says of every gene beyond its scores, and the verdict over sections; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from hespotex.evaluation.bootstrap import pcc_interval
from hespotex.evaluation.grades import GeneEvidence, grade_genes
from hespotex.evaluation.noise_ceiling import noise_ceiling, share_of_ceiling
from hespotex.evaluation.scores import (
    deviance_explained,
    pcc_per_gene,
    pcc_per_spot,
    spearman_per_gene,
)
from hespotex.evaluation.spatial_null import (
    MIN_SPOTS,
    build_modes,
    combine_sections,
    score_against_null,
    training_correlation,
)
from hespotex.evaluation.spatial_structure import lattice_weights, morans_i, ssim_per_gene
from hespotex.expression import PanelCounts, log1p_cpm, pearson_residuals
from hespotex.training.types import Prediction

Floats = npt.NDArray[np.float64]

FDR = 0.05


@dataclass(frozen=True)
class SectionEvidence:
    """Per gene, on one held-out section; NaN where it does not exist. Names are columns of genes.csv.

    Attributes:
        spearman_log1p: rank correlation of log1p(CPM).
        pcc_partial: composition PCC given measured depth.
        null_z: the same in standard deviations of a null of equally smooth maps.
        pcc_composition_lower: 95 % interval of the composition PCC by spatial block bootstrap.
        pcc_composition_upper: likewise.
        pcc_log1p_lower: the same of the PCC on log1p(CPM).
        pcc_log1p_upper: likewise.
        null_p: one-sided p-value of `null_z`, of this section alone.
        ceiling_log1p: largest log1p PCC that counting noise allows.
        ceiling_composition: likewise for composition.
        ceiling_share: composition PCC as share of its ceiling.
        deviance_explained: of the counts, against the shares of the training sections.
        moran_measured: Moran's I of measured log1p(CPM).
        moran_predicted: Moran's I of the prediction.
        ssim: structural similarity on the lattice.
    """

    spearman_log1p: Floats
    pcc_partial: Floats
    null_z: Floats
    null_p: Floats
    pcc_composition_lower: Floats
    pcc_composition_upper: Floats
    pcc_log1p_lower: Floats
    pcc_log1p_upper: Floats
    ceiling_log1p: Floats
    ceiling_composition: Floats
    ceiling_share: Floats
    deviance_explained: Floats
    moran_measured: Floats
    moran_predicted: Floats
    ssim: Floats

    def columns(self) -> dict[str, Floats]:
        """Every array by its name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def section_evidence(
    prediction: Prediction,
    counts: PanelCounts,
    xy_um: Floats,
    pooled: Floats,
    *,
    seed: int = 0,
) -> SectionEvidence:
    """Everything that trust in a gene rests on, from one held-out section.

    Args:
        prediction: made without the counts.
        counts: measured over the panel.
        xy_um: (n, 2) spot centres.
        pooled: (G,) shares of the pooled training counts; empty where an imported model knows none, and no
            deviance can be set against them.
        seed: of bootstrap and thinning.
    """
    log1p, residuals = log1p_cpm(counts.counts), pearson_residuals(counts.counts)
    weights = lattice_weights(xy_um)
    ceiling = noise_ceiling(counts.counts, seed=seed)
    partial, z, explained = (np.full(counts.counts.shape[1], np.nan) for _ in range(3))
    if len(pooled):
        explained = deviance_explained(
            prediction.composition, pooled, counts.counts, counts.measured
        )
    modes = build_modes(xy_um) if len(xy_um) >= MIN_SPOTS else None
    if modes is not None:
        null = score_against_null(prediction.composition, counts.counts, modes)
        partial, z = null.score, null.z
    interval = pcc_interval(prediction.composition, residuals, xy_um, seed=seed, modes=modes)
    usual = pcc_interval(prediction.log1p, log1p, xy_um, seed=seed, modes=modes)
    found = SectionEvidence(
        spearman_log1p=spearman_per_gene(prediction.log1p, log1p),
        pcc_partial=partial,
        null_z=z,
        null_p=np.asarray(norm.sf(z)),
        pcc_composition_lower=interval.lower,
        pcc_composition_upper=interval.upper,
        pcc_log1p_lower=usual.lower,
        pcc_log1p_upper=usual.upper,
        ceiling_log1p=ceiling.log1p,
        ceiling_composition=ceiling.composition,
        ceiling_share=share_of_ceiling(
            pcc_per_gene(prediction.composition, residuals), ceiling.composition
        ),
        deviance_explained=explained,
        moran_measured=morans_i(log1p, weights),
        moran_predicted=morans_i(prediction.log1p, weights),
        ssim=ssim_per_gene(prediction.log1p, log1p, weights),
    )
    for values in found.columns().values():
        values[~counts.measured] = np.nan
    return found


def mean_pcc_per_spot(predicted: npt.NDArray[np.float32], counts: PanelCounts) -> float:
    """Mean over spots of the PCC across measured genes; NaN where no spot has one.

    Across genes, gene means alone give a high number: read it beside the train mean's.
    """
    values = pcc_per_spot(
        predicted[:, counts.measured], log1p_cpm(counts.counts)[:, counts.measured]
    )
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def judge_genes(
    genes: pd.DataFrame,
    patients: Mapping[str, str],
    owners: Mapping[str, str],
    *,
    nominal: float,
    trained_on: Mapping[str, Collection[str]] | None = None,
) -> pd.DataFrame:
    """Test, false discovery rate and grade of every gene over all held-out sections.

    Args:
        genes: rows of genes.csv: section_id, gene, null_z, pcc_partial, ceiling_composition,
            depth_only_pcc_composition, coverage.
        patients: patient of every held-out section that was held out as a whole patient; empty
            where sections of the same patient were in training.
        owners: patient of every section: sections of one patient are no independent evidence.
        nominal: stated coverage of the intervals behind `coverage`.
        trained_on: sections in the training of the model that predicted a section; None: none of these.

    Returns:
        One row a gene: gene, p_value, q_value, n_sections, grade.
    """
    names = list(dict.fromkeys(genes["gene"]))

    def table(column: str) -> Floats:
        wide = genes.pivot(index="section_id", columns="gene", values=column)
        return np.asarray(wide.reindex(columns=names), dtype=np.float64)

    z, ceiling = table("null_z"), table("ceiling_composition")
    sections = sorted(set(genes["section_id"]))  # the order of a pivot's rows
    whose = [owners[s] for s in sections]
    # Sections of a patient that was in training were left out one by one.
    groups = {s: owners[s] if patients[s] else s for s in sections}
    shared = training_correlation(
        list(groups.values()),
        [{groups[t] for t in (trained_on or {}).get(s, ()) if t in groups} for s in sections],
    )
    test = combine_sections(list(z), whose, list(ceiling), shared)
    coverage = _mean_over_sections(table("coverage"))
    evidence = GeneEvidence(
        score=table("pcc_partial"),
        z=z,
        q_value=test.q_value,
        depth_score=table("depth_only_pcc_composition"),
        ceiling=ceiling,
        coverage=coverage,
        nominal=nominal,
        patients=tuple(patients[s] for s in sections),
    )
    return pd.DataFrame(
        {
            "gene": names,
            "p_value": test.p_value,
            "q_value": test.q_value,
            "n_sections": test.n_sections,
            "grade": grade_genes(evidence),
        }
    )


def held_grades(genes: pd.DataFrame, judged: pd.DataFrame) -> list[dict[str, Any]]:
    """How the grades of a model's own validation hold on new sections, best grade first.

    Args:
        genes: rows of genes.csv with `model_grade` and `pcc_composition`.
        judged: as `judge_genes` gives it, on the new sections.

    Returns:
        grade, n_genes, n_tested, n_significant (FDR 5 % on the new sections), pcc_composition (mean).
    """
    merged = genes.merge(judged[["gene", "q_value", "n_sections"]], on="gene", how="left")
    rows = []
    for grade, part in merged.groupby("model_grade", sort=True):
        once = part.drop_duplicates("gene")
        tested = once[once["n_sections"] > 0]
        rows.append(
            {
                "grade": str(grade),
                "n_genes": len(once),
                "n_tested": len(tested),
                "n_significant": int((tested["q_value"] <= FDR).sum()),
                "pcc_composition": float(part["pcc_composition"].mean()),
            }
        )
    return rows


def headline(judged: pd.DataFrame, sections: Sequence[str], *, note: str = "") -> str:
    """The one sentence that every report begins with."""
    tested = int((judged["n_sections"] > 0).sum())
    found = int((judged["q_value"] <= FDR).sum())
    number = "no gene is" if found == 0 else f"{found:,} of {tested:,} genes are"
    where = f"{len(sections)} held-out section{'s' if len(sections) != 1 else ''}"
    first = number[0].upper() + number[1:]
    tail = f" ({tested:,} tested)" if found == 0 else ""
    caution = " Sections of the same patients were, or may have been, in training." if note else ""
    return (
        f"{first} predicted better than a smooth random map beyond depth{tail}, "
        f"FDR {FDR:.0%}, {where}.{caution}"
    )


def _mean_over_sections(values: Floats) -> Floats:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return mean
