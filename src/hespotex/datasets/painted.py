"""The painted cohort: its sections as arrays (pure) and as the files that the readers read.

The demo, the tests and the benchmarks use it: H&E-like images, square and hexagonal lattices,
several patients with their own staining, and counts whose dependence on the image is known.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.datasets.expression import (
    GeneTruth,
    draw_counts,
    draw_depth,
    draw_genes,
    expected_shares,
    rna_of,
    tissue_under_spots,
)
from hespotex.datasets.paint import draw_stain, paint_scene
from hespotex.datasets.tissue import TISSUES, Points, build_scene, plan_patient
from hespotex.storage.atomic import atomic_path

Lattice = Literal["square", "hexagonal"]


@dataclass(frozen=True)
class LatticeKind:
    """How an array of spots is laid out: in microns, with the scanner's pixel size."""

    spot_pitch_um: float
    spot_diameter_um: float
    side_um: float
    mpp: float


LATTICES: Final[dict[Lattice, LatticeKind]] = {
    "square": LatticeKind(150.0, 100.0, 2600.0, 1.5),
    "hexagonal": LatticeKind(100.0, 55.0, 1600.0, 1.0),
}
_MEAN_DEPTH: Final = {"square": 1800.0, "hexagonal": 1200.0}
# What a random stream is for: the first number of its seed after the cohort's.
_GENES, _PATIENT, _STAIN, _SHIFT, _SCENE, _PAINT, _EXPRESSION = range(7)


@dataclass(frozen=True)
class SectionArrays:
    """One painted section.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mpp: microns per pixel.
        lattice: `square` or `hexagonal`.
        array_xy: (n, 2) whole numbers, place in the lattice (hexagonal: Visium's array_col, array_row).
        xy_px0: (n, 2) x, y of the spot centres in pixels.
        spot_pitch_um, spot_diameter_um: of the lattice.
        counts: (n, G) raw counts.
        truth: what each gene depends on.
        area: (n, tissues) share of the spot that each tissue covers.
        nuclei: (n, tissues) nuclei under the spot.
        share: (n, G) expected share of each gene in the spot's total.
        depth: (n,) expected total.
    """

    image: npt.NDArray[np.uint8]
    mpp: float
    lattice: Lattice
    array_xy: npt.NDArray[np.int64]
    xy_px0: Points
    spot_pitch_um: float
    spot_diameter_um: float
    counts: npt.NDArray[np.int64]
    truth: GeneTruth
    area: npt.NDArray[np.float64]
    nuclei: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float64]


def make_section_arrays(
    *,
    seed: int = 0,
    patient: int = 0,
    section: int = 0,
    lattice: Lattice | None = None,
    n_genes: int = 300,
    side_um: float | None = None,
    mpp: float | None = None,
) -> SectionArrays:
    """Paint one section; the same arguments give the same arrays, bit for bit.

    Args:
        seed: of the cohort; genes and programmes depend on it alone.
        patient: index; sections of one patient share tissue, staining and a shift per gene.
        section: index within the patient.
        lattice: of the spots; default: square for even sections, hexagonal for odd ones.
        n_genes: at least 50.
        side_um: side of the image in microns, at most 3,200; default by lattice.
        mpp: microns per pixel; default by lattice.
    """
    kind: Lattice = lattice or ("square" if section % 2 == 0 else "hexagonal")
    spec = LATTICES[kind]
    mpp = mpp or spec.mpp
    truth = draw_genes(_stream(seed, _GENES), n_genes)
    plan = plan_patient(_stream(seed, _PATIENT, patient))
    stain = draw_stain(_stream(seed, _STAIN, patient))
    shift = _stream(seed, _SHIFT, patient).normal(scale=0.25, size=n_genes)
    scene = build_scene(
        plan, _stream(seed, _SCENE, patient, section), side_um=side_um or spec.side_um, mpp=mpp
    )
    image = paint_scene(scene, stain, _stream(seed, _PAINT, patient, section))

    array_xy, xy_um = _lattice_points(kind, spec.spot_pitch_um, len(image) * mpp)
    area, nuclei = tissue_under_spots(scene, xy_um, spec.spot_diameter_um)
    kept = area.sum(axis=1) >= 0.4
    array_xy, xy_um, area, nuclei = array_xy[kept], xy_um[kept], area[kept], nuclei[kept]
    rng = _stream(seed, _EXPRESSION, patient, section)
    rna = rna_of(area, nuclei)
    share = expected_shares(rng, truth, rna, xy_um, patient, shift)
    depth = draw_depth(rng, rna, xy_um, _MEAN_DEPTH[kind])
    return SectionArrays(
        image=image,
        mpp=mpp,
        lattice=kind,
        array_xy=array_xy,
        xy_px0=xy_um / mpp,
        spot_pitch_um=spec.spot_pitch_um,
        spot_diameter_um=spec.spot_diameter_um,
        counts=draw_counts(rng, truth, share, depth),
        truth=truth,
        area=area,
        nuclei=nuclei,
        share=share,
        depth=depth,
    )


