"""What a fine map may be read for: in general, as its model was scored, and of every gene; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import is_fine, pitch_um
from hespotex.report.report_tables import text

# docs/design/area.md has the table, made by `python -m benchmarks.run --only fine_truth`.
PAINTED: Final = (
    "On painted tissue, whose expression is known everywhere, a map every 16 um of a model of 55 um spots had a mean PCC with the true "
    "composition of 0.74 at 16 um, 0.75 at 25 um, 0.78 at 50 um and 0.77 at 100 um, over genes that the image tells; the nearest spot of "
    "a map every 100 um had 0.68, 0.70, 0.74 and 0.78. Real tissue need not follow what is painted."
)
UNSCORED: Final = (
    "The model has no scores by size of square, since it was not validated on bins: what this map is worth below its spots "
    "was not measured."
)
SCORED: Final = "The model's own validation on bins, mean PCC of composition over genes and what counting noise leaves at most"

GENE_SCORED: Final = (
    "its PCC with measured squares in the model's own validation, of what counting noise leaves"
)


def fine_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences for the page on the fine maps among its sections; none where all are coarse.

    Args:
        records: uns["hespotex"] of every section.
    """
    fine = [record for record in records if keys.FITTED_UM in record]
    if not fine:
        return []
    notes = [
        str(note)
        for record in fine
        for note in np.ravel(record.get("notes", []))
        if "extrapolates" in str(note) or "interpolated between" in str(note)
    ]
    said = [f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(notes)]
    scored = dict.fromkeys(_by_size(record) for record in fine)
    return [*said, *scored, PAINTED]


def _by_size(record: Mapping[str, Any]) -> str:
    if keys.PCC_BY_SIZE not in record:
        return UNSCORED
    found = (
        f"{size:g} um {text(float(pcc), 2)} of {text(float(best), 2)}"
        for size, pcc, best in np.atleast_2d(record[keys.PCC_BY_SIZE])
    )
    return f"{SCORED}: {', '.join(found)}."


def scale_texts(section: StoredPrediction, columns: npt.NDArray[np.intp]) -> list[str]:
    """Of each gene, at which scale its map is graded and how much of it is finer; empty of a coarse map."""
    fitted = float(section.record.get(keys.FITTED_UM, 0))
    if not fitted or not is_fine(section):
        return ["" for _ in columns]
    pitch = pitch_um(section)
    graded = f"a value every {pitch:g} um; graded at {fitted:g} um"
    scored = _gene_scores(section, columns)
    if pitch >= fitted:
        return [f"{graded}{own}" for own in scored]
    shares = finer_share(section, columns, fitted)
    return [
        f"{graded}; "
        + (
            f"inside squares of {fitted:g} um, where nothing was measured, it varies {share:.2f} times as much as in all"
            if np.isfinite(share)
            else "it does not vary"
        )
        + own
        for share, own in zip(shares, scored, strict=True)
    ]


def _gene_scores(section: StoredPrediction, columns: npt.NDArray[np.intp]) -> list[str]:
    """Of each gene its PCC with measured bins by size of square, and its ceiling; empty where the model has none."""
    found = section.record.get(keys.GENE_PCC_BY_SIZE)
    if found is None:
        return ["" for _ in columns]
    rows = {str(gene): row for row, gene in enumerate(np.ravel(found["gene"]))}
    sizes = np.ravel(found["size_um"])
    said = []
    for gene in section.genes[columns]:
        row = rows.get(str(gene))
        each = [
            f"{size:g} um {text(float(pcc), 2)} of {text(float(best), 2)}"
            for size, pcc, best in zip(
                sizes, found["pcc"][row], found["ceiling"][row], strict=True
            )
            if np.isfinite(pcc)
        ] if row is not None else []  # fmt: skip
        said.append(f"; {GENE_SCORED}: {', '.join(each)}" if each else "")
    return said


def finer_share(
    section: StoredPrediction, columns: npt.NDArray[np.intp], side_um: float
) -> npt.NDArray[np.float64]:
    """(k,) deviation of a map inside squares of that side, over its deviation in all; NaN where it does not vary."""
    corner = np.floor(section.xy_px0 * section.mpp / side_um).astype(np.int64)
    _, square = np.unique(corner, axis=0, return_inverse=True)
    square = square.ravel()
    found = np.full(len(columns), np.nan)
    for k, column in enumerate(columns.tolist()):
        values = section.composition[:, column].astype(np.float64)
        known = np.isfinite(values)
        values, at = values[known], square[known]
        if len(values) == 0 or values.std() == 0:
            continue
        count = np.maximum(np.bincount(at), 1)
        inside = values - (np.bincount(at, values) / count)[at]
        found[k] = np.sqrt(np.mean(inside**2)) / values.std()
    return found
