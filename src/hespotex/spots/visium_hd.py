"""Reader of Visium HD: bins of 2, 8 or 16 um, pooled into spots of any size, and segmented cells."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.config import Grid
from hespotex.errors import SpotTableError
from hespotex.spots.aggr import positions_of
from hespotex.spots.base import Reader, Recognised, ScaleHints, SpotSource, SpotTable
from hespotex.spots.outlines import read_outlines
from hespotex.spots.pooling import LOOK_NOTE, LOOK_PITCH_UM, Pooled, pool_points
from hespotex.spots.scale_factors import copy_scales, full_size
from hespotex.spots.space_ranger import find_spatial, join_positions, one_matrix, read_positions
from hespotex.spots.ten_x import outs_in, read_matrix
from hespotex.spots.text import positive_number, read_json
from hespotex.storage.text_files import Packed

_BIN_FOLDER = re.compile(r"^square_([0-9]{3})um$")
_CELL_NUMBER = re.compile(r"([0-9]+)(?:-[0-9]+)?$")
_SAME = 0.01


def read(source: SpotSource) -> SpotTable:
    """Read one bin size of `binned_outputs`, or `segmented_outputs`.

    With a `spot_diameter_um` above the bin's side (or a `spot_pitch_um`), bins are summed into spots on
    a square grid of that pitch, or a hexagonal one if asked for; without, every bin is a spot. Segmented cells are always pooled.

    Raises:
        SpotTableError: no such bin size, or a file is missing, malformed or contradictory.
    """
    if source.expression is None:
        raise SpotTableError(
            expected="Visium HD's outs folder in the manifest's column expression", found="none"
        )
    cells = _segmented(source.expression)
    if cells is not None:
        return _read_cells(cells, source)
    folder, bin_um = _find_bins(source.expression, source.bin_um)
    positions_file, factors_file = find_spatial(folder)
    if factors_file is None:
        raise SpotTableError(
            expected=f"scalefactors_json.json in {folder / 'spatial'}", found="none"
        )
    hints, stated_bin = _read_scale(factors_file)
    if bin_um is not None and abs(stated_bin - bin_um) > _SAME * bin_um:
        raise SpotTableError(
            expected=f"bins of {bin_um:g} um in {folder}",
            found=f"bin_size_um {stated_bin:g} in {factors_file}",
        )
    matrix_path = folder / "filtered_feature_bc_matrix.h5"
    if not matrix_path.exists():
        matrix_path = folder / "filtered_feature_bc_matrix"
    if not matrix_path.exists():
        raise SpotTableError(expected=f"filtered_feature_bc_matrix.h5 in {folder}", found="none")
    matrix, ending = one_matrix(read_matrix(matrix_path), source.library, folder, matrix_path)
    positions = positions_of(
        read_positions(positions_file), ending, source.library, folder, str(positions_file)
    )
    table = join_positions(matrix, positions, hints, str(folder))
    pitch = source.spot_pitch_um or source.spot_diameter_um
    if pitch is None or pitch <= stated_bin * (1 + _SAME):
        return table
    diameter = source.spot_diameter_um or pitch
    return _pool_bins(table, stated_bin, pitch, diameter, source.grid or "square")


def _segmented(place: Path) -> Path | None:
    """The folder of segmented cells, where it was given or is all that lies there."""
    if place.name == "segmented_outputs":
        return place
    outs = outs_in(place)
    alone = not (outs / "binned_outputs").is_dir() and not _BIN_FOLDER.match(outs.name)
    return outs / "segmented_outputs" if alone and (outs / "segmented_outputs").is_dir() else None


def _find_bins(place: Path, bin_um: float | None) -> tuple[Path, float | None]:
    if _BIN_FOLDER.match(place.name):
        return place, bin_um
    outs = outs_in(place)
    binned = outs / "binned_outputs" if (outs / "binned_outputs").is_dir() else outs
    sizes = {
        int(match[1]): folder
        for folder in (sorted(binned.iterdir()) if binned.is_dir() else [])
        if (match := _BIN_FOLDER.match(folder.name))
    }
    if not sizes:
        raise SpotTableError(
            expected=f"binned_outputs/square_008um (or 002, 016) in {place}",
            found="none",
            remedy="give the outs folder, or segmented_outputs itself",
        )
    if bin_um is None and len(sizes) == 1:
        return next(iter(sizes.values())), None
    if bin_um is None or bin_um not in sizes:
        found = "none" if bin_um is None else f"{bin_um:g}"
        raise SpotTableError(
            expected=f"the manifest's column bin_um to be one of {', '.join(map(str, sizes))} as in {binned}",
            found=found,
        )
    return sizes[int(bin_um)], bin_um


def _read_scale(path: Path | Packed) -> tuple[ScaleHints, float]:
    """Scale of the bins, and their side in um; the file's two statements of mpp are both kept."""
    values = read_json(path)
    found = {
        name: positive_number(values, name, path)
        for name in ("bin_size_um", "microns_per_pixel", "spot_diameter_fullres")
    }
    side, mpp, diameter = found.values()
    if side is None or mpp is None:
        missing = ", ".join(
            name for name in ("bin_size_um", "microns_per_pixel") if not found[name]
        )
        raise SpotTableError(expected=f"{missing} in {path}", found=", ".join(sorted(values)))
    sources = {"microns_per_pixel of Visium HD": mpp}
    if diameter is not None:
        sources[f"bin of {side:g} um = {diameter:.5g} px"] = side / diameter
    scales = copy_scales(values, path)
    hints = ScaleHints(
        mpp=sources,
        spot_pitch_um=side,
        spot_diameter_um=side,
        image_scales=scales,
        full_size_px0=full_size(path, scales),
    )
    return hints, side


