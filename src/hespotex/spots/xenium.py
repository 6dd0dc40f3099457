"""Reader of Xenium: cells in microns, pooled into spots, carried to H&E pixels by the alignment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.errors import SpotTableError
from hespotex.spots.base import Reader, Recognised, ScaleHints, SpotSource, SpotTable
from hespotex.spots.counts import check_names
from hespotex.spots.pooling import LOOK_NOTE, LOOK_PITCH_UM, pool_points
from hespotex.spots.ten_x import outs_in, read_matrix
from hespotex.spots.text import number_column, positive_number, read_json, read_parquet, read_table
from hespotex.spots.visium_hd import cell_pitch, pooled_table
from hespotex.storage.text_files import open_text

_CELL_COLUMNS = ("cell_id", "x_centroid", "y_centroid")


def read(source: SpotSource) -> SpotTable:
    """Pool cells into spots `spot_pitch_um` apart, on a hexagonal or, if asked for, a square grid.

    `alignment` is the 3 x 3 matrix from H&E pixels to pixels of the morphology image, as Xenium Explorer
    exports it. A gene that is not in the panel was not looked for.

    Raises:
        SpotTableError: no alignment, no pitch, or a file is missing or malformed.
    """
    folder = source.expression
    if folder is None or not folder.is_dir():
        raise SpotTableError(
            expected="Xenium's output folder in the manifest's column expression", found=folder
        )
    if source.alignment is None:
        lying = sorted(path.name for path in folder.glob("*imagealignment.csv"))
        found = f"; {lying[0]} lies in the folder" if lying else ""
        raise SpotTableError(
            expected="the alignment of the H&E image in the manifest's column alignment",
            found=(
                f"none: Xenium's cells are in microns of the morphology image, and the H&E of {folder} is "
                f"not registered to it without{found}"
            ),
        )
    pitch = cell_pitch(source, folder)
    cells, unmatched = _join_cells(folder)
    diameter = source.spot_diameter_um or pitch
    # cells know no pixels yet: their xy are microns
    pooled = pool_points(
        cells.xy_px0,
        cells.counts,
        pitch_um=pitch,
        diameter_um=diameter,
        kind=source.grid or "hexagonal",
    )
    morphology_mpp = _read_pixel_size(folder)
    to_morphology = read_alignment(source.alignment)
    xy_px0 = apply_affine(np.linalg.inv(to_morphology), pooled.xy_um / morphology_mpp)
    scale = float(np.sqrt(abs(np.linalg.det(to_morphology[:2, :2]))))
    hints = ScaleHints(
        mpp={f"alignment {source.alignment.name}": morphology_mpp * scale},
        spot_pitch_um=pitch,
        spot_diameter_um=diameter,
    )
    return pooled_table(cells, pooled, xy_px0, hints, "cells", unmatched)


def _join_cells(folder: Path) -> tuple[SpotTable, dict[str, int]]:
    """Cells that have counts and a centre, in microns of the morphology image; what had one of the two."""
    matrix = read_matrix(_matrix_path(folder))
    cell_ids, xy_um = read_cells(folder)
    rows = pd.Index(cell_ids).get_indexer(pd.Index(matrix.barcodes))
    kept = rows >= 0
    if not kept.any():
        raise SpotTableError(
            expected=f"the cells of {folder} in both tables",
            found=f"none in common (the matrix has {matrix.barcodes[0]}, the cells have {cell_ids[0]})",
        )
    cells = SpotTable(
        source=str(folder),
        barcodes=matrix.barcodes[kept],
        xy_px0=xy_um[rows[kept]],
        counts=matrix.counts[kept],
        genes=matrix.genes,
        missing_genes="unmeasured",
        dropped=matrix.dropped,
    )
    unmatched = {
        "counts without a cell": int((~kept).sum()),
        "cells without counts": len(cell_ids) - int(kept.sum()),
    }
    return cells, unmatched


def read_cells(folder: Path) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64]]:
    """Ids and centres in microns, from cells.parquet or cells.csv.gz.

    Raises:
        SpotTableError: neither is there, or one is malformed.
    """
    path = next(
        (
            folder / n
            for n in ("cells.parquet", "cells.csv.gz", "cells.csv")
            if (folder / n).is_file()
        ),
        None,
    )
    if path is None:
        raise SpotTableError(expected=f"cells.parquet or cells.csv.gz in {folder}", found="neither")
    table = read_parquet(path) if path.suffix == ".parquet" else read_table(path, _CELL_COLUMNS)
    missing = [name for name in _CELL_COLUMNS if name not in table]
    if missing:
        raise SpotTableError(
            expected=f"the columns {', '.join(_CELL_COLUMNS)} in {path}",
            found=", ".join(map(str, table)),
        )
    ids = [v.decode() if isinstance(v, bytes) else str(v) for v in table["cell_id"]]
    check_names(ids, "cell", str(path))
    xy = np.column_stack([number_column(table, name, path) for name in _CELL_COLUMNS[1:]])
    return np.array(ids, dtype=str), xy


def read_alignment(path: Path) -> npt.NDArray[np.float64]:
    """3 x 3 affine matrix from H&E pixels to pixels of the morphology image.

    Raises:
        SpotTableError: not three rows of three numbers, not affine, or not invertible.
    """
    with open_text(path) as stream:
        lines = [line.strip() for line in stream if line.strip()]
    try:
        matrix = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    except ValueError as error:
        raise SpotTableError(expected=f"3 x 3 numbers in {path}", cause=error) from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise SpotTableError(expected=f"3 x 3 numbers in {path}", found=matrix.shape)
    if not np.allclose(matrix[2], [0, 0, 1]):
        raise SpotTableError(
            expected=f"an affine matrix with 0, 0, 1 as last row in {path}",
            found=matrix[2].tolist(),
        )
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise SpotTableError(expected=f"an invertible matrix in {path}", found="determinant 0")
    return matrix


def apply_affine(
    matrix: npt.NDArray[np.floating], xy: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(n, 2) points under a 3 x 3 affine matrix."""
    moved: npt.NDArray[np.float64] = xy @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


