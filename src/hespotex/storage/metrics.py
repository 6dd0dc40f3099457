"""metrics.json: what a scored run found. The records of its folds, which it is made of, hold the same sections."""

# ruff: noqa: RUF012 - pydantic gives every instance its own copy of a default

from __future__ import annotations

import math
from typing import Any, ClassVar

from hespotex.storage.gene_sizes import GeneSizes
from hespotex.storage.schema import JsonFile, Schema, Score


class ScoreSummary(Schema):
    """Scores of one section, or their mean over sections and folds; NaN where a score does not exist."""

    pcc_log1p_mean: Score = math.nan
    """Mean over genes of PCC over spots, predicted against measured log1p(CPM)."""
    pcc_log1p_median: Score = math.nan
    """Median over genes of the same."""
    pcc_log1p_top50: Score = math.nan
    """Mean of the 50 best genes of the same."""
    pcc_composition_mean: Score = math.nan
    """Mean over genes of PCC of composition against Pearson residuals of the counts."""
    pcc_composition_abundant200: Score = math.nan
    """The same over the most abundant genes of the training sections."""
    rmse_log1p: Score = math.nan
    """Root of the mean squared error over all spots and measured genes, in log1p(CPM)."""
    n_constant_genes: Score = math.nan
    """Genes whose measured values do not vary over the spots."""


class Spread(Schema):
    """Spearman of the ensemble's spread with the error, over genes; empty where there is none."""

    median: Score = math.nan
    """Over genes."""
    n_genes: int = 0
    """Genes that have one."""
    n_above: int = 0
    """Genes above 0 at FDR 5 %."""
    n_below: int = 0
    """Genes below 0 at FDR 5 %."""


class SizeScores(Schema):
    """Scores at one size of square, of a section of fine bins or their mean over such sections."""

    size_um: float
    """Side of the squares."""
    n_squares: int = 0
    """Squares, over all sections."""
    n_sections: int = 1
    """Held-out sections that were scored at this size."""
    n_fitted: int = 0
    """Of these, sections whose own squares have this size: there the null, the grades and all other scores are."""
    scores: dict[str, ScoreSummary] = {}
    """By predictor."""
    ceiling: ScoreSummary = ScoreSummary()
    """What counting noise leaves to a perfect prediction at this size."""


class SectionRecord(Schema):
    """What is said of one held-out section."""

    section_id: str
    """As in the manifest."""
    patient_id: str = ""
    """As in the manifest."""
    key: str = ""
    """Content key of positions and counts."""
    patient_in_training: bool = False
    """Whether its patient was in the training, or may have been."""
    n_spots: int = 0
    """Spots with counts."""
    n_empty_spots: int = 0
    """Spots without a count of any panel gene."""
    n_unmeasured_genes: int = 0
    """Panel genes that the section did not measure."""
    n_absent_genes: int = 0
    """Panel genes that its table lacks, and that count as 0."""
    scores: dict[str, ScoreSummary] = {}
    """By predictor."""
    ceiling: ScoreSummary = ScoreSummary()
    """What counting noise leaves to a perfect prediction."""
    sizes: list[SizeScores] = []
    """Scores at every size of square, smallest first; absent where spots are no squares of fine bins."""
    pcc_per_spot: dict[str, float | None] = {}
    """Mean over spots of the PCC across genes, by predictor."""
    coverage: dict[str, float] = {}
    """Share of measured log1p(CPM) inside the interval, by its stated level."""
    region_coverage: dict[str, dict[str, float]] = {}
    """Share of measured counts inside the interval of composition, by spots of a region and stated level."""
    spread_spearman: Spread = Spread()
    """Whether the ensemble's spread follows the error."""
    ood_share: float | None = None
    """Share of spots that are unlike the training; None where the model cannot tell."""
    ood_verdict: str | None = None
    """Whether the section is like the training; None likewise."""


class Candidate(Schema):
    """One combination of searched values."""

    values: dict[str, Any] = {}
    """By key of the configuration."""
    score: float | None = None
    """Mean over inner folds; None for the only candidate."""


class Search(Schema):
    """What inner folds chose; empty where nothing was searched."""

    score: str = ""
    """Field of `ScoreSummary` that decides."""
    candidates: list[Candidate] = []
    """All that were tried."""
    chosen: dict[str, Any] = {}
    """Values of the best, by key of the configuration."""

    @property
    def words(self) -> str:
        """What was chosen."""
        return ", ".join(f"{key} = {value}" for key, value in self.chosen.items())


