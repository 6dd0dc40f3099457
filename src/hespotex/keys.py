"""The name of every obs, obsm, var, layers and uns entry that hespotex writes; constants only."""

from __future__ import annotations

from typing import Final

# obsm
SPATIAL: Final = "spatial"  # (n, 2) x, y of the spot centre in level-0 pixels, origin top-left
SPATIAL_COMMON_UM: Final = (
    "spatial_common_um"  # (n, 2) microns in the frame that several sections share
)
GENE_SETS: Final = "gene_sets"  # (n, K) predicted; uns["hespotex"]["gene_sets"] names the columns
GENE_SETS_MEASURED: Final = "gene_sets_measured"  # (n, K) Pearson residuals of the sets' counts
RIDGE: Final = "ridge"  # (n, K + 1); times the transpose of a table in varm it is the ridge baseline's map of every gene

# uns["hespotex"]
PREDICTION_KEY: Final = "prediction_key"  # of everything that the h5ad of a slide depends on
COMMON_BLOCK: Final = (
    "common_block"  # number of the frame that SPATIAL_COMMON_UM is in: others are not comparable
)

# varm
RIDGE_LOG1P: Final = "ridge_log1p"  # (G, K + 1)
RIDGE_COMPOSITION: Final = "ridge_composition"
RIDGE_LEVEL: Final = "ridge_level"  # (G,) of the slide, in var

# layers
COMPOSITION: Final = "composition"  # log(p_sg) - log(pooled p_g of the training sections)
LOWER: Final = "lower"  # lower end of the interval for X
UPPER: Final = "upper"
MEASURED: Final = "measured"  # measured value in the unit of X
MEASURED_COMPOSITION: Final = "measured_composition"  # in SpatialData tables
MEASURED_COUNTS: Final = "measured_counts"  # raw counts over the panel

# obs
PREDICTED_DEPTH: Final = "predicted_depth"  # expected total count over the panel
MEASURED_DEPTH: Final = "measured_depth"
OOD_SCORE: Final = "ood_score"
OOD: Final = "ood"
NUCLEI: Final = "nuclei"  # nuclei whose centre lies in the square around the spot
NUCLEI_PER_MM2: Final = "nuclei_per_mm2"
# Place of the spot in its array, under the names of scverse. Readers take either pair.
ARRAY_ROW: Final = "array_row"
ARRAY_COL: Final = "array_col"
ARRAY_X: Final = "array_x"  # array_col as float64, as hespotex 0.1.0 named it
ARRAY_Y: Final = "array_y"  # array_row likewise
SECTION_ID: Final = "section_id"
PATIENT_ID: Final = "patient_id"
BAD_TILE: Final = "bad_tile"  # pixels of the spot could not be read
# What is written of a spot beside the columns that a user carries along.
OBS: Final = (
    PREDICTED_DEPTH, MEASURED_DEPTH, OOD_SCORE, OOD, NUCLEI, NUCLEI_PER_MM2, ARRAY_X, ARRAY_Y, SECTION_ID, PATIENT_ID,
    BAD_TILE,
)  # fmt: skip

# var: what may be claimed of a gene on this slide, `evaluation.claims`
GRADE: Final = "grade"  # A, B, C, D, ungraded
EVIDENCE: Final = "evidence"  # predicted, not shown, plainly not predicted, untested
SCOPE: Final = (
    "scope"  # between_patients, within_patient, none; in uns of the prediction as a whole
)
N_PATIENTS: Final = "n_patients"  # held-out patients with a score, nobody of whom was in training
N_SECTIONS: Final = "n_sections"  # held-out sections with a score
SCORE: Final = "score"  # mean PCC of composition given measured depth, over these sections
SCORE_LOWER: Final = "score_lower"  # its 95 % interval
SCORE_UPPER: Final = "score_upper"
Q_VALUE: Final = "q_value"
CEILING_SHARE: Final = "ceiling_share"  # score as part of its noise ceiling
POOLED_SHARE: Final = "pooled_share"  # a gene's part of all counts of the training sections
UPPER_QUARTILE: Final = (
    "upper_quartile"  # of composition over training spots, each predicted while left out
)
LEVEL_GRADE: Final = (
    "level_grade"  # how far slides and patients can be told apart by the gene: A to D, ungraded
)
# var, one column a size of region, such as half_width_9: the interval of composition is this far to either side
HALF_WIDTH: Final = "half_width_"

# uns
UNS: Final = "hespotex"
FORMAT_VERSION: Final = "format_version"  # schema of the file; 1 was written by hespotex 0.1.0
SENTENCE: Final = "sentence"  # what is to be read first
REASON: Final = "reason"  # why genes are untested; absent where none is
EVIDENCE_COUNTS: Final = "evidence_counts"  # genes of the model's whole panel by evidence
GRADE_COUNTS: Final = "grade_counts"  # the same by grade
LEVEL_SENTENCE: Final = (
    "level"  # whether the model tells slides apart, in words; absent in a model without a level
)
USE: Final = "use"  # what the numbers are for: research alone
RESEARCH_USE: Final = "research use only"
PATIENT: Final = "patient"  # same, new or unknown: the slide's patient to the training
SUSPENDED: Final = "suspended"  # True on a slide that is unlike the training slides
FOUND_HERE: Final = "found_here"  # True where the grades were found on these very sections
TESTED_PATIENTS: Final = "tested_patients"  # most held-out patients that a gene rests on
TESTED_SECTIONS: Final = "tested_sections"
N_FLAGGED: Final = "n_flagged"
SCORE_IS: Final = "score_is"  # which score var["score"] is, in words
HALF_WIDTH_LEVEL: Final = (
    "half_width_level"  # stated coverage of var's half_width_1, ...; absent without them
)
FITTED_UM: Final = "fitted_um"  # of a fine map: diameter of the spots that its model was fitted on
PCC_BY_SIZE: Final = "pcc_by_size"  # of a fine map: rows of size in microns, PCC and ceiling; absent without such scores
GENE_PCC_BY_SIZE: Final = "gene_pcc_by_size"  # likewise of every gene: `gene`, `size_um`, (genes, sizes) `pcc` and `ceiling`
OOD_VERDICT: Final = "ood_verdict"
UNIT_LOG1P: Final = "log1p(CPM over the model's gene panel)"
UNIT_COMPOSITION: Final = "log(p) - log(pooled p of the training sections)"
UNIT_MEASURED_COMPOSITION: Final = "log of the gene's rate in the spot over its rate in the section, counting noise taken out; mean as predicted"
UNIT_HALF_WIDTH: Final = (
    "natural log, to either side of the composition of a region of so many spots"
)
UNIT_RIDGE: Final = (
    "times varm['ridge_composition'].T, or varm['ridge_log1p'].T: the ridge baseline's maps"
)
UNIT_DEPTH: Final = "expected total count over the model's gene panel"
UNIT_GENE_SETS: Final = (
    "composition: log of the set's part of the panel total, against the training sections"
)
