"""Owns the name of every obs, obsm, var, layers and uns entry that hespotex writes; constants only."""

from __future__ import annotations

from typing import Final

# obsm
SPATIAL: Final = "spatial"  # (n, 2) x, y of the spot centre in level-0 pixels, origin top-left
GENE_SETS: Final = "gene_sets"  # (n, K) predicted; uns["hespotex"]["gene_sets"] names the columns
GENE_SETS_MEASURED: Final = "gene_sets_measured"  # (n, K) Pearson residuals of the sets' counts

# layers
COMPOSITION: Final = "composition"  # log(p_sg) - log(pooled p_g of the training sections)
LOWER: Final = "lower"  # lower end of the interval for X
UPPER: Final = "upper"
MEASURED: Final = "measured"  # measured value in the unit of X
MEASURED_COUNTS: Final = "measured_counts"  # raw counts over the panel

# obs
PREDICTED_DEPTH: Final = "predicted_depth"  # expected total count over the panel
MEASURED_DEPTH: Final = "measured_depth"
OOD_SCORE: Final = "ood_score"
OOD: Final = "ood"
NUCLEI: Final = "nuclei"  # nuclei whose centre lies in the square around the spot
NUCLEI_PER_MM2: Final = "nuclei_per_mm2"
ARRAY_X: Final = "array_x"
ARRAY_Y: Final = "array_y"
SECTION_ID: Final = "section_id"
PATIENT_ID: Final = "patient_id"

# var
GRADE: Final = "grade"

# uns
UNS: Final = "hespotex"
UNIT_LOG1P: Final = "log1p(CPM over the model's gene panel)"
UNIT_COMPOSITION: Final = "log(p) - log(pooled p of the training sections)"
UNIT_DEPTH: Final = "expected total count over the model's gene panel"
UNIT_GENE_SETS: Final = "log of the set's share in the panel total, against the training sections"
