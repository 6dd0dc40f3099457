"""What attention is held against: plain baselines on the same folds, and the site; pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.analysis.localize.bags import Bags, Ints
from hespotex.analysis.localize.evidence import (
    Scores,
    auroc,
    patient_labels,
    patient_margins,
    scores,
)
from hespotex.analysis.localize.reduce import Reduced
from hespotex.errors import shorten

Floats = npt.NDArray[np.float32]

MEAN: Final = "mean of all spots, logistic regression"
GENE: Final = "single most different gene"
AREA: Final = "tissue area"
DEPTH: Final = "predicted depth"


def baselines(
    reduced: Reduced, composition: Floats, log_depth: npt.NDArray[np.float64]
) -> dict[str, Scores]:
    """Patients told apart without looking for spots, on the folds of the attention.

    Args:
        reduced: of the input whose attention is reported.
        composition: (B, G) mean of each slide.
        log_depth: (N,) of all spots; NaN leaves that baseline out.
    """
    bags, folds = reduced.bags, reduced.folds
    depth = _slide_means(log_depth[:, None], bags.starts)
    area = np.log(np.diff(bags.starts))[:, None].astype(np.float64)
    found: dict[str, npt.NDArray[np.float64]] = {MEAN: np.zeros((len(folds), len(bags.classes)))}
    for name in (GENE, AREA, *([DEPTH] if np.isfinite(depth).all() else [])):
        found[name] = np.zeros_like(found[MEAN])
    for fold in range(int(folds.max()) + 1):
        train = folds != fold
        means = _slide_means(reduced.read(fold, "spots"), bags.starts)
        gene = _most_different(composition[train], bags.labels[train])
        columns: dict[str, npt.NDArray[np.floating]] = {
            MEAN: means,
            GENE: composition[:, [gene]],
            AREA: area,
            DEPTH: depth,
        }
        for name, margin in found.items():
            margin[~train] = _logistic(columns[name], bags.labels, train)
    true = patient_labels(bags, bags.labels)
    return {
        name: scores(patient_margins(bags, m.astype(np.float32)), true) for name, m in found.items()
    }


def site_sentence(bags: Bags, *, draws: int = 4_999, seed: int = 0) -> tuple[str, bool]:
    """A line if the diagnosis and the site go together, and whether they say the same; empty where neither shows."""
    of = {s.patient_id: (s.label, s.site) for s in bags.slides}
    sites = sorted({site for _, site in of.values()})
    if len(sites) < 2:
        return "", False
    table = np.zeros((len(bags.classes), len(sites)))
    for name, site in of.values():
        table[bags.classes.index(name), sites.index(site)] += 1
    if ((table > 0).sum(axis=0) == 1).all():
        return (
            "Each site has patients of one diagnosis alone: diagnosis and site say the same, and nothing here can tell "
            "them apart. What is found may be the site's stain or scanner.",
            True,
        )
    labels = np.array([bags.classes.index(name) for name, _ in of.values()])
    place = np.array([sites.index(site) for _, site in of.values()])
    rng, reached = np.random.default_rng([seed, 5]), 0
    seen = _chi2(labels, place)
    for _ in range(draws):
        reached += _chi2(rng.permutation(labels), place) >= seen - 1e-12
    p = (1 + reached) / (1 + draws)
    if p > 0.05:
        return "", False
    return (
        f"Diagnosis and site go together (p = {p:.2g} by permuting patients): part of what is found may be the site's stain "
        "or scanner.",
        False,
    )


def site_folds(bags: Bags) -> tuple[Ints | None, str]:
    """(B,) one fold a site; None where that cannot be, and a line that says why unless there is one site alone."""
    sites = sorted({s.site for s in bags.slides})
    if len(sites) < 2:
        return None, ""
    of: dict[str, set[str]] = {}
    for slide in bags.slides:
        of.setdefault(slide.patient_id, set()).add(slide.site)
    if both := sorted(name for name, places in of.items() if len(places) > 1):
        return None, (
            f"Folds by site were not made: {shorten(both, 3)} would lie on both sides, with slides of several sites."
        )
    folds = np.array([sites.index(s.site) for s in bags.slides], dtype=np.intp)
    for site in sites:
        if lacking := sorted(set(bags.classes) - {s.label for s in bags.slides if s.site != site}):
            return (
                None,
                f"Folds by site were not made: only {site} has patients of {shorten(lacking, 3)}.",
            )
    return folds, ""


def map_auroc(values: Floats, inside: npt.NDArray[np.bool_]) -> float:
    """AUROC of spots' values for lying inside an outline; NaN where all or none do."""
    return auroc(np.stack([-values, values], axis=1), inside.astype(np.intp))


def _slide_means(values: npt.NDArray[np.floating], starts: Ints) -> npt.NDArray[np.float64]:
    total = np.add.reduceat(values.astype(np.float64), starts[:-1], axis=0)
    return np.asarray(total / np.diff(starts)[:, None])


def _most_different(values: Floats, labels: Ints) -> int:
    """The column whose AUROC is farthest from a half for any class."""
    from scipy.stats import rankdata

    ranks, n = rankdata(values, axis=0), len(labels)
    best = np.zeros(values.shape[1])
    for c in np.unique(labels):
        own = labels == c
        k = int(own.sum())
        above = (ranks[own].sum(axis=0) - k * (k + 1) / 2) / (k * (n - k))
        best = np.maximum(best, np.abs(above - 0.5))
    return int(best.argmax())


def _logistic(
    values: npt.NDArray[np.floating], labels: Ints, train: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1_000)
    )
    model.fit(values[train], labels[train])
    return np.asarray(np.log(np.maximum(model.predict_proba(values[~train]), 1e-12)))


def _chi2(labels: Ints, place: Ints) -> float:
    table = np.zeros((int(labels.max()) + 1, int(place.max()) + 1))
    np.add.at(table, (labels, place), 1)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(((table - expected) ** 2 / np.maximum(expected, 1e-12)).sum())
