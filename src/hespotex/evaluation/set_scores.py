"""How a gene set is scored and graded on held-out sections: as a gene with the counts of its members."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.errors import ModelFileError
from hespotex.evaluation import run_tables
from hespotex.evaluation.baselines import depth_only
from hespotex.evaluation.bootstrap import pcc_interval
from hespotex.evaluation.by_scope import (
    SETS,
    Judged,
    bundle_claims,
    judge_by_scope,
    main_scope,
    of_same_sets,
    summarise_scope,
)
from hespotex.evaluation.claims import Patient, Scope
from hespotex.evaluation.evidence import FDR
from hespotex.evaluation.noise_ceiling import noise_ceiling, share_of_ceiling
from hespotex.evaluation.scores import pcc_per_gene
from hespotex.evaluation.set_trust import trust_of_sets, trust_with_sets
from hespotex.evaluation.spatial_null import (
    MIN_SPOTS,
    SpatialModes,
    build_modes,
    score_against_null,
)
from hespotex.genes.gene_sets import MIN_GENES, GeneSet, PanelSets, SetScores, check_sets
from hespotex.genes.panel import PanelCounts, pearson_residuals
from hespotex.models.bundle import Bundle
from hespotex.storage.metrics import SetsSummary

Floats = npt.NDArray[np.float64]

GRADE_NOTE: Final = "Sets are graded by the rule of the genes; the coverage of their intervals is not scored, so A does not ask for it."


def score_sets(
    sets: PanelSets,
    composition: npt.NDArray[np.float32],
    counts: PanelCounts,
    xy_um: Floats,
    pooled: Floats,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Score every set on one held-out section, as `section_evidence` and `score_section` score a gene.

    The measured side is the Pearson residual of the set's counts, in the panel's total; predicted and
    measured side both use the genes that the section measured.

    Args:
        composition: (n, G) predicted without the counts.
        counts: measured over the panel.
        xy_um: (n, 2) spot centres.
        pooled: (G,) shares of the pooled training counts.

    Returns:
        One row a set: gene_set, n_listed, n_panel_genes and `run_tables.SET_SCORES`; scores are NaN where fewer than
        MIN_GENES genes were measured.
    """
    seen = sets.measured(counts.measured)
    predicted = seen.scores(composition, pooled, counts.measured)
    of_sets = seen.counts(counts.counts)
    modes = build_modes(xy_um) if len(xy_um) >= MIN_SPOTS and len(sets) else None
    rows = [
        _score(predicted[:, [k]], of_sets[:, k], counts.depth, xy_um, modes, seed)
        if seen.n_panel[k] >= MIN_GENES
        else {}
        for k in range(len(sets))
    ]
    table = pd.DataFrame(rows, columns=list(run_tables.SET_SCORES), dtype=np.float64)
    table.insert(0, run_tables.GENE_SET, list(sets.names))
    table.insert(1, run_tables.N_LISTED, sets.n_listed)
    table.insert(2, run_tables.N_PANEL_GENES, sets.n_panel)
    return table


def _score(
    predicted: npt.NDArray[np.float32],
    of_set: Floats,
    depth: Floats,
    xy_um: Floats,
    modes: SpatialModes | None,
    seed: int,
) -> dict[str, float]:
    table, residuals = _beside_the_rest(of_set, depth), _residuals(of_set, depth)
    ceiling = noise_ceiling(table, seed=seed).composition[:1]
    pcc = pcc_per_gene(predicted, residuals)
    interval = pcc_interval(predicted, residuals, xy_um, seed=seed, modes=modes)
    partial = z = np.nan
    if modes is not None:
        null = score_against_null(predicted, table, modes)
        partial, z = float(null.score[0]), float(null.z[0])
    values = (
        pcc[0],
        interval.lower[0],
        interval.upper[0],
        pcc_per_gene(depth_only(table), residuals)[0],
        partial,
        z,
        ceiling[0],
        share_of_ceiling(pcc, ceiling)[0],
        of_set.mean(),
    )
    return {name: float(value) for name, value in zip(run_tables.SET_SCORES, values, strict=True)}


def judge_sets(
    table: pd.DataFrame,
    patients: Mapping[str, str],
    owners: Mapping[str, str],
    trained_on: Mapping[str, Collection[str]] | None = None,
) -> dict[Scope, pd.DataFrame]:
    """Test, false discovery rate over sets, and grade of every set, by kind of held-out section.

    Args:
        table: rows of gene_sets.csv.
        patients, owners, trained_on: as of `judge_genes`.

    Returns:
        By kind, one row a set: gene_set, and what `judge_genes` says of a gene.
    """
    as_genes = table.rename(columns={run_tables.GENE_SET: run_tables.GENE}).assign(
        **{run_tables.COVERAGE: 1.0}
    )
    judged = judge_by_scope(as_genes, patients, owners, nominal=1.0, trained_on=trained_on)
    return {
        scope: found.rename(columns={run_tables.GENE: run_tables.GENE_SET})
        for scope, found in judged.items()
    }


