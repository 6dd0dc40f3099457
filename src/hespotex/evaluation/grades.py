"""The grade of a gene, A to D, from its scores in cross-validation: the rule, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import HESpotExError
from hespotex.evaluation.scores import mean_present

UNGRADED: Final = "ungraded"


@dataclass(frozen=True)
class GeneEvidence:
    """The results of cross-validation that grades rest on, gene by gene. All scores are composition PCC given depth.

    Attributes:
        score: (S, G) per held-out section; NaN where the gene has no score there.
        z: (S, G) the same in standard deviations of the smooth null.
        q_value: (G,) of the sections combined.
        depth_score: (S, G) composition PCC of measured depth alone as the prediction.
        ceiling: (S, G) what counting noise leaves to a perfect prediction.
        coverage: (G,) share of held-out values inside the intervals of `nominal`; NaN if unknown.
        nominal: stated coverage of those intervals.
        patients: (S,) who was held out; empty where the section's patient was in training.
    """

    score: npt.NDArray[np.float64]
    z: npt.NDArray[np.float64]
    q_value: npt.NDArray[np.float64]
    depth_score: npt.NDArray[np.float64]
    ceiling: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    nominal: float
    patients: tuple[str, ...]

    def __post_init__(self) -> None:
        tables = {self.score.shape, self.z.shape, self.depth_score.shape, self.ceiling.shape}
        if len(tables) != 1 or {self.q_value.shape, self.coverage.shape} != {self.score.shape[1:]}:
            raise HESpotExError(
                expected="evidence on the same sections and genes",
                found=f"tables of shapes {sorted(tables)} and {len(self.q_value)} and {len(self.coverage)} genes",
            )
        if len(self.patients) != len(self.score):
            raise HESpotExError(
                expected=f"a patient for each of {len(self.score)} sections",
                found=len(self.patients),
            )


@dataclass(frozen=True)
class GradeRule:
    """The limits of the grades.

    Attributes:
        fdr: false discovery rate of the combined test.
        z_section: a section supports a gene from this z on (one-sided 5 %).
        sections_a, sections_b: share of the held-out sections that must support a gene graded A, B.
        share_a, share_b: share of the ceiling that A and B ask for.
        score_a: mean PCC given depth that A asks for.
        coverage_slack: how far below nominal the coverage of a gene graded A may be.
        patients_a: held-out patients with a score that A asks for.
        ceiling_plain: a section can show that a gene is plainly not predicted where its ceiling is at least this.
        share_plain: upper end of the PCC of composition as part of the ceiling, below which that is shown.
    """

    fdr: float = 0.05
    z_section: float = 1.645
    sections_a: float = 1.0
    sections_b: float = 0.5
    share_a: float = 0.5
    share_b: float = 0.25
    score_a: float = 0.2
    coverage_slack: float = 0.05
    patients_a: int = 2
    ceiling_plain: float = 0.3
    share_plain: float = 0.2

    def text(self) -> tuple[str, ...]:
        """The rule in words, one sentence a grade, best first."""
        return (
            f"A: as B, and supported (z at least {self.z_section:g}) in {self.sections_a:.0%} of the held-out "
            f"sections with a score, mean PCC given depth at least {self.score_a:g} and {self.share_a:.0%} of its noise "
            f"ceiling, interval coverage at most {100 * self.coverage_slack:g} points below nominal, and scores in at "
            f"least {self.patients_a} held-out patients.",
            f"B: as C, and supported in at least {self.sections_b:.0%} of the held-out sections with a score, and mean "
            f"PCC given depth at least {self.share_b:.0%} of its noise ceiling, which is above 0.",
            f"C: predicted better than a smooth random map beyond depth over all held-out sections (FDR "
            f"{self.fdr:.0%}), and mean PCC given depth above 0 and above what measured depth alone reaches (composition PCC).",
            f"D: everything else: not shown to be predicted, which is no proof that it cannot be. It is called plainly not "
            f"predicted where in every held-out section with a ceiling of at least {self.ceiling_plain:g} the upper 95 % end "
            f"of the PCC of composition is below {self.share_plain:.0%} of that ceiling.",
        )


def grade_genes(evidence: GeneEvidence, rule: GradeRule | None = None) -> npt.NDArray[np.str_]:
    """(G,) grade of every gene; `ungraded` where no held-out section has a score."""
    limits = rule or GradeRule()
    scored = np.isfinite(evidence.score)
    n_scored = scored.sum(axis=0)
    score = mean_present(np.where(scored, evidence.score, np.nan), 0.0)
    depth = mean_present(np.where(scored, evidence.depth_score, np.nan), 0.0)
    ceiling = mean_present(np.where(scored, evidence.ceiling, np.nan), 0.0)
    supported = (scored & (evidence.z >= limits.z_section)).sum(axis=0) / np.maximum(n_scored, 1)
    share = np.divide(score, ceiling, out=np.zeros_like(score), where=ceiling > 0)

    is_c = (n_scored > 0) & (evidence.q_value <= limits.fdr) & (score > np.maximum(depth, 0))
    is_b = is_c & (supported >= limits.sections_b) & (share >= limits.share_b)
    covered = evidence.coverage >= evidence.nominal - limits.coverage_slack  # False if unknown
    is_a = is_b & (supported >= limits.sections_a) & (share >= limits.share_a) & covered
    is_a &= (score >= limits.score_a) & (
        count_patients(evidence.score, evidence.patients) >= limits.patients_a
    )
    return np.select([n_scored == 0, is_a, is_b, is_c], [UNGRADED, "A", "B", "C"], default="D")


def plainly_not_predicted(
    upper: npt.NDArray[np.float64], ceiling: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """(G,) genes that every held-out section able to tell shows not to be predicted.

    Args:
        upper: (S, G) upper 95 % end of the PCC of composition, by block bootstrap; NaN where it does not exist.
        ceiling: (S, G) what counting noise leaves to a perfect prediction.
    """
    limits = GradeRule()
    telling = np.isfinite(upper) & (ceiling >= limits.ceiling_plain)
    low = np.where(telling, upper, 0.0) < limits.share_plain * np.where(telling, ceiling, 1.0)
    return np.asarray(telling.any(axis=0) & (low | ~telling).all(axis=0))


def count_patients(
    score: npt.NDArray[np.float64], patients: tuple[str, ...]
) -> npt.NDArray[np.int_]:
    """(G,) held-out patients with a score of (S, G); sections whose patient was in training do not count."""
    owner, scored = np.asarray(patients), np.isfinite(score)
    held_out = [scored[owner == p].any(axis=0) for p in np.unique(owner) if p]
    return np.asarray(np.sum(held_out, axis=0, dtype=np.int_) + np.zeros(score.shape[1], np.int_))


def count_grades(grades: npt.NDArray[np.str_]) -> dict[str, int]:
    """How many genes have each grade, best first."""
    return {g: int((grades == g).sum()) for g in ("A", "B", "C", "D", UNGRADED)}