def _pool_bins(
    table: SpotTable, side: float, pitch: float, diameter: float, grid: Grid
) -> SpotTable:
    """Sum bins into spots; the grid is laid in the array's own plane and carried to pixels."""
    if table.array_xy is None:
        raise SpotTableError(f"expected array_row and array_col of the bins in {table.source}")
    plane = (table.array_xy + 0.5) * side
    pooled = pool_points(
        plane,
        table.counts,
        pitch_um=pitch,
        diameter_um=diameter if diameter < pitch else None,
        kind=grid,
        origin_um=(pitch / 2, pitch / 2),
    )
    ones = np.ones((len(plane), 1))
    to_px, *_ = np.linalg.lstsq(np.hstack([plane, ones]), table.xy_px0, rcond=None)
    xy_px0 = np.hstack([pooled.xy_um, np.ones((len(pooled.xy_um), 1))]) @ to_px
    hints = ScaleHints(
        mpp=table.hints.mpp,
        spot_pitch_um=pitch,
        spot_diameter_um=diameter,
        image_scales=table.hints.image_scales,
        full_size_px0=table.hints.full_size_px0,
    )
    return pooled_table(table, pooled, xy_px0, hints, "bins", {})


def cell_pitch(source: SpotSource, folder: Path) -> float:
    """Distance in microns of the spots into which cells are pooled.

    Raises:
        SpotTableError: the manifest does not state it.
    """
    if source.spot_pitch_um is None:
        raise SpotTableError(
            expected=f"spot_pitch_um in the manifest to pool the cells of {folder} into spots",
            found="none",
        )
    return source.spot_pitch_um


def pooled_table(
    table: SpotTable,
    pooled: Pooled,
    xy_px0: npt.NDArray[np.float64],
    hints: ScaleHints,
    what: str,
    dropped: dict[str, int],
) -> SpotTable:
    """The spots of a pooling as a table; obs says how many points each holds."""
    barcodes = np.array([f"{x}x{y}" for x, y in pooled.grid_xy.tolist()])
    return SpotTable(
        source=table.source,
        barcodes=barcodes,
        xy_px0=xy_px0,
        counts=pooled.counts,
        genes=table.genes,
        array_xy=pooled.grid_xy.astype(np.float64),
        missing_genes=table.missing_genes,
        hints=hints,
        obs=pd.DataFrame({f"n_{what}": pooled.n_points}, index=barcodes.astype(object)),
        dropped={**table.dropped, **dropped, f"{what} between the spots": pooled.n_outside},
    )


