"""Rows of a cohort: what is known of slides and patients, and the values of several slides joined; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.patient_ids import preparation_of
from hespotex.analysis.slide_summary import SlideSummary
from hespotex.evaluation.claims import is_unlike

Floats = npt.NDArray[np.float64]

# Layers of cohort.h5ad beside X; those of gene sets, which are in obsm under names of their own.
MEAN, SPREAD, ABOVE, MORAN = keys.COMPOSITION, "spread", "above_upper_quartile", "morans_i"
LAYERS = (MEAN, SPREAD, ABOVE, MORAN, keys.LOWER, keys.UPPER, keys.RIDGE)
SETS = tuple(
    keys.GENE_SETS + part for part in ("", *(f"_{n}" for n in (SPREAD, ABOVE, MORAN, keys.LOWER, keys.UPPER)))
)  # fmt: skip


def slide_obs(known: Sequence[Mapping[str, float | str]]) -> pd.DataFrame:
    """One row a slide, by its id."""
    obs = pd.DataFrame(list(known))
    obs["verdict"] = obs["verdict"].astype(str)
    obs["unlike"] = [is_unlike(v or None) for v in obs["verdict"]]
    obs["preparation"] = [preparation_of(name) for name in obs[keys.SECTION_ID]]
    obs.index = pd.Index(obs[keys.SECTION_ID].astype(str).to_numpy(), dtype=object)
    return obs


def slides_of_patient(every: pd.DataFrame) -> pd.DataFrame:
    """The slides that make a patient's row: those like the training's, where there are such; of these no frozen one beside FFPE."""
    like = every[~every["unlike"]]
    own = like if len(like) else every
    frozen = own["preparation"] == "frozen"
    return own[~frozen] if (own["preparation"] == "FFPE").any() else own


def patient_rows(obs: pd.DataFrame) -> pd.DataFrame:
    """One row a patient: sums, means over spots, and every column that is the same on all slides of the patient.

    Slides that are unlike the training's count only where the patient has no other; the row then says so. Frozen slides do
    not count beside FFPE ones.
    """
    rows = []
    for patient, every in obs.groupby(keys.PATIENT_ID, sort=False):
        own = slides_of_patient(every)
        spots, depth = own["n_used"].to_numpy(float), own[keys.PREDICTED_DEPTH].to_numpy(float)
        row: dict[str, object] = {
            keys.PATIENT_ID: patient,
            "slides": " ".join(own[keys.SECTION_ID].astype(str)),
            "n_slides": len(own),
            "n_unlike_slides": int(every["unlike"].sum()),
            "n_spots": int(own["n_spots"].sum()),
            "n_used": int(own["n_used"].sum()),
            "flagged": float(np.average(own["flagged"], weights=own["n_spots"])),
            "verdict": "; ".join(dict.fromkeys(v for v in own["verdict"] if v)),
            "unlike": bool(own["unlike"].all()),
            "tissue_mm2": float(own["tissue_mm2"].sum(skipna=False)),
            keys.PREDICTED_DEPTH: float(np.average(depth, weights=spots)),
        }
        for name in own.columns:
            if name in row or name == keys.SECTION_ID:
                continue
            values = own[name].dropna().unique().tolist()
            row[str(name)] = values[0] if len(values) == 1 else None
        rows.append(row)
    table = pd.DataFrame(rows)
    table.index = pd.Index(table[keys.PATIENT_ID].astype(str).to_numpy(), dtype=object)
    return table


@dataclass(frozen=True)
class RowValues:
    """Values of one row over all genes and sets of the cohort; NaN where no slide holds a gene.

    Attributes:
        x: (G,) log1p(CPM) of the pseudobulk.
        layers: (G,) each of `LAYERS`.
        sets: (K,) each of `SETS`; the first is the composition of the pseudobulk.
    """

    x: Floats
    layers: Mapping[str, Floats]
    sets: Mapping[str, Floats]


def joined_row(
    slides: Sequence[SlideSummary], genes: Mapping[str, int], sets: Mapping[str, int]
) -> RowValues:
    """Slides of one row as one: shares weigh by predicted depth and number of spots, the others by number of spots.

    The training's part of a set is the same for all slides, so ratios to it are averaged as shares are.
    """
    spots = np.array([s.n_used for s in slides], dtype=np.float64)
    depth = np.array([s.depth for s in slides])
    counts = spots * depth if np.isfinite(depth).all() else spots

    def mean(name: str, weight: Floats = spots, change: Any = np.asarray) -> Floats:
        of, places = ("sets", sets) if name.startswith("set_") else ("genes", genes)
        total, sum_of = np.zeros(len(places)), np.zeros(len(places))
        for slide, w in zip(slides, weight, strict=True):
            at = [places[g] for g in getattr(slide, of).tolist()]
            values = change(getattr(slide, name))
            known = np.isfinite(values)
            total[at] += np.where(known, w * values, 0)
            sum_of[at] += w * known
        return np.asarray(
            np.divide(total, sum_of, out=np.full(len(places), np.nan), where=sum_of > 0)
        )

    share, width = mean("share", counts), mean("half_width")
    layers = {
        MEAN: mean("composition"),
        SPREAD: mean("spread"),
        ABOVE: mean("above"),
        MORAN: mean("moran"),
        keys.LOWER: np.log1p(1e6 * share * np.exp(-width)),
        keys.UPPER: np.log1p(1e6 * share * np.exp(width)),
        keys.RIDGE: np.log1p(1e6 * mean("pooled_share") * np.exp(mean("ridge"))),
    }
    bulk, set_width = np.log(mean("set_composition", counts, np.exp)), mean("set_half_width")
    of_sets = (
        bulk, mean("set_spread"), mean("set_above"), mean("set_moran"), bulk - set_width, bulk + set_width,
    )  # fmt: skip
    return RowValues(np.log1p(1e6 * share), layers, dict(zip(SETS, of_sets, strict=True)))