class _Fold(Schema):
    """What one fold held out and was fitted on."""

    fold: int = 0
    """Its number."""
    held_out: list[str] = []
    """Ids of its held-out sections."""
    train: list[str] = []
    """Ids of the sections that it was fitted on."""
    n_spots: int = 0
    """Held-out spots."""
    n_genes: int = 0
    """Genes of its panel."""
    model_id: str = ""
    """Key of its model."""


class FoldScores(_Fold):
    """A fold in metrics.json."""

    inner_note: str = ""
    """For whom its intervals say nothing; absent where there is nothing to say."""
    search: Search = Search()
    """What its inner folds chose; absent where nothing was searched."""
    scores: dict[str, ScoreSummary] = {}
    """Mean over its sections, by predictor, and of the ceiling."""


class FoldRecord(JsonFile, _Fold):
    """work/fold-N.json: written when all of a fold is there, read when all folds are."""

    holds: ClassVar[str] = "the record of a fold"

    hyper: dict[str, Any] = {}
    """Of the fitted model."""
    inner_note: str | None = None
    """For whom its intervals say nothing."""
    inner_kind: str | None = None
    """What its inner folds left out: `patient`, `section` or `blocks`."""
    search: Search = Search()
    """What they chose."""
    sections: list[SectionRecord] = []
    """Held-out sections."""


class ScopeSummary(Schema):
    """What is said of one kind of held-out section, or of gene sets on it."""

    grades: dict[str, Any] = {}
    """Genes by grade; a grade by gene in files of hespotex 0.1.0."""
    evidence: dict[str, int] = {}
    """Genes by word of evidence."""
    n_tested: int = 0
    """Genes with a score on a section."""
    n_significant: int = 0
    """Of these at the run's false discovery rate."""
    n_sections: int = 0
    """Most held-out sections that a gene rests on."""
    n_patients: int = 0
    """Most held-out patients likewise."""


class SetsSummary(Schema):
    """What is said of gene sets; of a run that could score none only which were left out."""

    headline: str = ""
    """How many are found."""
    n_tested: int = 0
    """As of genes."""
    n_significant: int = 0
    """As of genes."""
    pcc_composition_mean: Score = math.nan
    """Over sets and sections."""
    scope: str = ""
    """Kind of held-out section that the headline is about."""
    grades: dict[str, int] = {}
    """Sets by grade."""
    evidence: dict[str, int] = {}
    """Sets by word of evidence."""
    by_scope: dict[str, ScopeSummary] = {}
    """By kind of held-out section."""
    grade_note: str = ""
    """How their grades differ from those of genes."""
    min_genes: int = 0
    """Fewest panel genes of a set."""
    left_out: dict[str, int] = {}
    """Panel genes of every set with fewer."""


class Coverage(Schema):
    """Stated coverage of an interval beside the coverage seen, over sections of one kind."""

    spots: int = 0
    """Of a region; absent for log1p."""
    nominal: float
    """Stated."""
    observed: float
    """Mean over sections."""
    lowest: float = math.nan
    """Lowest section."""
    highest: float = math.nan
    """Highest section."""
    n_sections: int = 0
    """That have intervals."""
    where: str = "held out"
    """Whether the patient was in training, in words."""

    @property
    def span(self) -> str:
        """The lowest and the highest of several sections: a mean hides one that fails."""
        return f"{self.lowest:.1%} to {self.highest:.1%}" if self.n_sections > 1 else ""


class HeldGrade(Schema):
    """How one grade of a model's own validation holds on the sections of this run."""

    scope: str = ""
    """Kind of evidence that the grade rests on; empty in files of hespotex 0.1.0."""
    seen: str = ""
    """Kind of the new sections."""
    grade: str
    """Of the model."""
    n_genes: int
    """With that grade."""
    n_tested: int
    """Of these with a score here."""
    n_significant: int
    """Of these found here."""
    pcc_composition: Score
    """Mean over genes and sections."""


class Units(Schema):
    """What intervals of means are over."""

    unit: str
    """`patient` or `section`."""
    n: int
    """How many."""


