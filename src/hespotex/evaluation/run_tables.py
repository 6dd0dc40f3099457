"""genes.csv and gene_sets.csv of a scored run: names, kinds and order of their columns.

A row is one gene, or set, in one held-out section. A column of a baseline is the score behind the baseline's name.
"""

from __future__ import annotations

from typing import Final

from hespotex import keys
from hespotex.evaluation.predictors import MODEL, PREDICTORS
from hespotex.storage.table import Table

FOLD: Final = "fold"  # number of the fold
GENE: Final = "gene"
GENE_SET: Final = "gene_set"
N_LISTED: Final = "n_listed"  # genes of the set
N_PANEL_GENES: Final = "n_panel_genes"  # of these in the model's panel
MEAN_COUNT: Final = "mean_count"  # measured counts a spot
PCC_LOG1P: Final = "pcc_log1p"  # PCC over spots, predicted against measured log1p(CPM)
PCC_COMPOSITION: Final = "pcc_composition"  # the same of composition and Pearson residuals
PCC_PARTIAL: Final = "pcc_partial"  # PCC of composition given measured depth
NULL_Z: Final = "null_z"  # the same in standard deviations of a null of equally smooth maps
CEILING_COMPOSITION: Final = "ceiling_composition"  # largest that counting noise allows
COVERAGE: Final = "coverage"  # share of measured values in the 90 % interval of log1p
SPREAD_SPEARMAN: Final = "spread_spearman"  # of the ensemble's spread with the error
RMSE_LOG1P: Final = "rmse_log1p"
CONSTANT: Final = "constant"  # measured, but the same value in every spot
MEASURED: Final = "measured"  # the section's table has the gene
MODEL_GRADE: Final = "model_grade"  # with the kind of evidence behind it; alone in 0.1.0
P_VALUE: Final = "p_value"  # over the held-out sections of one kind
GENE_CEILING_SHARE: Final = f"gene_{keys.CEILING_SHARE}"  # likewise

# Across held-out patients, predicted against measured deviation of the patient's log share from the fold's training mean.
LEVEL_PCC: Final = "level_pcc"
LEVEL_SPEARMAN: Final = "level_spearman"
LEVEL_Q: Final = "level_q_value"
LEVEL_RMSE: Final = "level_rmse"
TRAIN_MEAN_LEVEL_RMSE: Final = "train_mean_level_rmse"


def of_predictor(score: str, predictor: str) -> str:
    """The column of a score of the model or of a baseline."""
    return score if predictor == MODEL else f"{predictor}_{score}"


def of_size(score: str, size_um: float) -> str:
    """The column of a score in squares of this side."""
    return f"{score}_{size_um:g}um"


def ends(score: str) -> tuple[str, str]:
    """The columns of a score's 95 % interval."""
    return f"{score}_lower", f"{score}_upper"


def model_grade(scope: str) -> str:
    """The column of the grade that the model's own validation gave."""
    return f"{MODEL_GRADE}_{scope}"


TRAIN_MEAN_RMSE: Final = of_predictor(RMSE_LOG1P, "train_mean")
DEPTH_PCC_LOG1P, DEPTH_PCC_COMPOSITION = (
    of_predictor(score, "depth_only") for score in (PCC_LOG1P, PCC_COMPOSITION)
)
RIDGE_PCC_COMPOSITION: Final = of_predictor(PCC_COMPOSITION, "ridge")
# The verdict over all held-out sections of a row's kind.
_VERDICT: Final[dict[str, type]] = {
    keys.SCOPE: str, P_VALUE: float, keys.Q_VALUE: float, keys.GRADE: str, keys.EVIDENCE: str, keys.N_PATIENTS: int,
    keys.SCORE: float, keys.SCORE_LOWER: float, keys.SCORE_UPPER: float, GENE_CEILING_SHARE: float,
}  # fmt: skip

LEVEL: Final[dict[str, type]] = {
    **dict.fromkeys((LEVEL_PCC, LEVEL_SPEARMAN, *ends(LEVEL_PCC), LEVEL_Q, LEVEL_RMSE, TRAIN_MEAN_LEVEL_RMSE), float),
    **dict.fromkeys((of_predictor(LEVEL_PCC, name) for name in ("area", "depth", "ridge")), float), keys.LEVEL_GRADE: str,
}  # fmt: skip


def _pcc(*predictors: str) -> dict[str, type]:
    names = [of_predictor(s, p) for p in predictors for s in (PCC_LOG1P, PCC_COMPOSITION)]
    return dict.fromkeys(names, float)


GENES: Final = Table(
    {
        FOLD: int, keys.SECTION_ID: str, GENE: str,
        **_pcc(MODEL, "ridge"), MEAN_COUNT: float, **_pcc(*PREDICTORS),
        # `evidence.SectionEvidence` says what these are.
        "spearman_log1p": float, PCC_PARTIAL: float, NULL_Z: float, "null_p": float,
        **dict.fromkeys((*ends(PCC_COMPOSITION), *ends(PCC_LOG1P)), float), "ceiling_log1p": float,
        CEILING_COMPOSITION: float, keys.CEILING_SHARE: float, "deviance_explained": float, "moran_measured": float,
        "moran_predicted": float, "ssim": float,
        COVERAGE: float, SPREAD_SPEARMAN: float, RMSE_LOG1P: float, TRAIN_MEAN_RMSE: float, CONSTANT: bool,
        MEASURED: bool, **dict.fromkeys((MODEL_GRADE, *map(model_grade, ("between_patients", "within_patient"))), str),
        **_VERDICT, **LEVEL,
    },
    needed=(keys.SECTION_ID, GENE),
)  # fmt: skip

SET_SCORES: Final = (
    PCC_COMPOSITION, *ends(PCC_COMPOSITION), DEPTH_PCC_COMPOSITION, PCC_PARTIAL, NULL_Z, CEILING_COMPOSITION,
    keys.CEILING_SHARE, MEAN_COUNT,
)  # fmt: skip
GENE_SETS: Final = Table(
    {FOLD: int, keys.SECTION_ID: str, GENE_SET: str, N_LISTED: int, N_PANEL_GENES: int,
     **dict.fromkeys(SET_SCORES, float), **_VERDICT},
    needed=(keys.SECTION_ID, GENE_SET),
)  # fmt: skip
