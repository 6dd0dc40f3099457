"""What a fine map says inside a measured spot, beside that spot's own prediction and its measurement.

python -m benchmarks.fine_in_spots MODEL MANIFEST SECTION --out FOLDER [--pitch-um 16] [--threads 1]

The slide of the section is predicted as a bare slide on a fine lattice, and the section at its own spots, by one model that
was not trained on it. Of every spot, the composition of the fine places inside its circle is averaged. Folders of earlier
calls are used again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

import hespotex
from hespotex.config import InputChoices, Machine
from hespotex.encoders import offline
from hespotex.evaluation.scores import pcc_per_gene
from hespotex.export.h5ad import StoredPrediction, read_prediction
from hespotex.export.shown import with_rest
from hespotex.genes.panel import pearson_residuals
from hespotex.models.bundle import read_model
from hespotex.predicting import SlideOptions
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section

# Cells of a patch, and how many places of a row or column a mean jump rests on at least.
_CELLS, _LEAST = 7, 40

Floats = npt.NDArray[np.float64]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("section")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pitch-um", type=float, default=16.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    spots, fine = predicted(given)
    if spots.measured_counts is None:
        raise SystemExit(f"expected measured values of {given.section}, found none")
    inside, within = means_inside(spots, fine)
    place = {gene: j for j, gene in enumerate(spots.genes.tolist())}
    columns = np.array([place[gene] for gene in fine.genes.tolist()], dtype=np.intp)
    own = spots.composition[:, columns].astype(np.float64)
    measured = pearson_residuals(with_rest(spots))[:, columns]
    kept = np.isfinite(inside).all(axis=1) & np.isfinite(own).all(axis=1)
    inside, own, measured = inside[kept], own[kept], measured[kept]
    print(
        f"{given.section}: {len(own)} measured spots, {len(fine.barcodes):,} places every {given.pitch_um:g} um"
    )
    print_table(fine.genes, inside, own, measured, within[kept])
    bundle = read_model(given.model)
    if bundle.config.encoder.reading == "area":
        print_seams(fine, given.pitch_um, bundle.sides_um)
    return 0


def predicted(given: argparse.Namespace) -> tuple[StoredPrediction, StoredPrediction]:
    """The section at its own spots, and its slide as a fine map."""
    (row,) = read_manifest(given.manifest, [given.section]).rows
    mpp = read_section(row, InputChoices()).geometry.mpp
    machine = Machine(device="cpu", threads=given.threads)
    at_spots, on_lattice = given.out / "spots", given.out / f"every-{given.pitch_um:g}-um"
    every = SlideOptions(all_genes=True, same_patient=True)
    hespotex.predict(
        given.model,
        given.manifest,
        at_spots,
        sections=[given.section],
        options=every,
        machine=machine,
    )
    fine = SlideOptions(
        mpp=mpp, pitch_um=given.pitch_um, all_genes=True, patient=row.patient_id, same_patient=True
    )
    if row.slide is None:
        raise SystemExit(f"expected a slide of {given.section}, found none")
    hespotex.predict(given.model, row.slide, on_lattice, options=fine, machine=machine)
    (path,) = (on_lattice / "predictions").glob("*.h5ad")
    return read_prediction(at_spots / "predictions" / f"{given.section}.h5ad"), read_prediction(
        path
    )


def means_inside(spots: StoredPrediction, fine: StoredPrediction) -> tuple[Floats, Floats]:
    """(n, g) mean and deviation of the fine map inside every spot; NaN where no place lies in it."""
    radius = spots.spot_diameter_um / spots.mpp / 2
    found = cKDTree(fine.xy_px0).query_ball_point(spots.xy_px0, radius)
    mean = np.full((len(found), len(fine.genes)), np.nan)
    deviation = mean.copy()
    for i, rows in enumerate(found):
        if rows:
            values = fine.composition[sorted(rows)].astype(np.float64)
            mean[i], deviation[i] = values.mean(axis=0), values.std(axis=0)
    return mean, deviation


def print_table(
    genes: npt.NDArray[np.str_], inside: Floats, own: Floats, measured: Floats, within: Floats
) -> None:
    """Means over genes, then the genes that are predicted best at spots."""
    scores = {
        "fine mean and own prediction": pcc_per_gene(inside, own),
        "own prediction and measured": pcc_per_gene(own, measured),
        "fine mean and measured": pcc_per_gene(inside, measured),
        "deviation of the fine means over that of own predictions": inside.std(0) / own.std(0),
        "deviation inside a spot over that between spots": np.sqrt((within**2).mean(0))
        / own.std(0),
    }
    best = np.argsort(-np.nan_to_num(scores["own prediction and measured"], nan=-1.0))[:50]
    print(f"| | mean of {len(genes)} genes | mean of the 50 best at spots |")
    print("|---|---|---|")
    for name, values in scores.items():
        print(f"| {name} | {np.nanmean(values):.3f} | {np.nanmean(values[best]):.3f} |")
    print()
    print("| gene | " + " | ".join(scores) + " |")
    print("|---" * (1 + len(scores)) + "|")
    for j in best[:10].tolist():
        print(f"| {genes[j]} | " + " | ".join(f"{v[j]:.2f}" for v in scores.values()) + " |")


def print_seams(fine: StoredPrediction, pitch_um: float, sides_um: Sequence[float]) -> None:
    """How much the map jumps between neighbours across the seams of tiles, over what it jumps two and three places beside."""
    column, row = np.rint(fine.xy_px0 * fine.mpp / pitch_um - 0.5).astype(np.intp).T
    image = np.full((row.max() + 1, column.max() + 1, len(fine.genes)), np.nan)
    image[row, column] = fine.composition / np.nanstd(fine.composition.astype(np.float64), axis=0)
    print(
        "\n| tiles, um | seams | jump across seams, over beside: mean | largest |\n|---|---|---|---|"
    )
    every: list[float] = []
    for side in (*sides_um, None):
        found: list[float] = []
        for axis in (0, 1):
            jump = np.abs(np.diff(image, axis=axis))
            known = np.isfinite(jump[..., 0]).sum(axis=1 - axis) >= _LEAST
            mean = np.array(
                [
                    np.nanmean(part) if ok else np.nan
                    for part, ok in zip(np.moveaxis(jump, axis, 0), known, strict=True)
                ]
            )
            beside = np.array(
                [
                    np.nanmean(mean[[i - 3, i - 2, i + 2, i + 3]])
                    if 3 <= i < len(mean) - 3 and np.isfinite(mean[i - 3 : i + 4]).all()
                    else np.nan
                    for i in range(len(mean))
                ]
            )
            at = (np.arange(len(mean)) + 1) * pitch_um
            step = pitch_um if side is None else offline.TILES[-1].cells * side / _CELLS
            seam = np.abs(at - np.rint(at / step) * step) <= pitch_um / 2
            found += [float(r) for r in (mean / beside)[seam] if np.isfinite(r)]
        every = found
        if found:
            name = "any place" if side is None else f"{offline.TILES[-1].cells * side / _CELLS:.0f}"
            print(f"| {name} | {len(found)} | {np.mean(found):.3f} | {max(found):.3f} |")
    print(
        f"95 % of all places jump at most {np.quantile(every, 0.95):.3f} times as much as beside."
    )


if __name__ == "__main__":
    raise SystemExit(main())
