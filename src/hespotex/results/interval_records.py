"""Records of intervals on held-out sections: coverage by section, and stated beside seen coverage over sections; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr

from hespotex.evaluation.evidence import FDR
from hespotex.evaluation.held_out import HeldOut
from hespotex.evaluation.regions import MOST_REGIONS
from hespotex.evaluation.spatial_null import benjamini_hochberg
from hespotex.evaluation.trust import bundle_trust
from hespotex.models.bundle import Bundle
from hespotex.storage.metrics import Coverage, SectionRecord, Spread

_WHERE = ((True, "same patient in training"), (False, "other patient"))


def log1p_coverage(held: HeldOut, bundle: Bundle) -> dict[str, float]:
    """Share of measured values inside the interval, mean over measured genes with a bound, by nominal level."""
    trust = bundle_trust(bundle)
    if held.coverage is None or trust.intervals is None:
        return {}
    found = {}
    for level, row in zip(trust.intervals.levels, held.coverage, strict=True):
        known = row[held.counts.measured & np.isfinite(row)]
        if len(known):
            found[f"{level:g}"] = float(known.mean())
    return found


def composition_coverage(held: HeldOut, bundle: Bundle) -> dict[str, dict[str, float]]:
    """Share of measured counts inside the interval of composition, by spots of a region and nominal level."""
    intervals = bundle_trust(bundle).regions
    if held.region_coverage is None or intervals is None:
        return {}
    return {
        str(size): {
            f"{level:g}": float(share)
            for level, share in zip(intervals.levels, shares, strict=True)
        }
        for size, shares in zip(intervals.sizes, held.region_coverage, strict=True)
        if np.isfinite(shares).all()
    }


def spread_record(held: HeldOut) -> Spread:
    """Spearman of the ensemble's spread with the error: median over genes, and genes above and below 0 at FDR 5 %.

    Spots are taken as independent, so both counts are too high where neighbours err alike; genes above say something
    where they are more than those below.
    """
    if held.spread_spearman is None:
        return Spread()
    rho = held.spread_spearman[np.isfinite(held.spread_spearman)]
    if not len(rho):
        return Spread()
    # Standard error of Spearman on Fisher's scale: Fieller et al. 1957, doi 10.1093/biomet/44.3-4.470.
    n_spots = min(held.item.section.n_spots, MOST_REGIONS)
    z = np.arctanh(np.clip(rho, -0.999, 0.999)) * np.sqrt(max(n_spots - 3, 1) / 1.06)
    known = np.ones(len(rho), bool)
    above, below = (int((benjamini_hochberg(ndtr(-s * z), known) <= FDR).sum()) for s in (1, -1))
    return Spread(median=float(np.median(rho)), n_genes=len(rho), n_above=above, n_below=below)


def calibration(sections: Sequence[SectionRecord]) -> list[Coverage]:
    """Nominal coverage of log1p beside the coverage seen, for patients in training and for others."""
    return [
        Coverage(**row, where=where)
        for inside, where in _WHERE
        for row in _stated_and_seen(
            [s.coverage for s in sections if s.patient_in_training == inside]
        )
    ]


def region_calibration(sections: Sequence[SectionRecord]) -> list[Coverage]:
    """The same of composition, by size of region."""
    rows = []
    for inside, where in _WHERE:
        seen = [s.region_coverage for s in sections if s.patient_in_training == inside]
        for size in sorted({size for s in seen for size in s}, key=int):
            of_size = [s.get(size, {}) for s in seen]
            rows += [
                Coverage(spots=int(size), **row, where=where) for row in _stated_and_seen(of_size)
            ]
    return rows


def _stated_and_seen(seen: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Mean, lowest and highest section by level; sections without intervals say nothing."""
    rows = []
    for level in sorted({level for s in seen for level in s}, key=float):
        shares = [s[level] for s in seen if level in s]
        rows.append(
            {
                "nominal": float(level),
                "observed": float(np.mean(shares)),
                "lowest": min(shares),
                "highest": max(shares),
                "n_sections": len(shares),
            }
        )
    return rows
