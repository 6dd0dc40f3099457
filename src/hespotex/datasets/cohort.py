"""Painted cohorts as arrays and as the files that the readers read.

The demo, the tests and the benchmarks use them: H&E-like images, square and hexagonal lattices,
several patients with their own staining, and counts whose dependence on the image is known.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from hespotex.datasets.painted import Lattice, PaintedSection, SectionArrays
from hespotex.datasets.patients import PaintedPatient
from hespotex.datasets.plan import PaintedPlan
from hespotex.datasets.tissue import KINDS
from hespotex.geometry import write_frames
from hespotex.storage.atomic import atomic_path


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
    plan = PaintedPlan(
        seed=seed,
        patients=_plain_patients(patient + 1),
        sections_per_patient=section + 1,
        n_genes=n_genes,
        lattice=lattice,
        side_um=side_um,
        mpp=mpp,
    )
    return plan.section(patient, section).arrays


def make_cohort(
    folder: Path,
    *,
    seed: int = 0,
    n_patients: int = 3,
    sections_per_patient: int = 2,
    n_genes: int = 300,
    side_um: float | None = None,
) -> Path:
    """Paint a plain cohort into `folder` and return its manifest, `sections.csv`; see `write_cohort`.

    Example:
        >>> manifest = make_cohort(Path("cohort"), seed=0)  # doctest: +SKIP
    """
    plan = PaintedPlan(
        seed=seed,
        patients=_plain_patients(n_patients),
        sections_per_patient=sections_per_patient,
        n_genes=n_genes,
        side_um=side_um,
    )
    return write_cohort(plan, folder)


def write_cohort(plan: PaintedPlan, folder: Path) -> Path:
    """Paint a plan into `folder`, section by section, and return its manifest, `sections.csv`.

    Sections on square lattices are written as legacy ST (counts TSV, spot file, JPEG), those on hexagonal ones as
    h5ad and TIFF. Labels, scanners and depths in a block are columns `x_label`, `x_scanner`, `x_z_um` of the manifest
    where the plan has them. `truth.csv` says of each gene on what it depends, `truth/<id>_tissue.csv` what is painted
    under each spot, `truth/<patient>_frames.json` where slices lie in their block; no reader looks at them.
    """
    rows = []
    for painted in plan.sections():
        arrays, section_id = painted.arrays, painted.section_id
        write = _write_legacy_st if arrays.lattice == "square" else _write_h5ad
        rows.append(
            {
                "section_id": section_id,
                "patient_id": painted.patient_id,
                **write(folder, section_id, arrays),
                "spot_pitch_um": arrays.spot_pitch_um,
                "spot_diameter_um": arrays.spot_diameter_um,
                **_more_columns(plan, painted),
            }
        )
        _write_truth(folder, section_id, arrays)
    if plan.serial is not None:
        for index, patient in enumerate(plan.patients):
            write_frames(folder / "truth" / f"{patient.name}_frames.json", plan.frames(index))
    manifest = folder / "sections.csv"
    _write_csv(manifest, pd.DataFrame(rows))
    return manifest


def _plain_patients(n: int) -> tuple[PaintedPatient, ...]:
    return tuple(PaintedPatient(f"P{i + 1}") for i in range(n))


def _more_columns(plan: PaintedPlan, painted: PaintedSection) -> dict[str, str | float]:
    more: dict[str, str | float] = {}
    if any(patient.label for patient in plan.patients):
        more["x_label"] = painted.label
    if plan.scanners:
        more["x_scanner"] = painted.scanner
    if painted.truth.z_um is not None:
        more["x_z_um"] = painted.truth.z_um
    return more


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
    kinds = KINDS[: arrays.area.shape[1]]
    tissue = pd.DataFrame(arrays.area.round(4), columns=[f"area_{t}" for t in kinds])
    tissue[[f"nuclei_{t}" for t in kinds]] = arrays.nuclei.astype(int)
    tissue.insert(0, "spot", _spot_names(arrays))
    _write_csv(folder / "truth" / f"{section_id}_tissue.csv", tissue)


def _write_csv(path: Path, table: pd.DataFrame, separator: str = ",") -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, sep=separator)