def _matrix_path(folder: Path) -> Path:
    for name in ("cell_feature_matrix.h5", "cell_feature_matrix"):
        if (folder / name).exists():
            return folder / name
    raise SpotTableError(expected=f"cell_feature_matrix.h5 in {folder}", found="none")


def _read_pixel_size(folder: Path) -> float:
    """Microns per pixel of the morphology image (0.2125 so far)."""
    path = folder / "experiment.xenium"
    if not path.is_file():
        raise SpotTableError(
            expected=f"experiment.xenium in {folder}", found="none", remedy="copy it there"
        )
    size = positive_number(read_json(path), "pixel_size", path)
    if size is None:
        raise SpotTableError(
            expected=f"pixel_size in {path}",
            found="none",
            remedy="copy experiment.xenium of this run there",
        )
    return size


def recognise(path: Path) -> Recognised | None:
    """Output with `experiment.xenium` or a cell-feature matrix; one alignment and one H&E image in it are taken."""
    outs = outs_in(path)
    known = (outs / "experiment.xenium").exists() or any(outs.glob("cell_feature_matrix*"))
    if not path.is_dir() or not known:
        return None
    values: dict[str, object] = {"spot_pitch_um": LOOK_PITCH_UM}
    notes = [LOOK_NOTE]
    alignments = sorted(outs.glob("*imagealignment.csv"))
    if len(alignments) == 1:
        values["alignment"] = alignments[0]
        notes.append(f"took {alignments[0].name} as alignment")
    images = sorted(outs.glob("*he_image.ome.tif*"))
    slide = images[0] if len(images) == 1 else None
    said = f"took {slide.name} as slide" if slide is not None else ""
    return Recognised(values, tuple(notes), slide, said)


READER = Reader(read, columns=("expression", "alignment"), folders=True, recognise=recognise)
