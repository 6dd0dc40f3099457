"""What is different in the drawn spots: genes by patient, paired, against maps of permuted diagnoses; pure.

Composition drew the map, or comes from the same features, so a gene differs there as a matter of course. The null is therefore
what the same procedure's maps of permuted diagnoses underline: as many spots of each slide, by their own z.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import false_discovery_control

from hespotex.analysis.localize.bags import Bags
from hespotex.analysis.localize.evidence import SpotMap

Floats = npt.NDArray[np.float64]


def differing_genes(
    bags: Bags,
    genes: tuple[str, ...],
    grades: tuple[str, ...],
    found: SpotMap,
    log_depth: Floats,
) -> pd.DataFrame:
    """Predicted composition of drawn spots less the rest of their slide: mean over patients of each diagnosis.

    Args:
        bags: with composition as values, (N, G).
        genes, grades: (G,) of its columns.
        found: the map; slides on which nothing or everything is drawn have no part.
        log_depth: (N,) predicted; a slope on it inside each slide is taken out for `without_depth`.

    Returns:
        one row a diagnosis and gene, by p: `label`, `gene`, `grade`, `difference`, `without_depth` (the difference that is
        left), `n_patients`, `p_value` against maps of permuted diagnoses, `q_value` inside the diagnosis.
    """
    tables = []
    for c, label in enumerate(bags.classes):
        by_patient: dict[str, list[tuple[Floats, Floats]]] = {}
        for slide, both in _slides(bags, found, log_depth, c):
            by_patient.setdefault(bags.slides[slide].patient_id, []).append(both)
        if len(by_patient) < 2:
            continue
        own = np.mean([np.mean([b[0] for b in of], axis=0) for of in by_patient.values()], axis=0)
        left = np.mean([np.mean([b[1] for b in of], axis=0) for of in by_patient.values()], axis=0)
        true, chance = own[0], own[1:]
        p = (1 + (np.abs(chance) >= np.abs(true) - 1e-12).sum(axis=0)) / (1 + len(chance))
        tables.append(
            pd.DataFrame(
                {
                    "label": label,
                    "gene": genes,
                    "grade": grades,
                    "difference": true,
                    "without_depth": left,
                    "n_patients": len(by_patient),
                    "p_value": p,
                    "q_value": false_discovery_control(p),
                }
            )
        )
    if not tables:
        return pd.DataFrame(
            columns=["label", "gene", "grade", "difference", "without_depth", "n_patients", "p_value", "q_value"]
        )  # fmt: skip
    table = pd.concat(tables, ignore_index=True)
    order = np.lexsort([-table["difference"].abs(), table["p_value"]])
    return table.iloc[order].reset_index(drop=True)


def _slides(
    bags: Bags, found: SpotMap, log_depth: Floats, label: int
) -> Iterator[tuple[int, tuple[Floats, Floats]]]:
    """Of each slide of a diagnosis: (1 + b, G) differences of the true map and of each permutation's, and (G,) without depth."""
    for slide in np.flatnonzero(bags.labels == label).tolist():
        rows = slice(int(bags.starts[slide]), int(bags.starts[slide + 1]))
        shown = found.shown[rows]
        n, k = len(shown), int(shown.sum())
        if not 0 < k < n:
            continue
        drawn = np.zeros((1 + len(found.z_permuted), n))
        drawn[0] = shown
        top = np.argsort(-found.z_permuted[:, rows], axis=1, kind="stable")[:, :k]
        np.put_along_axis(drawn[1:], top, 1.0, axis=1)
        contrast = drawn / k - (1 - drawn) / (n - k)
        values = bags.read(slide).astype(np.float64)
        yield slide, (contrast @ values, contrast[0] @ _without(values, log_depth[rows]))


def _without(values: Floats, log_depth: Floats) -> Floats:
    """(n, G) what a line on log depth leaves; NaN where depth is not known."""
    centred = log_depth - log_depth.mean()
    square = float(centred @ centred)
    if square < 1e-12:
        return values
    return np.asarray(values - np.outer(centred, centred @ values / square))