def summarise_sets(judged: Judged, table: pd.DataFrame, left_out: Mapping[str, int]) -> SetsSummary:
    """The entry of metrics.json about the sets: how many are found, their grades, and which were left out.

    Args:
        table: rows of gene_sets.csv.
        left_out: name -> panel genes of the sets that no fold could score.
    """
    of_scope = {scope: summarise_scope(found) for scope, found in judged.items()}
    main = of_scope[main_scope(judged)]
    tested, found = main.n_tested, main.n_significant
    scores = table[run_tables.PCC_COMPOSITION].to_numpy(np.float64)
    known = scores[np.isfinite(scores)]
    return SetsSummary(
        headline=(
            f"{found:,} of {tested:,} gene sets are predicted better than a smooth random map beyond depth, "
            f"FDR {FDR:.0%}."
        ),
        n_tested=tested,
        n_significant=found,
        pcc_composition_mean=float(known.mean()) if len(known) else np.nan,
        scope=main_scope(judged),
        grades=main.grades,
        evidence=main.evidence,
        by_scope=of_scope,
        grade_note=GRADE_NOTE,
        min_genes=MIN_GENES,
        left_out={name: int(n) for name, n in left_out.items()},
    )


def with_gene_sets(bundle: Bundle, sets: Sequence[GeneSet] | None) -> Bundle:
    """The model with other gene sets; one of the very same genes keeps its grade, interval and upper quartile.

    Args:
        sets: to score; None keeps the model's own.

    Raises:
        ModelFileError: an imported model, which knows no training shares to score sets against.
    """
    if sets is None:
        return bundle
    check_sets(sets)
    if sets and not len(bundle.pooled):
        raise ModelFileError(
            expected="a model that knows its training shares to score gene sets against them",
            found="an imported one",
            remedy="leave out --gene-sets",
        )
    validation = {**bundle.validation, SETS: of_same_sets(bundle, sets)}
    trust = trust_with_sets(bundle, sets)
    return replace(bundle, gene_sets=tuple(sets), validation=validation, trust=trust)


def bundle_sets(
    bundle: Bundle, patient: Patient = "unknown", *, verdict: str | None = None
) -> tuple[PanelSets, SetScores] | None:
    """A bundle's gene sets in its panel, and what may be claimed of them on a slide; None where none has enough genes."""
    sets = PanelSets.of(bundle.gene_sets, bundle.genes)
    if not len(sets):
        return None
    claims = bundle_claims(bundle, patient, verdict=verdict, sets=sets.names)
    grades, evidence = tuple(claims.grade.tolist()), tuple(claims.evidence.tolist())
    scopes, trust = tuple(claims.gene_scope.tolist()), trust_of_sets(bundle.trust)
    return sets, SetScores(
        sets.names,
        grades,
        sets.n_listed,
        sets.n_panel,
        evidence=evidence,
        scopes=scopes,
        half_width=trust.half_width(),
        upper_quartile=trust.upper_quartile,
    )


def predicted_sets(
    bundle: Bundle,
    composition: npt.NDArray[np.float32],
    counts: PanelCounts | None = None,
    *,
    patient: Patient = "unknown",
    verdict: str | None = None,
) -> SetScores | None:
    """Scores of a bundle's gene sets in a prediction of some spots, the measured ones beside them.

    The measured side is NaN where fewer than MIN_GENES genes of a set were measured.
    """
    found = bundle_sets(bundle, patient, verdict=verdict)
    if found is None:
        return None
    sets, scores = found
    measured = None
    if counts is not None:
        seen = sets.measured(counts.measured)
        of_sets = seen.counts(counts.counts)
        measured = np.column_stack([_residuals(c, counts.depth) for c in of_sets.T])
        measured[:, seen.n_panel < MIN_GENES] = np.nan
    return replace(scores, values=sets.scores(composition, bundle.pooled), measured=measured)


def _residuals(of_set: Floats, depth: Floats) -> npt.NDArray[np.float32]:
    """(n, 1) Pearson residuals of a set's counts in the panel's total."""
    return pearson_residuals(_beside_the_rest(of_set, depth))[:, :1]


def _beside_the_rest(of_set: Floats, depth: Floats) -> sparse.csr_matrix:
    """(n, 2) counts of a set and of all other genes: the totals are the panel's."""
    return sparse.csr_matrix(np.column_stack([of_set, depth - of_set]).astype(np.float32))
