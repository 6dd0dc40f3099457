"""An L of tissue on a slide with spots on it, as arrays, as a Section and as legacy ST files."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from hespotex.sections.section import Geometry, Section

SIZE = (1200, 900)
PITCH_PX0 = 40.0
MPP = 2.5
GENES = np.array(["ACTB", "GAPDH", "MT-CO1", "EPCAM", "CD3E", "KRT8"])
GLASS, TISSUE = (236, 232, 236), (170, 90, 150)


@cache
def shape(*, disc: bool = False) -> np.ndarray:
    """(900, 1200) True on tissue; not to be written into."""
    y, x = np.mgrid[:900, :1200]
    ell = ((x >= 120) & (x < 360) & (y >= 80) & (y < 720)) | (
        (x >= 120) & (x < 920) & (y >= 520) & (y < 720)
    )
    mask = (x - 599.5) ** 2 + (y - 449.5) ** 2 < 320**2 if disc else ell
    mask.setflags(write=False)
    return mask


def paint(mask: np.ndarray, shade: np.ndarray | None = None) -> np.ndarray:
    """RGB of the tissue, lighter and darker from cell to cell; `shade` darkens it by a factor per pixel."""
    if mask is shape() and shade is None:
        return _usual().copy()
    return _painted(mask, shade)


@cache
def _usual() -> np.ndarray:
    return _painted(shape(), None)


def _painted(mask: np.ndarray, shade: np.ndarray | None) -> np.ndarray:
    image = np.where(mask[..., None], np.array(TISSUE), np.array(GLASS)).astype(float)
    image[mask] *= _cells()[mask][:, None]
    if shade is not None:
        image[mask] *= shade[mask][:, None]
    return np.clip(image + _noise(), 0, 255).astype(np.uint8)


@cache
def _cells() -> np.ndarray:
    cells = np.random.default_rng(1).uniform(0.75, 1.25, (180, 240)).repeat(5, axis=0)
    return cells.repeat(5, axis=1)


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (900, 1200, 3))


def spots_on(mask: np.ndarray) -> np.ndarray:
    """Centres of a square lattice that lie on the tissue."""
    axes = (np.arange(20, side, PITCH_PX0) for side in SIZE)
    xy = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return xy[mask[xy[:, 1].astype(int), xy[:, 0].astype(int)]]


def counts_of(n: int, seed: int = 0, depth: np.ndarray | None = None) -> np.ndarray:
    rates = np.full(n, 60.0) if depth is None else depth
    return np.random.default_rng(seed).poisson(rates[:, None] * np.ones(len(GENES)))


def make_section(
    slide: Path | None,
    xy_px0: np.ndarray,
    *,
    name: str = "A",
    seed: int = 0,
    genes: np.ndarray = GENES,
    counts: np.ndarray | None = None,
) -> Section:
    values = counts_of(len(xy_px0), seed) if counts is None else counts
    return Section(
        section_id=name,
        patient_id=f"patient of {name}",
        slide=slide,
        geometry=Geometry(MPP, 100.0, 55.0, {"spot pitch (100 um = 40 px)": MPP}),
        barcodes=np.array([f"s{i}" for i in range(len(xy_px0))]),
        xy_px0=np.asarray(xy_px0, dtype=float),
        counts=sparse.csr_matrix(values.astype(np.int32)),
        genes=genes,
    )


def save(image: np.ndarray, path: Path) -> Path:
    Image.fromarray(image).save(path, compress_level=1)
    return path


@cache
def _usual_png() -> bytes:
    buffer = BytesIO()
    Image.fromarray(_usual()).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def write_legacy(
    folder: Path,
    name: str,
    xy_px0: np.ndarray,
    *,
    seed: int = 0,
    image: np.ndarray | None = None,
    true_xy_px0: np.ndarray | None = None,
) -> dict[str, str]:
    """Files of one section; the row of a manifest. The array follows `true_xy_px0` where given."""
    if image is None:
        (folder / f"{name}.png").write_bytes(_usual_png())
    else:
        save(image, folder / f"{name}.png")
    array_xy = np.rint(((xy_px0 if true_xy_px0 is None else true_xy_px0) - 20) / PITCH_PX0).astype(
        int
    )
    barcodes = [f"{x}x{y}" for x, y in array_xy.tolist()]
    table = pd.DataFrame(counts_of(len(xy_px0), seed), index=barcodes, columns=GENES)
    table.to_csv(folder / f"{name}_counts.tsv", sep="\t")
    spots = pd.DataFrame(array_xy, columns=["x", "y"])
    spots[["pixel_x", "pixel_y"]] = xy_px0
    spots.to_csv(folder / f"{name}_spots.tsv", sep="\t", index=False)
    return {
        "section_id": name,
        "patient_id": f"P{name}",
        "slide": f"{name}.png",
        "expression": f"{name}_counts.tsv",
        "spots": f"{name}_spots.tsv",
        "format": "legacy_st",
        "spot_pitch_um": "100",
        "spot_diameter_um": "55",
    }


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "sections.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
