"""Which squares to fit on: models of bins of 16 um summed into squares of 16 to 128 um, by counts of a bin, against the painted truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.fine_sections import PITCH_UM, bins_of
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from benchmarks.synthetic import gaussian_squares

NAME = "fine_sides"
SIDES_UM = (16.0, 32.0, 64.0, 128.0)
TRUTH_UM = (16.0, 64.0)
# Of the totals of a painted spot: a median of about 7, 30 and 120 counts a bin.
DEPTHS = (0.015, 0.06, 0.25)
_SIDE_UM, _GENES, _DIM = 1600.0, 300, 32
_PATCHES_UM = (112.0, 224.0)
# What features say beside tissue: smooth, since neighbouring patches overlap.
_NOISE, _NOISE_REACH = 0.5, 5.0


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    seeds = 3 if context.full else 1
    return {f"depth {d:g}": {"depth": d, "seeds": seeds} for d in DEPTHS}


def run(parameters: Mapping[str, Any], _context: Context) -> dict[str, Any]:
    with timed() as spent:
        found = [_once(seed, parameters["depth"]) for seed in range(parameters["seeds"])]
    return {
        "counts": float(np.mean([f["counts"] for f in found])),
        "pcc": {
            f"{side:g}": {
                f"{at:g}": float(np.mean([f[side][at] for f in found])) for at in TRUTH_UM
            }
            for side in SIDES_UM
        },
        "seeds": len(found),
        **spent.as_dict(),
    }


def _once(seed: int, depth: float) -> dict[Any, Any]:
    """Median counts of a bin, and for each side the PCC with the truth at each size; the third patient is left out."""
    from hespotex.config import RunConfig
    from hespotex.datasets import PaintedPatient, PaintedPlan
    from hespotex.models.fit import fit_bundle
    from hespotex.models.predict import predict_section
    from hespotex.models.types import Cohort, EncodedSection, EncoderRecord
    from hespotex.sections.fine import fitted_squares, own_squares

    plan = PaintedPlan(
        seed=seed,
        patients=tuple(PaintedPatient(f"P{k + 1}") for k in range(3)),
        sections_per_patient=1,
        n_genes=_GENES,
        lattice="square",
        side_um=_SIDE_UM,
    )
    painted = [plan.section(k, 0, picture=False) for k in range(3)]
    bins = [_bins(p, k, depth) for k, p in enumerate(painted)]
    features = [
        _features(p, k, b.xy_um, plan) for k, (p, b) in enumerate(zip(painted, bins, strict=True))
    ]
    record = EncoderRecord("simulated", "simulated", _DIM, 224, (0.5,) * 3, (0.5,) * 3)
    config = RunConfig.from_values({"model": {"ensemble": 1}, "panel": {"min_spot_fraction": 0}})
    found: dict[Any, Any] = {"counts": float(np.median(np.asarray(bins[2].counts.sum(axis=1))))}
    for side in SIDES_UM:
        items = []
        for section, values in zip(bins, features, strict=True):
            squares = fitted_squares(section, side)
            # Patches lie around the centre of a square, so its features are those of a bin there.
            items.append(
                EncodedSection(squares, values[cKDTree(section.xy_um).query(squares.xy_um)[1]])
            )
        cohort = Cohort(tuple(items), record, _PATCHES_UM)
        bundle = fit_bundle(replace(cohort, items=tuple(items[:2])), config)
        own = own_squares(items[2].section)
        values = predict_section(bundle, items[2].without_expression()).composition
        kept = own.member >= 0
        at_bins = values[own.member[kept]]
        found[side] = {
            at: _against_truth(painted[2], bundle.genes, bins[2].xy_um[kept], at_bins, at)
            for at in TRUTH_UM
        }
    return found


def _bins(painted: Any, patient: int, depth: float) -> Any:
    """The bins of a painted section that hold a count."""
    from hespotex.datasets.simulated import as_section
    from hespotex.geometry import Geometry

    xy_um, rng = bins_of(_SIDE_UM), np.random.default_rng([7, patient])
    counts = painted.truth.draw_counts(rng, xy_um, diameter_um=PITCH_UM, depth_factor=depth)
    seen = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() > 0)
    place = np.floor(xy_um[seen] / PITCH_UM)
    section = as_section(painted)
    mpp = section.geometry.mpp
    return replace(
        section,
        geometry=Geometry(mpp, PITCH_UM, PITCH_UM),
        barcodes=np.array([f"{x:.0f}x{y:.0f}" for x, y in place]),
        xy_px0=xy_um[seen] / mpp,
        counts=counts[seen].astype(np.float32),
        array_xy=place,
    )


def _features(painted: Any, patient: int, xy_um: np.ndarray, plan: Any) -> np.ndarray:
    """(n, 2, D) linear readings of the tissue in discs as wide as the patches, and smooth noise."""
    from hespotex.datasets.expression import tissue_under_spots

    kinds = painted.arrays.area.shape[1]
    reading = np.random.default_rng([plan.seed, 1]).normal(size=(len(_PATCHES_UM), 2 * kinds, _DIM))
    rng = np.random.default_rng([plan.seed, 2, patient])
    n_side = round(_SIDE_UM / PITCH_UM)
    noise = gaussian_squares(n_side, _NOISE_REACH, len(_PATCHES_UM) * _DIM, rng)
    row = np.ravel_multi_index(np.floor(xy_um[:, ::-1] / PITCH_UM).astype(int).T, (n_side, n_side))
    found = _NOISE * noise[row].reshape(-1, len(_PATCHES_UM), _DIM)
    for number, side in enumerate(_PATCHES_UM):
        area, nuclei = tissue_under_spots(painted.truth.scene, xy_um, side, kinds=kinds)
        # 4,000 nuclei a mm2 count as much as a patch full of one tissue.
        density = nuclei / (np.pi * (side / 2) ** 2 * 4e-3)
        found[:, number] += np.hstack([area, density]) @ reading[number]
    return found.astype(np.float32)


def _against_truth(
    painted: Any, genes: Sequence[str], xy_um: np.ndarray, values: np.ndarray, size: float
) -> float:
    """Mean PCC over the genes that the image tells, in squares of this size; their truth is that of a disc."""
    from hespotex.evaluation.scores import mean_present, pcc_per_gene

    known = {name: k for k, name in enumerate(painted.truth.genes.genes.tolist())}
    columns = np.array([known[name] for name in genes])
    corner, member = np.unique(np.floor(xy_um / size), axis=0, return_inverse=True)
    share = painted.truth.at((corner + 0.5) * size, size).share[:, columns]
    count = np.bincount(member.ravel())
    mean = np.zeros((len(corner), len(genes)))
    np.add.at(mean, member.ravel(), values)
    tissue = np.isfinite(share).all(axis=1)
    pcc = pcc_per_gene((mean / count[:, None])[tissue], np.log(np.maximum(share[tissue], 1e-12)))
    return float(mean_present(pcc[painted.truth.genes.predictable[columns]]))


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    for at in TRUTH_UM:
        for r in found.values():
            by_side = {side: r["pcc"][f"{side:g}"][f"{at:g}"] for side in SIDES_UM}
            rows.append(
                Row(
                    f"truth in squares of {at:g} um, {r['counts']:.0f} counts a bin of 16 um",
                    " / ".join(f"{value:.3f}" for value in by_side.values()),
                    " / ".join(f"{r['counts'] * (side / PITCH_UM) ** 2:,.0f}" for side in SIDES_UM),
                )
            )
    sides = " / ".join(f"{side:g}" for side in SIDES_UM)
    return [
        Table(
            f"Models fitted on squares of {sides} um",
            ("what", "PCC with the truth", "counts of a square", ""),
            tuple(rows),
            (
                "Painted sections of three patients, simulated features, the third left out; mean PCC of composition over "
                "the genes that the image tells, the map of each model being that of its own squares.",
            ),
        )
    ]
