"""One known section, written by hand in every format that a reader takes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mmwrite

from hespotex.spots.base import SpotSource

POSITION_COLUMNS = [
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
]


@dataclass(frozen=True)
class Known:
    """Spots on a square grid of 6 x 5, 100 um apart at 0.5 um per pixel."""

    counts: np.ndarray
    genes: list[str]
    array_xy: np.ndarray
    xy_px0: np.ndarray
    barcodes: list[str]
    mpp: float = 0.5
    pitch_um: float = 100.0


def _make() -> Known:
    counts = np.random.default_rng(5).poisson(1.5, (30, 7))
    counts[:, 0] += 1
    array_xy = np.array([[x, y] for y in range(5) for x in range(6)])
    return Known(
        counts=counts,
        genes=[f"GENE{g}" for g in range(7)],
        array_xy=array_xy,
        xy_px0=array_xy * 200.0 + [110.0, 130.0],
        barcodes=[f"ACGT{i:04d}-1" for i in range(30)],
    )


KNOWN = _make()


def write_10x_h5(
    path: Path, known: Known, *, version: int = 3, kinds: list[str] | None = None
) -> Path:
    matrix = sparse.csr_matrix(known.counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["barcodes"] = np.array(known.barcodes, dtype="S")
        group["data"], group["indices"] = matrix.data.astype("i4"), matrix.indices.astype("i8")
        group["indptr"] = matrix.indptr.astype("i8")
        group["shape"] = np.array(known.counts.shape[::-1], dtype="i4")
        ids = np.array([f"ENSG{g}" for g in range(len(known.genes))], dtype="S")
        symbols = np.array(known.genes, dtype="S")
        if version == 3:
            features = group.create_group("features")
            features["id"], features["name"] = ids, symbols
            features["feature_type"] = np.array(
                kinds or ["Gene Expression"] * len(symbols), dtype="S"
            )
        else:
            group["genes"], group["gene_names"] = ids, symbols
    return path


def write_mtx(folder: Path, known: Known, *, prefix: str = "", packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "m.mtx"
    mmwrite(plain, sparse.coo_matrix(known.counts.T))
    rows = [f"ENSG{g}\t{name}\tGene Expression" for g, name in enumerate(known.genes)]
    content = {
        "matrix.mtx": plain.read_bytes(),
        "features.tsv" if packed else "genes.tsv": ("\n".join(rows) + "\n").encode(),
        "barcodes.tsv": ("\n".join(known.barcodes) + "\n").encode(),
    }
    plain.unlink()
    for name, data in content.items():
        path = folder / f"{prefix}{name}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


def positions(known: Known, *, outside: int = 2) -> pd.DataFrame:
    """All spots in the tissue, and a few more outside of it."""
    table = pd.DataFrame(
        {
            "barcode": known.barcodes,
            "in_tissue": 1,
            "array_row": known.array_xy[:, 1],
            "array_col": known.array_xy[:, 0],
            "pxl_row_in_fullres": known.xy_px0[:, 1],
            "pxl_col_in_fullres": known.xy_px0[:, 0],
        }
    )
    extra = pd.DataFrame(
        [[f"TTTT{i:04d}-1", 0, 9, i, 3000.0, 200.0 * i] for i in range(outside)],
        columns=POSITION_COLUMNS,
    )
    return pd.concat([table, extra], ignore_index=True) if outside else table


def write_scale(path: Path, **more: float) -> None:
    values = {
        "tissue_hires_scalef": 0.25,
        "tissue_lowres_scalef": 0.075,
        "fiducial_diameter_fullres": 210.0,
        "spot_diameter_fullres": 130.0,
    }
    path.write_text(json.dumps(values | more))


Build = Callable[[Path, Known], SpotSource]


def space_ranger(folder: Path, known: Known) -> SpotSource:
    (folder / "spatial").mkdir(parents=True)
    write_10x_h5(folder / "filtered_feature_bc_matrix.h5", known)
    positions(known).to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    write_scale(folder / "spatial" / "scalefactors_json.json")
    return SpotSource(expression=folder)


def visium_hd(folder: Path, known: Known) -> SpotSource:
    """Each spot is a bin of 100 um, so that the same section results."""
    bins = folder / "binned_outputs" / "square_100um"
    (bins / "spatial").mkdir(parents=True)
    write_10x_h5(bins / "filtered_feature_bc_matrix.h5", known)
    positions(known).to_parquet(bins / "spatial" / "tissue_positions.parquet")
    write_scale(
        bins / "spatial" / "scalefactors_json.json",
        bin_size_um=100.0,
        microns_per_pixel=0.5,
        spot_diameter_fullres=200.0,
    )
    return SpotSource(expression=folder, bin_um=100.0)


def legacy_st(folder: Path, known: Known) -> SpotSource:
    folder.mkdir(exist_ok=True)
    index = [f"{x}x{y}" for x, y in known.array_xy]
    frame = pd.DataFrame(known.counts, index=index, columns=known.genes)
    frame.to_csv(folder / "counts.tsv.gz", sep="\t")
    spots = pd.DataFrame(
        np.hstack([known.array_xy, known.xy_px0]), columns=["x", "y", "pixel_x", "pixel_y"]
    )
    spots.to_csv(folder / "spots.tsv", sep="\t", index=False)
    return SpotSource(expression=folder / "counts.tsv.gz", spots=folder / "spots.tsv")


def _anndata(known: Known) -> Any:
    import anndata as ad

    return ad.AnnData(
        X=sparse.csr_matrix(known.counts.astype(np.float32)),
        obs=pd.DataFrame(
            {"array_col": known.array_xy[:, 0], "array_row": known.array_xy[:, 1]},
            index=known.barcodes,
        ),
        var=pd.DataFrame(index=known.genes),
        obsm={"spatial": known.xy_px0},
    )


def h5ad(folder: Path, known: Known) -> SpotSource:
    folder.mkdir(exist_ok=True)
    _anndata(known).write_h5ad(folder / "section.h5ad")
    return SpotSource(expression=folder / "section.h5ad")


def hest(folder: Path, known: Known) -> SpotSource:
    for name in ("st", "metadata"):
        (folder / name).mkdir(parents=True)
    _anndata(known).write_h5ad(folder / "st" / "X.h5ad")
    values = {"pixel_size_um_estimated": 0.5, "inter_spot_dist": 100.0, "spot_diameter": 55.0}
    (folder / "metadata" / "X.json").write_text(json.dumps(values))
    return SpotSource(expression=folder / "st" / "X.h5ad")


def xenium(folder: Path, known: Known) -> SpotSource:
    """One cell in each spot; the H&E is turned by 90 degrees against the morphology image."""
    folder.mkdir(exist_ok=True)
    write_10x_h5(folder / "cell_feature_matrix.h5", known)
    # H&E x, y (0.5 um) -> morphology (0.25 um): x' = -2 y + 4000, y' = 2 x + 100
    to_morphology = np.array([[0.0, -2.0, 4000.0], [2.0, 0.0, 100.0], [0.0, 0.0, 1.0]])
    np.savetxt(folder / "he_imagealignment.csv", to_morphology, delimiter=",")
    um = (known.xy_px0 @ to_morphology[:2, :2].T + to_morphology[:2, 2]) * 0.25
    cells = pd.DataFrame(
        {"cell_id": known.barcodes, "x_centroid": um[:, 0], "y_centroid": um[:, 1]}
    )
    cells.to_parquet(folder / "cells.parquet")
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.25}))
    return SpotSource(
        expression=folder, alignment=folder / "he_imagealignment.csv", spot_pitch_um=100.0
    )


def spatialdata(folder: Path, known: Known) -> SpotSource:
    """Shapes in microns, the image at half a micron; both are brought together by transformations."""
    import geopandas
    import spatialdata as sd
    from shapely import Point
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    names = [f"spot-{i}" for i in range(len(known.barcodes))]
    circles = geopandas.GeoDataFrame(
        {"radius": 27.5, "geometry": [Point(*p) for p in known.xy_px0 * known.mpp]}, index=names
    )
    shapes = ShapesModel.parse(circles, transformations={"um": Identity()})
    image = Image2DModel.parse(
        np.full((3, 1000, 1250), 200, np.uint8),
        dims=("c", "y", "x"),
        transformations={"um": Scale([known.mpp, known.mpp], axes=("x", "y"))},
    )
    table = _anndata(known)
    table.obsm.clear()
    table.obs["region"] = pd.Categorical(["spots"] * len(names))
    table.obs["instance"] = names
    table = table[::-1].copy()  # the table's order is not that of the shapes
    parsed = TableModel.parse(table, region="spots", region_key="region", instance_key="instance")
    folder.mkdir(exist_ok=True)
    store = sd.SpatialData(images={"he": image}, shapes={"spots": shapes}, tables={"table": parsed})
    store.write(folder / "store.zarr")
    return SpotSource(expression=folder / "store.zarr")


# Formats in which the known section can be written spot by spot.
BUILDERS: dict[str, Build] = {
    "legacy_st": legacy_st,
    "h5ad": h5ad,
    "hest": hest,
    "space_ranger": space_ranger,
    "visium_hd": visium_hd,
    "spatialdata": spatialdata,
}