class LevelSummary(Schema):
    """Where slides lie as a whole, across held-out patients, in log share."""

    sentence: str = ""
    """Whether the models of the folds tell slides apart, and what was found."""
    n_patients: int = 0
    """Held out."""
    n_folds_told: int = 0
    """Folds whose model tells slides apart."""
    grades: dict[str, int] = {}
    """Genes by level grade."""
    grade_rule: list[str] = []
    """What each grade means."""
    pcc: Score = math.nan
    """Mean over genes with a score, of the deviation from the training mean."""
    spearman: Score = math.nan
    """Likewise."""
    baselines: dict[str, Score] = {}
    """Mean PCC of each baseline over its genes."""
    rmse: Score = math.nan
    """Root of the mean squared error over genes and patients."""
    train_mean_rmse: Score = math.nan
    """The same of the train mean."""
    pcc_across_genes: Score = math.nan
    """Mean over patients of the correlation across genes of log shares inside one patient."""
    train_mean_pcc_across_genes: Score = math.nan
    """The same of the train mean, which gene means alone make high."""


class Metrics(JsonFile):
    """metrics.json; holds no time and no path, so that equal runs give equal files. Without anything set: no scores."""

    holds: ClassVar[str] = "the scores of a run"

    folds_by: str = ""
    """How folds were made: `patient`, `section`, `kfold`; `external` for a model that was trained elsewhere."""
    note: str = ""
    """What the folds say of themselves."""
    notes: list[str] = []
    """Every sentence that numbers of the run must carry, that note among them."""
    headline: str = ""
    """What was found, and for whom it holds."""
    scope: str = ""
    """Kind of held-out section that the headline is about."""
    grades: dict[str, Any] = {}
    """Here and in the next five: `by_scope` of that kind."""
    evidence: dict[str, int] = {}
    n_tested: int = 0
    n_significant: int = 0
    n_sections: int = 0
    n_patients: int = 0
    by_scope: dict[str, ScopeSummary] = {}
    """By kind of held-out section: `between_patients`, `within_patient`."""
    fdr: float | None = None
    """False discovery rate."""
    grade_rule: list[str] | None = None
    """What each grade means; None in files of before it was written."""
    calibration: list[Coverage] = []
    """Of the intervals of log1p."""
    region_calibration: list[Coverage] = []
    """Of the intervals of composition, by size of region."""
    sections: list[SectionRecord] = []
    """Every held-out section."""
    nan_counts_as_zero: bool = False
    """Whether a PCC that does not exist counts as 0 in means."""
    folds: list[FoldScores] = []
    """In their order."""
    mean: dict[str, ScoreSummary] = {}
    """Mean over sections, then over folds, by predictor, and of the ceiling."""
    sizes: list[SizeScores] = []
    """At which size of square sections of fine bins were scored, smallest first; absent where there are none."""
    intervals: dict[str, dict[str, list[Score]]] = {}
    """95 % interval of a mean, by predictor and score; absent with few units."""
    ranges: dict[str, dict[str, list[Score]]] = {}
    """Lowest and highest of few units, likewise; absent in files of before it was written."""
    interval_centres: dict[str, dict[str, Score]] = {}
    """Mean over the units of an interval or range, likewise."""
    intervals_over: Units | None = None
    """What intervals, ranges and their centres are over."""
    model_grades: list[HeldGrade] = []
    """How the model's own grades hold here; absent but for an external validation."""
    gene_sets: SetsSummary | None = None
    """Absent where no gene sets were given."""
    level: LevelSummary | None = None
    """Where slides lie as a whole; absent for a profile without a level, and in files of before it was found."""

    @property
    def sentences(self) -> list[str]:
        """What numbers of the run must carry; files of hespotex 0.1.0 have the note of the folds alone."""
        single = [self.note] if self.note else []
        return self.notes if "notes" in self.model_fields_set else single

    def mean_of(self, predictor: str, score: str) -> float:
        """A mean score; NaN where there is none."""
        return float(getattr(self.mean.get(predictor, ScoreSummary()), score))


EvidenceTables = dict[str, dict[str, list[Any]]]


class Evidence(JsonFile):
    """evidence.json: what held-out sections say of every gene, by kind of section, as a model file takes it over."""

    holds: ClassVar[str] = "the evidence of a run"

    evidence_schema: int = 0
    """Of the tables; 0 in model files of hespotex 0.1.0, whose grades do not say what they rest on."""
    gene_evidence: EvidenceTables = {}
    """By kind: `names`, and a list for each of `claims.TABLE_COLUMNS`."""
    gene_set_evidence: EvidenceTables = {}
    """The same of gene sets."""
    level_grades: dict[str, str] = {}
    """Level grade of every gene, across patients; empty in files of before it was found."""
    gene_sizes: GeneSizes = GeneSizes()
    """Where sections of fine bins were held out."""


class Validation(Evidence, Metrics):
    """What a model file knows of its own validation: metrics.json and evidence.json of it, and what was searched."""

    search: Search = Search()
    """What inner folds of all its sections chose."""
