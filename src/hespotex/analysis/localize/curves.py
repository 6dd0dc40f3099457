"""Deletion and insertion: what slides still say when the spots of a map are taken away, and when they alone are there; pure.

Attention and margins of the fit without the slide's patient say both exactly, as in necessity and sufficiency.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.analysis.localize.bags import Bags, Ints
from hespotex.analysis.localize.nested import Passed

Floats = npt.NDArray[np.floating]

MAP: Final = "the map"
ATTENTION: Final = "attention alone"
CHANCE: Final = "chance"
PARTS: Final = np.linspace(0.0, 1.0, 21)
_DRAWS: Final = 5


def curves(
    bags: Bags, near: sparse.csr_matrix, passed: Passed, z: Floats, *, seed: int = 0
) -> pd.DataFrame:
    """Log odds of slides towards their diagnosis, less those of tissue that speaks for none: mean over patients.

    Groups of neighbours go one after another, the highest first: by z of the map, by attention, by chance (mean of 5 orders).

    Args:
        near: (N, N) groups, from `Bags.neighbours`.
        passed: of the true labels.
        z: (N,) of the map.

    Returns:
        one row a diagnosis, order and part of the spots: `label`, `order`, `part`, `deletion` (these spots replaced by
        tissue that speaks for no diagnosis), `insertion` (these spots alone).
    """
    rng, starts = np.random.default_rng([seed, 6]), bags.starts
    attention, speaks = passed.attention[0].astype(np.float64), passed.speaks[0]
    found: dict[tuple[str, str], dict[str, list[Floats]]] = {}
    for slide, bag in enumerate(bags.slides):
        rows = slice(int(starts[slide]), int(starts[slide + 1]))
        groups, weight = near[rows, rows], attention[rows]
        scores = [(MAP, z[rows]), (ATTENTION, weight)]
        scores += [(CHANCE, rng.random(bag.n_spots)) for _ in range(_DRAWS)]
        for name, score in scores:
            both = _followed(by_groups(score, groups), weight, speaks[rows])
            of = found.setdefault((bag.label, name), {})
            of.setdefault(bag.patient_id, []).append(both)
    tables = []
    for (label, name), of in found.items():
        gone, there = np.mean([np.mean(mine, axis=0) for mine in of.values()], axis=0)
        tables.append(
            pd.DataFrame(
                {"label": label, "order": name, "part": PARTS, "deletion": gone, "insertion": there}
            )
        )
    return pd.concat(tables, ignore_index=True)


def by_groups(score: Floats, near: sparse.csr_matrix) -> Ints:
    """(n,) spots in the order in which their groups come: the highest spot left, with what of its group is left."""
    taken, order = np.zeros(len(score), bool), []
    for spot in np.argsort(-score, kind="stable").tolist():
        if taken[spot]:
            continue
        group = near.indices[near.indptr[spot] : near.indptr[spot + 1]]
        left = [spot, *(k for k in group.tolist() if k != spot and not taken[k])]
        taken[left] = True
        order += left
    return np.array(order, dtype=np.intp)


def _followed(order: Ints, attention: Floats, speaks: Floats) -> Floats:
    """(2, parts) deletion and insertion of one slide."""
    weight = np.concatenate([[0.0], np.cumsum(attention[order])])
    said = np.concatenate([[0.0], np.cumsum(attention[order] * speaks[order])])
    at = np.round(PARTS * len(order)).astype(np.intp)
    alone = said[at] / np.maximum(weight[at], 1e-30)
    return np.stack([said[-1] - said[at], np.where(at == 0, 0.0, alone)])


def tenth_sentences(table: pd.DataFrame) -> list[str]:
    """What the first tenth of the spots does, map beside chance; one line a diagnosis."""
    words = []
    for label, own in table.groupby("label"):
        whole, first = own[own["part"] == 0], own[np.isclose(own["part"], 0.1)]
        all_of_it = float(whole["deletion"].iloc[0])
        of = {order: first[first["order"] == order].iloc[0] for order in (MAP, CHANCE)}
        lost = [all_of_it - float(row["deletion"]) for row in of.values()]
        alone = [float(row["insertion"]) for row in of.values()]
        words.append(
            f"{label}: the tenth of the spots that is highest on the map takes {lost[0]:.2f} of {all_of_it:.2f} log odds along "
            f"(a tenth by chance {lost[1]:.2f}), and says {alone[0]:.2f} alone (by chance {alone[1]:.2f}); mean over patients."
        )
    return words
