"""Evidence about a gene beyond its scores: of one held-out section, and the verdict over all sections."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.evaluation.bootstrap import pcc_interval
from hespotex.evaluation.claims import evidence_words
from hespotex.evaluation.grades import (
    GeneEvidence,
    count_patients,
    grade_genes,
    plainly_not_predicted,
)
from hespotex.evaluation.noise_ceiling import noise_ceiling, share_of_ceiling
from hespotex.evaluation.scores import (
    deviance_explained,
    mean_present,
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
from hespotex.genes.panel import PanelCounts, log1p_cpm, pearson_residuals
from hespotex.models.types import Prediction

Floats = npt.NDArray[np.float64]

FDR = 0.05


@dataclass(frozen=True)
class SectionEvidence:
    """Per gene, on one held-out section; NaN where it does not exist. Names are columns of genes.csv.

    Attributes:
        spearman_log1p: rank correlation of log1p(CPM).
        pcc_partial: composition PCC given measured depth.
        null_z: the same in standard deviations of a null of equally smooth maps.
        pcc_composition_lower, pcc_composition_upper: 95 % interval by spatial block bootstrap.
        pcc_log1p_lower, pcc_log1p_upper: the same of the PCC on log1p(CPM).
        null_p: one-sided p-value of `null_z`, of this section alone.
        ceiling_log1p, ceiling_composition: largest PCC that counting noise allows.
        ceiling_share: composition PCC as share of its ceiling.
        deviance_explained: of the counts, against the shares of the training sections.
        moran_measured, moran_predicted: Moran's I of log1p(CPM).
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
    prediction: Prediction, counts: PanelCounts, xy_um: Floats, pooled: Floats, *, seed: int = 0
) -> SectionEvidence:
    """All evidence about every gene from one held-out section.

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
        null_p=np.asarray(ndtr(-z)),
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
            depth_only_pcc_composition, coverage, pcc_composition with its _lower and _upper.
        patients: patient of every held-out section that was held out as a whole patient; empty
            where sections of the same patient were in training.
        owners: patient of every section: sections of one patient are no independent evidence.
        nominal: stated coverage of the intervals behind `coverage`.
        trained_on: sections in the training of the model that predicted a section; None: none of these.

    Returns:
        One row a gene: gene, p_value, and the columns of `claims.TABLE_COLUMNS`. The interval of the score
        combines the sections' block bootstraps of the PCC of composition, without the differences between patients.
    """
    names = list(dict.fromkeys(genes[run_tables.GENE]))

    def table(column: str) -> Floats:
        wide = genes.pivot(index=keys.SECTION_ID, columns=run_tables.GENE, values=column)
        return np.asarray(wide.reindex(columns=names), dtype=np.float64)

    z, ceiling = table(run_tables.NULL_Z), table(run_tables.CEILING_COMPOSITION)
    sections = sorted(set(genes[keys.SECTION_ID]))  # the order of a pivot's rows
    whose = [owners[s] for s in sections]
    # Sections of a patient that was in training were left out one by one.
    groups = {s: owners[s] if patients[s] else s for s in sections}
    shared = training_correlation(
        list(groups.values()),
        [{groups[t] for t in (trained_on or {}).get(s, ()) if t in groups} for s in sections],
    )
    test = combine_sections(list(z), whose, list(ceiling), shared)
    coverage = mean_present(table(run_tables.COVERAGE))
    evidence = GeneEvidence(
        score=table(run_tables.PCC_PARTIAL),
        z=z,
        q_value=test.q_value,
        depth_score=table(run_tables.DEPTH_PCC_COMPOSITION),
        ceiling=ceiling,
        coverage=coverage,
        nominal=nominal,
        patients=tuple(patients[s] for s in sections),
    )
    pcc, lower, upper = (
        table(name)
        for name in (run_tables.PCC_COMPOSITION, *run_tables.ends(run_tables.PCC_COMPOSITION))
    )
    grade = grade_genes(evidence)
    plain = (grade == "D") & plainly_not_predicted(upper, ceiling)
    score = mean_present(evidence.score)
    return pd.DataFrame(
        {
            run_tables.GENE: names,
            run_tables.P_VALUE: test.p_value,
            keys.Q_VALUE: test.q_value,
            keys.N_SECTIONS: test.n_sections,
            keys.GRADE: grade,
            keys.EVIDENCE: evidence_words(grade, plain),
            keys.N_PATIENTS: count_patients(evidence.score, evidence.patients),
            keys.SCORE: score,
            keys.SCORE_LOWER: score - _mean_width(pcc - lower, evidence.score),
            keys.SCORE_UPPER: score + _mean_width(upper - pcc, evidence.score),
            keys.CEILING_SHARE: share_of_ceiling(score, mean_present(ceiling)),
        }
    )


def _mean_width(width: Floats, score: Floats) -> Floats:
    """(G,) how far the mean of independent sections may lie off; NaN where no section has a score and a width."""
    known = np.isfinite(width) & np.isfinite(score)
    count = known.sum(axis=0)
    total = np.sqrt(np.square(np.where(known, width, 0.0)).sum(axis=0))
    found: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return found