def make_cohort(
    folder: Path,
    *,
    seed: int = 0,
    n_patients: int = 3,
    sections_per_patient: int = 2,
    n_genes: int = 300,
    side_um: float | None = None,
) -> Path:
    """Paint a cohort into `folder` and return its manifest, `sections.csv`.

    Even sections of a patient are written as legacy ST (counts TSV, spot file, JPEG), odd ones as
    h5ad and TIFF. `truth.csv` says of each gene on what it depends, `truth/<id>_tissue.csv` what is
    painted under each spot; no reader looks at either.

    Example:
        >>> manifest = make_cohort(Path("cohort"), seed=0)  # doctest: +SKIP
    """
    rows = []
    for patient in range(n_patients):
        for section in range(sections_per_patient):
            arrays = make_section_arrays(
                seed=seed, patient=patient, section=section, n_genes=n_genes, side_um=side_um
            )
            section_id = f"P{patient + 1}S{section + 1}"
            write = _write_legacy_st if arrays.lattice == "square" else _write_h5ad
            rows.append(
                {
                    "section_id": section_id,
                    "patient_id": f"P{patient + 1}",
                    **write(folder, section_id, arrays),
                    "spot_pitch_um": arrays.spot_pitch_um,
                    "spot_diameter_um": arrays.spot_diameter_um,
                }
            )
            _write_truth(folder, section_id, arrays)
    manifest = folder / "sections.csv"
    _write_csv(manifest, pd.DataFrame(rows))
    return manifest


def _stream(*words: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(words))


def _lattice_points(
    kind: Lattice, pitch_um: float, side_um: float
) -> tuple[npt.NDArray[np.int64], Points]:
    """All points of a lattice whose spots lie inside the image."""
    step_y = pitch_um if kind == "square" else pitch_um * np.sqrt(3) / 2
    margin = pitch_um * 0.75
    n_rows = int((side_um - 2 * margin) / step_y) + 1
    n_columns = int((side_um - 2 * margin - pitch_um / 2) / pitch_um) + 1
    row, column = np.divmod(np.arange(n_rows * n_columns), n_columns)
    array_x = column if kind == "square" else 2 * column + row % 2
    step_x = pitch_um if kind == "square" else pitch_um / 2
    xy_um = np.stack([margin + array_x * step_x, margin + row * step_y], axis=1)
    return np.stack([array_x, row], axis=1), xy_um


def _spot_names(arrays: SectionArrays) -> list[str]:
    return [f"{x}x{y}" for x, y in arrays.array_xy.tolist()]


def _write_legacy_st(folder: Path, section_id: str, arrays: SectionArrays) -> dict[str, str]:
    from PIL import Image

    names = {
        "slide": f"images/{section_id}.jpg",
        "expression": f"counts/{section_id}.tsv.gz",
        "spots": f"spots/{section_id}_selection.tsv",
        "format": "legacy_st",
    }
    with atomic_path(folder / names["slide"]) as path:
        Image.fromarray(arrays.image).save(path, quality=92, subsampling=0)
    table = pd.DataFrame(arrays.counts, index=_spot_names(arrays), columns=arrays.truth.genes)
    text = io.StringIO()
    table.to_csv(text, sep="\t")
    with atomic_path(folder / names["expression"]) as path:
        path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=3, mtime=0))
    spots = pd.DataFrame(arrays.array_xy, columns=["x", "y"])
    spots[["new_x", "new_y"]] = arrays.array_xy.astype(float)
    spots[["pixel_x", "pixel_y"]] = arrays.xy_px0.round(3)
    spots["selected"] = 1
    _write_csv(folder / names["spots"], spots, separator="\t")
    return names


def _write_h5ad(folder: Path, section_id: str, arrays: SectionArrays) -> dict[str, str]:
    from anndata import AnnData
    from PIL import Image

    names = {
        "slide": f"images/{section_id}.tif",
        "expression": f"counts/{section_id}.h5ad",
        "spots": "",
        "format": "h5ad",
    }
    per_cm = 1e4 / arrays.mpp
    with atomic_path(folder / names["slide"]) as path:
        Image.fromarray(arrays.image).save(
            path, compression="tiff_lzw", resolution=per_cm, resolution_unit="cm"
        )
    table = AnnData(
        X=sparse.csr_matrix(arrays.counts.astype(np.float32)),
        obs=pd.DataFrame(
            {"array_row": arrays.array_xy[:, 1], "array_col": arrays.array_xy[:, 0]},
            index=_spot_names(arrays),
        ),
        var=pd.DataFrame(index=arrays.truth.genes),
    )
    table.obsm["spatial"] = arrays.xy_px0
    with atomic_path(folder / names["expression"]) as path:
        table.write_h5ad(path, compression="gzip")
    return names


def _write_truth(folder: Path, section_id: str, arrays: SectionArrays) -> None:
    truth = arrays.truth
    genes = pd.DataFrame(
        {"gene": truth.genes, "programme": truth.programme, "predictable": truth.predictable}
    )
    _write_csv(folder / "truth.csv", genes)
    tissue = pd.DataFrame(arrays.area.round(4), columns=[f"area_{t}" for t in TISSUES])
    tissue[[f"nuclei_{t}" for t in TISSUES]] = arrays.nuclei.astype(int)
    tissue.insert(0, "spot", _spot_names(arrays))
    _write_csv(folder / "truth" / f"{section_id}_tissue.csv", tissue)


def _write_csv(path: Path, table: pd.DataFrame, separator: str = ",") -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, sep=separator)
