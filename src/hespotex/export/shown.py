"""What of a prediction is shown in pictures and files: composition, or log1p(CPM) on request; pure.

One place for its values, unit, colours, limits and the sentence that explains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.measured_composition import measured_composition
from hespotex.export.scales import COMPOSITION_COLOURS, EXPRESSION_COLOURS, Scale, robust_limits

if TYPE_CHECKING:
    from scipy import sparse

    from hespotex.export.h5ad import StoredPrediction

Show = Literal["composition", "log1p"]
SHOWN: Final[tuple[Show, ...]] = ("composition", "log1p")

Floats = npt.NDArray[np.floating[Any]]

COMPOSITION_IS: Final = (
    "Composition is a gene's part of all counts of a spot, as natural log ratio to its part in the training sections: "
    "0 is as there, 0.69 twice as much, −0.69 half."
)
MEASURED_IS: Final = (
    "Measured composition is made of the spot's own counts, drawn to 0 by what counting noise explains; its mean over the "
    "section is set to the prediction's, since the level of a whole section is not compared."
)
LOG1P_IS: Final = (
    "log1p(CPM) is the natural log of 1 + counts per million over the model's genes; it rises with the number of "
    "molecules that a spot caught, in nearly every gene."
)
_IS: Final = {"composition": COMPOSITION_IS, "log1p": LOG1P_IS}
_UNIT: Final = {"composition": keys.UNIT_COMPOSITION, "log1p": keys.UNIT_LOG1P}
_LABEL: Final = {"composition": "composition", "log1p": "log1p(CPM)"}
# Ends of the scale: few, so that slides and genes share them; a gene that hardly varies stays pale.
_ENDS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
_QUANTILE: Final = 0.95


def shown_values(section: StoredPrediction, show: Show = "composition") -> npt.NDArray[np.float32]:
    """(n, G) what is shown of a prediction.

    Raises:
        RunError: log1p is asked for of a prediction that holds composition alone.
    """
    if show == "composition":
        return section.composition
    if section.log1p is None:
        raise RunError(
            expected=f"log1p(CPM) in the prediction of {section.section_id}",
            found="composition alone",
            remedy="predict again with --layers all",
        )
    return section.log1p


def unit(show: Show) -> str:
    """The unit in words, as metadata state it."""
    return _UNIT[show]


def label(show: Show) -> str:
    """What stands at a colour scale or behind the name of a gene."""
    return _LABEL[show]


def explained(show: Show) -> str:
    """One sentence on how to read it."""
    return _IS[show]


def composition_end(tables: Sequence[Floats]) -> float:
    """The end of a colour scale, from -end to end, that holds nearly all of these values."""
    values = np.concatenate([np.abs(np.asarray(t, dtype=np.float64)).ravel() for t in tables])
    values = values[np.isfinite(values)]
    return _end(float(np.quantile(values, _QUANTILE)) if len(values) else 0.0)


def composition_ends(table: Floats) -> npt.NDArray[np.float64]:
    """(g,) the same for each column of (n, g)."""
    size = np.abs(np.asarray(table, dtype=np.float64))
    known = np.isfinite(size)
    ends = [
        np.quantile(column[k], _QUANTILE) if k.any() else 0.0
        for column, k in zip(size.T, known.T, strict=True)
    ]
    return np.array([_end(float(end)) for end in ends], dtype=np.float64)


def scale_of(show: Show, tables: Sequence[Floats]) -> Scale:
    """The scale that these values have in common."""
    if show == "log1p":
        return Scale(EXPRESSION_COLOURS, robust_limits(tables))
    end = composition_end(tables)
    return Scale(COMPOSITION_COLOURS, (-end, end), (-end, 0.0, end))


def _end(value: float) -> float:
    return next((end for end in _ENDS if value <= end), _ENDS[-1])


def measured_beside(section: StoredPrediction, columns: npt.NDArray[np.intp]) -> Floats:
    """(n, g) measured composition to be drawn beside the predicted one; NaN where a gene was not measured.

    Its mean over the spots is that of the prediction: what is compared is the map, not the section's level.

    Raises:
        ValueError: the section has no measured values.
    """
    if section.measured is None or section.measured_counts is None:
        raise ValueError(f"section {section.section_id}: expected measured values, found none")
    values = measured_composition(with_rest(section), columns)
    predicted = np.asarray(section.composition[:, columns], dtype=np.float64)
    known = np.isfinite(predicted)
    values += np.where(known, predicted, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    values[np.isnan(section.measured[:, columns])] = np.nan
    return values


def with_rest(section: StoredPrediction) -> sparse.csr_matrix:
    """(n, G + 1) measured counts and, last, those of panel genes that were not written: parts are of the whole."""
    from scipy import sparse

    from hespotex.genes.panel import spot_totals

    counts = sparse.csr_matrix(section.measured_counts)
    if section.measured_depth is None:
        return counts
    rest = np.maximum(section.measured_depth - spot_totals(counts), 0)
    return sparse.hstack([counts, sparse.csr_matrix(rest[:, None])], format="csr")
