"""What is different in the drawn spots: genes and sets by patient, paired, against maps of permuted diagnoses; pure.

Composition drew the map, or comes from the same features, so a gene differs there as a matter of course. The null is therefore
what the same procedure's maps of permuted diagnoses underline: as many spots of each slide, by their own z.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import false_discovery_control

from hespotex.analysis.localize.bags import Bags
from hespotex.analysis.localize.evidence import SpotMap

Floats = npt.NDArray[np.float64]
# Grade by gene, or by set.
Names = Mapping[str, str]


def differing(
    bags: Bags, names: Names, found: SpotMap, log_depth: Floats, *, of: str = "gene"
) -> pd.DataFrame:
    """Predicted composition of drawn spots less the rest of their slide: mean over patients of each diagnosis.

    Args:
        bags: with composition of genes or of sets as values, (N, G).
        names: of its columns, with a grade each.
        found: the map; slides on which nothing or everything is drawn have no part, and flagged spots neither.
        log_depth: (N,) predicted; a slope on it inside each slide is taken out for `without_depth`.
        of: name of the column of names.

    Returns:
        one row a diagnosis and name, by p: `label`, `gene`, `grade`, `difference`, `without_depth` (the difference that is
        left), `explained_by_depth` (the part that is gone; below 0 where the difference grew), `n_patients`, `p_value`
        against maps of permuted diagnoses, `q_value` inside the diagnosis.
    """
    columns = ["label", of, "grade", "difference", "without_depth", "explained_by_depth", "n_patients", "p_value", "q_value"]  # fmt: skip
    tables = []
    for c, label in enumerate(bags.classes):
        by_patient: dict[str, list[tuple[Floats, Floats]]] = {}
        for slide, both in _slides(bags, found, log_depth, c):
            by_patient.setdefault(bags.slides[slide].patient_id, []).append(both)
        if len(by_patient) < 2:
            continue
        own, left = (
            np.mean([np.mean([b[k] for b in mine], axis=0) for mine in by_patient.values()], axis=0)
            for k in (0, 1)
        )
        true, chance = own[0], own[1:]
        p = (1 + (np.abs(chance) >= np.abs(true) - 1e-12).sum(axis=0)) / (1 + len(chance))
        gone = 1 - left / np.where(np.abs(true) < 1e-12, np.nan, true)
        cells = (label, list(names), list(names.values()), true, left, gone, len(by_patient), p, false_discovery_control(p))  # fmt: skip
        tables.append(pd.DataFrame(dict(zip(columns, cells, strict=True))))
    if not tables:
        return pd.DataFrame(columns=columns)
    table = pd.concat(tables, ignore_index=True)
    order = np.lexsort([-table["difference"].abs(), table["p_value"]])
    return table.iloc[order].reset_index(drop=True)


def _slides(
    bags: Bags, found: SpotMap, log_depth: Floats, label: int
) -> Iterator[tuple[int, tuple[Floats, Floats]]]:
    """Of each slide of a diagnosis: (1 + b, G) differences of the true map and of each permutation's, and (G,) without depth."""
    for slide in np.flatnonzero(bags.labels == label).tolist():
        start, stop = bags.starts[slide], bags.starts[slide + 1]
        # Nothing is said of flagged spots: they are neither drawn nor the rest, by no map.
        inside = np.flatnonzero(found.usable[start:stop])
        rows = start + inside
        shown = found.shown[rows]
        n, k = len(shown), int(shown.sum())
        if not 0 < k < n:
            continue
        drawn = np.zeros((1 + len(found.z_permuted), n))
        drawn[0] = shown
        top = np.argsort(-found.z_permuted[:, rows], axis=1, kind="stable")[:, :k]
        np.put_along_axis(drawn[1:], top, 1.0, axis=1)
        contrast = drawn / k - (1 - drawn) / (n - k)
        values = bags.read(slide)[inside].astype(np.float64)
        yield slide, (contrast @ values, contrast[0] @ _without(values, log_depth[rows]))


def _without(values: Floats, log_depth: Floats) -> Floats:
    """(n, G) what a line on log depth leaves; NaN where depth is not known."""
    centred = log_depth - log_depth.mean()
    square = float(centred @ centred)
    if square < 1e-12:
        return values
    return np.asarray(values - np.outer(centred, centred @ values / square))
