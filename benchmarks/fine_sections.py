"""Made sections on a fine lattice, such as Visium HD's bins of 16 um: pictures, counts and the manifest.

    python -m benchmarks.fine_sections FOLDER SIDE_UM GENES

A section is laid out of painted blocks side by side, since one block is at most 3.2 mm wide. Expression follows what is
painted under a bin; where blocks meet, tissue ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.datasets import PaintedPatient, PaintedPlan, SectionTruth

MPP = 0.5
PITCH_UM = 16.0
# Of the expected totals of a painted spot of 100 um: leaves a bin a median of about 70 counts.
DEPTH = 0.15
_BLOCK_UM = 3200.0
_ROWS = 16_384


def write_cohort(folder: Path, side_um: float, n_genes: int, *, n_sections: int = 3) -> Path:
    """Paint sections of one patient each, and return their manifest; what is there stays.

    Args:
        side_um: of a section.
        n_genes: at least 50.
    """
    manifest = folder / "sections.csv"
    if manifest.is_file():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    n = int(np.ceil(side_um / _BLOCK_UM))
    block_um = np.floor(side_um / n / PITCH_UM) * PITCH_UM
    plan = PaintedPlan(
        seed=3,
        patients=tuple(PaintedPatient(f"P{k + 1}") for k in range(n_sections)),
        sections_per_patient=n * n,
        n_genes=n_genes,
        lattice="square",
        side_um=float(block_um),
        mpp=MPP,
    )
    rows = []
    for patient in range(n_sections):
        image, xy_um, counts = _section(plan, patient, n, float(block_um))
        name = f"fine{patient + 1}"
        _write_image(folder / f"{name}.tif", image)
        _write_counts(folder / f"{name}.h5ad", counts, xy_um, plan.genes.genes)
        rows.append(
            {
                "section_id": name,
                "patient_id": f"P{patient + 1}",
                "slide": f"{name}.tif",
                "expression": f"{name}.h5ad",
                "format": "h5ad",
                "mpp": MPP,
                "spot_pitch_um": PITCH_UM,
                "spot_diameter_um": PITCH_UM,
            }
        )
    pd.DataFrame(rows).to_csv(manifest, index=False)
    return manifest


def bins_of(side_um: float) -> npt.NDArray[np.float64]:
    """(n, 2) centres of all bins of a square, in microns."""
    place = (np.arange(int(side_um / PITCH_UM)) + 0.5) * PITCH_UM
    return np.stack(np.meshgrid(place, place), axis=-1).reshape(-1, 2)


def bin_counts(
    rng: np.random.Generator, truth: SectionTruth, xy_um: npt.NDArray[np.float64]
) -> sparse.csr_matrix:
    """(n, G) counts of bins, made piece by piece."""
    parts = [
        truth.draw_counts(rng, xy_um[at : at + _ROWS], diameter_um=PITCH_UM, depth_factor=DEPTH)
        for at in range(0, len(xy_um), _ROWS)
    ]
    return sparse.csr_matrix(sparse.vstack(parts, format="csr"))


def _section(
    plan: PaintedPlan, patient: int, n: int, block_um: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], sparse.csr_matrix]:
    side_px = round(block_um / MPP)
    image = np.empty((n * side_px, n * side_px, 3), np.uint8)
    xy_um, counts = [], []
    for block in range(n * n):
        row, column = divmod(block, n)
        painted = plan.section(patient, block)
        picture = painted.arrays.image[:side_px, :side_px]
        image[row * side_px :, column * side_px :][: len(picture), : picture.shape[1]] = picture
        own = bins_of(block_um)
        counts.append(bin_counts(np.random.default_rng([patient, block]), painted.truth, own))
        xy_um.append(own + np.array([column, row]) * block_um)
    return image, np.concatenate(xy_um), sparse.csr_matrix(sparse.vstack(counts, format="csr"))


def _write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    import tifffile

    tifffile.imwrite(
        path,
        image,
        photometric="rgb",
        tile=(512, 512),
        compression="jpeg",
        resolution=(1e4 / MPP, 1e4 / MPP),
        resolutionunit="CENTIMETER",
    )


def _write_counts(
    path: Path,
    counts: sparse.csr_matrix,
    xy_um: npt.NDArray[np.float64],
    genes: npt.NDArray[np.str_],
) -> None:
    from anndata import AnnData

    seen = np.asarray(counts.sum(axis=1)).ravel() > 0
    place = np.floor(xy_um / PITCH_UM).astype(int)[seen]
    table = AnnData(
        X=counts[seen].astype(np.float32),
        obs=pd.DataFrame(
            {"array_row": place[:, 1], "array_col": place[:, 0]},
            index=[f"{x}x{y}" for x, y in place.tolist()],
        ),
        var=pd.DataFrame(index=genes),
    )
    table.obsm["spatial"] = xy_um[seen] / MPP
    table.write_h5ad(path)


if __name__ == "__main__":
    print(write_cohort(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