def _read_cells(folder: Path, source: SpotSource) -> SpotTable:
    """Segmented cells, by the centre of their outline in pixels of the full image, pooled into spots."""
    pitch = cell_pitch(source, folder)
    _, factors_file = _find_scale(folder)
    values = read_json(factors_file)
    mpp = positive_number(values, "microns_per_pixel", factors_file)
    if mpp is None:
        raise SpotTableError(
            expected=f"microns_per_pixel in {factors_file}", found=", ".join(sorted(values))
        )
    matrix_path = folder / "filtered_feature_cell_matrix.h5"
    if not matrix_path.exists() and matrix_path.with_suffix("").is_dir():
        matrix_path = matrix_path.with_suffix("")
    matrix = read_matrix(matrix_path)
    centres = read_outlines(folder / "cell_segmentations.geojson")
    numbers = [_cell_number(name) for name in matrix.barcodes]
    kept = np.array([number in centres for number in numbers])
    if not kept.any():
        raise SpotTableError(
            expected=f"the cells of {folder} in cell_segmentations.geojson",
            found=f"none in common (the matrix has {matrix.barcodes[0]})",
        )
    xy_px0 = np.array([centres[n] for n, ok in zip(numbers, kept, strict=True) if ok])
    cells = SpotTable(
        source=str(folder),
        barcodes=matrix.barcodes[kept],
        xy_px0=xy_px0,
        counts=matrix.counts[kept],
        genes=matrix.genes,
        missing_genes="unmeasured" if matrix.targeted else "zero",
        dropped=matrix.dropped,
    )
    diameter = source.spot_diameter_um or pitch
    pooled = pool_points(
        xy_px0 * mpp,
        cells.counts,
        pitch_um=pitch,
        diameter_um=diameter,
        kind=source.grid or "hexagonal",
    )
    hints = ScaleHints(
        mpp={"microns_per_pixel of Visium HD": mpp}, spot_pitch_um=pitch, spot_diameter_um=diameter
    )
    missing = {"cells without an outline": int((~kept).sum())}
    return pooled_table(cells, pooled, pooled.xy_um / mpp, hints, "cells", missing)


def _find_scale(folder: Path) -> tuple[Path, Path]:
    for spatial in (folder / "spatial", folder.parent / "spatial"):
        path = spatial / "scalefactors_json.json"
        if path.is_file():
            return spatial, path
    raise SpotTableError(expected=f"scalefactors_json.json in {folder / 'spatial'}", found="none")


def _cell_number(name: str) -> int:
    match = _CELL_NUMBER.search(str(name))
    return int(match[1]) if match else -1


def recognise(path: Path) -> Recognised | None:
    """Output with bins or segmented cells; of several sizes the bins of 8 um, since 2 um bins are ten million."""
    if not path.is_dir():
        return None
    outs = outs_in(path)
    folder = outs / "binned_outputs" if (outs / "binned_outputs").is_dir() else outs
    own = [outs.name] if outs.name.startswith("square_") else []
    names = own + sorted(p.name for p in folder.glob("square_*um"))
    if len(names) > 1 and "square_008um" in names:
        note = f"looked at the bins of 8 um, out of {', '.join(names)}; set bin_um in a manifest"
        return Recognised({"bin_um": 8.0}, (note,))
    if names:
        return Recognised()
    cells = outs.name == "segmented_outputs" or (outs / "segmented_outputs").is_dir()
    return Recognised({"spot_pitch_um": LOOK_PITCH_UM}, (LOOK_NOTE,)) if cells else None


READER = Reader(
    read, columns=("expression", "bin_um", "library"), folders=True, recognise=recognise
)
