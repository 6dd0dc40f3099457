"""Reader of Space Ranger's outs (Visium), versions 1 to 4; the full image is given apart."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.errors import SpotTableError
from hespotex.spots.aggr import chosen_ending, endings, own_folder, positions_of
from hespotex.spots.base import Joined, Reader, RoughScale, ScaleHints, SpotSource, SpotTable
from hespotex.spots.counts import check_names
from hespotex.spots.scale_factors import copy_scales, full_size
from hespotex.spots.ten_x import FeatureMatrix, find_one, outs_in, read_matrix, recognise_matrix
from hespotex.spots.text import (
    number_column,
    positive_number,
    read_json,
    read_parquet,
    read_table,
    truth_column,
)
from hespotex.storage.disk_errors import disk_fields
from hespotex.storage.file_kinds import HEAD_BYTES, kind_of, read_kind
from hespotex.storage.text_files import TEXT_ENDINGS, Packed

# The physical array of every Visium slide (6.5 and 11 mm).
PITCH_UM = 100.0
DIAMETER_UM = 55.0
SPOT_DIAMETER = "spot_diameter_fullres (65 um)"
POSITION_COLUMNS = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)
_POSITIONS = (
    "tissue_positions.csv",
    "tissue_positions.csv.gz",
    "tissue_positions_list.csv",
    "tissue_positions_list.csv.gz",
    "tissue_positions.parquet",
)
# Space Ranger puts it beside the counts of FFPE and CytAssist samples: genes without a probe were not looked for.
_PROBES = "probe_set.csv"
_FACTORS = ("scalefactors_json.json", "scalefactors_json.json.gz")
# Counts of spots that the positions place outside the tissue: more than this is another sample.
_MOST_OUTSIDE = 0.05
# Spots of a whole array, and the share of it that is all of it.
_ARRAY, _WHOLE = 4000, 0.95
_FEWEST = 20

Spatial = tuple[Path | Packed, Path | Packed | None]


def read(source: SpotSource) -> SpotTable:
    """Read an outs folder (or the matrix in it), with `spatial/` inside, beside or in a tar.gz.

    `spots` may name the spatial folder, its archive or the positions file; without `expression` the
    positions in the tissue are returned alone.

    Raises:
        SpotTableError: a part is missing or malformed, or positions and counts are of two samples.
    """
    outs = _outs_folder(source)
    matrix_path = _find_matrix(source.expression) if source.expression is not None else None
    prefix = _prefix(source.expression) if source.spots is None else ""
    matrix, ending = None, None
    if matrix_path is not None:
        matrix, ending = one_matrix(read_matrix(matrix_path), source.library, outs, matrix_path)
    own = own_folder(outs, ending) if source.spots is None else None
    inside = own is not None and find_one(own, "tissue_positions.csv", _POSITIONS) is not None
    place = own if own is not None and inside else source.spots or outs
    positions_file, factors_file = find_spatial(place, prefix)
    if factors_file is None and own is not None:
        factors_file = find_one(own, "scalefactors_json.json", _FACTORS)
    positions = positions_of(
        read_positions(positions_file), ending, source.library, outs, str(positions_file)
    )
    hints = read_scale(factors_file)
    if matrix is None:
        positions = positions[positions["in_tissue"] == 1]
        return _table(positions, None, hints, str(positions_file), {})
    if (outs / _PROBES).is_file():
        matrix = replace(matrix, targeted=True)
    filtered = "raw_feature" not in str(matrix_path)
    return join_positions(matrix, positions, hints, str(matrix_path), filtered=filtered)


def one_matrix(
    matrix: FeatureMatrix, wanted: str | None, outs: Path, path: Path
) -> tuple[FeatureMatrix, str | None]:
    """The counts of one library and the ending of its barcodes; None for a matrix of one library.

    Raises:
        SpotTableError: `aggr` joined several, and none is chosen.
    """
    found = endings(matrix.barcodes)
    ending = chosen_ending(found, wanted, outs, str(path))
    if ending is None:
        return matrix, None
    kept = found == ending
    counts = matrix.counts if kept.all() else matrix.counts[kept]
    return replace(matrix, barcodes=matrix.barcodes[kept], counts=counts), ending


def join_positions(
    matrix: FeatureMatrix,
    positions: pd.DataFrame,
    hints: ScaleHints,
    source: str,
    *,
    filtered: bool = True,
) -> SpotTable:
    """Join counts and positions on the barcode; the order is that of the counts.

    Raises:
        SpotTableError: no barcode in common, or many filtered barcodes lie outside the tissue.
    """
    barcodes, known = matrix.barcodes, pd.Index(positions["barcode"])
    rows = known.get_indexer(pd.Index(barcodes))
    if (rows < 0).all():  # one of the two files lost its "-1"
        bare = known.str.replace(r"-[0-9]+$", "", regex=True)
        own = pd.Index(barcodes).str.replace(r"-[0-9]+$", "", regex=True)
        if bare.is_unique and own.is_unique:
            rows = bare.get_indexer(own)
    kept = rows >= 0
    if not kept.any():
        raise SpotTableError(
            expected=f"barcodes of {source} in the positions",
            found=f"none in common (counts have {barcodes[0]}, positions have {known[0]})",
            remedy="give the spatial folder of this sample",
        )
    found = positions.iloc[rows[kept]]
    outside = (found["in_tissue"] == 0).to_numpy()
    if filtered and outside.mean() > _MOST_OUTSIDE:
        raise SpotTableError(
            expected=f"the filtered spots of {source} in the tissue",
            found=f"{int(outside.sum())} of {len(found)} marked outside by the positions",
            remedy="give the spatial folder of this sample",
        )
    dropped = dict(matrix.dropped)
    dropped["counts without a position"] = int((~kept).sum())
    dropped["spots outside the tissue (in_tissue = 0)"] = int(outside.sum())
    n_inside = int((positions["in_tissue"] == 1).sum())
    dropped["positions without counts"] = n_inside - int((~outside).sum())
    joined = Joined(
        n_counts=len(barcodes) if filtered else int((~outside).sum()),
        counts_alone=len(barcodes) - int((~outside).sum()) if filtered else 0,
        n_positions=n_inside,
        positions_alone=dropped["positions without counts"],
        exact=filtered,
        whole_array=len(positions) > _ARRAY and n_inside > _WHOLE * len(positions),
        deeper_inside=None if filtered else _deeper_inside(matrix, kept, outside),
    )
    places = np.flatnonzero(kept)[~outside]
    whole = len(places) == len(barcodes)  # a copy of a large matrix is memory
    counts = matrix.counts if whole else matrix.counts[places]
    taken = FeatureMatrix(barcodes[places], matrix.genes, counts, {}, matrix.targeted)
    return replace(_table(found[~outside], taken, hints, source, dropped), joined=joined)


def _deeper_inside(
    matrix: FeatureMatrix, kept: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_]
) -> float | None:
    """Chance that a spot in the tissue has more counts than one outside; None where too few lie outside."""
    from scipy.stats import rankdata

    n_out, n_in = int(outside.sum()), int((~outside).sum())
    if min(n_out, n_in) < _FEWEST:
        return None
    depth = np.asarray(matrix.counts.sum(axis=1), dtype=np.float64).ravel()[kept]
    ranks = rankdata(depth)[~outside].sum()
    return float((ranks - n_in * (n_in + 1) / 2) / (n_in * n_out))


def _table(
    positions: pd.DataFrame,
    matrix: FeatureMatrix | None,
    hints: ScaleHints,
    source: str,
    dropped: dict[str, int],
) -> SpotTable:
    def pair(x: str, y: str) -> npt.NDArray[np.float64]:
        return positions[[x, y]].to_numpy(np.float64)

    barcodes = positions["barcode"].to_numpy(dtype=str) if matrix is None else matrix.barcodes
    return SpotTable(
        source=source,
        barcodes=barcodes,
        xy_px0=pair("pxl_col_in_fullres", "pxl_row_in_fullres"),
        counts=matrix.counts if matrix is not None else None,
        genes=matrix.genes if matrix is not None else None,
        array_xy=pair("array_col", "array_row"),
        hints=hints,
        missing_genes="unmeasured" if matrix is not None and matrix.targeted else "zero",
        dropped=dropped,
    )


def _prefix(matrix: Path | None) -> str:
    """The sample's name in front of the name of its matrix; empty where there is none."""
    if matrix is None or matrix.is_dir():
        return ""
    name, found, _ = matrix.name.partition("filtered_feature_bc_matrix")
    for part in ("raw_feature_bc_matrix", "matrix.mtx"):
        if not found:
            name, found, _ = matrix.name.partition(part)
    return name if found else ""


def find_spatial(place: Path, prefix: str = "") -> Spatial:
    """Positions and scale factors in a folder, in `spatial/` inside it, in an archive, or a file itself.

    Raises:
        SpotTableError: no positions there.
    """
    if place.is_file() and not place.name.endswith((".tar.gz", ".tgz", ".tar")):
        return place, find_one(place.parent, "scalefactors_json.json", _FACTORS)
    if place.is_file():
        return _unpack(place)
    folders = [place / "spatial", place]
    folders += sorted(p for p in place.iterdir() if p.is_dir() and p.name.endswith("_spatial"))
    if prefix:  # of several samples in one folder, this one's
        folders = [place / f"{prefix}spatial", *folders]
    for folder in folders:
        if folder.is_dir():
            positions = find_one(folder, "tissue_positions.csv", _POSITIONS, prefix)
            if positions is not None:
                return positions, find_one(folder, "scalefactors_json.json", _FACTORS, prefix)
    endings = ("spatial.tar.gz", "spatial.tgz", "spatial.tar")
    archive = find_one(place, "spatial.tar.gz", endings, prefix)
    if archive is not None:
        return _unpack(archive)
    raise SpotTableError(
        expected=f"{_POSITIONS[0]} or {_POSITIONS[2]} in {place / 'spatial'}",
        found="neither, and no spatial.tar.gz",
        remedy="give the folder in the manifest's column spots",
    )


def _unpack(archive: Path) -> Spatial:
    """The two files of an archive, read into memory; nothing is written."""
    found: dict[str, Packed] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                for ending in (*_POSITIONS, *_FACTORS):
                    stream = tar.extractfile(member) if name.endswith(ending) else None
                    if stream is not None and not name.startswith("._"):
                        found[ending] = Packed(f"{archive}/{member.name}", stream.read())
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        kind = read_kind(archive)
        damaged = "it is cut short or damaged: copy it again"
        expected = f"a whole archive at {archive}"
        if kind is not None and kind.name not in {"tar", "gzip", "bzip2", "xz"}:
            raise SpotTableError(expected=expected, **kind.fields(archive)) from error
        said = disk_fields(error, otherwise=damaged)
        raise SpotTableError(
            expected=expected, found=said["cause"], remedy=said["remedy"]
        ) from error
    positions = next((found[name] for name in _POSITIONS if name in found), None)
    if positions is None:
        raise SpotTableError(expected=f"{_POSITIONS[0]} in {archive}", found="none")
    return positions, next((found[name] for name in _FACTORS if name in found), None)


def read_positions(path: Path | Packed) -> pd.DataFrame:
    """Positions with the columns of `POSITION_COLUMNS`: csv with or without header, or parquet.

    Whether there is a header is told by the first cell, not by the name of the file.

    Raises:
        SpotTableError: a column is missing, a value is no number, a barcode occurs twice.
    """
    name = str(path)
    if _is_parquet(path):
        table = _read_parquet(path)
    else:
        table = read_table(path, POSITION_COLUMNS, unless_header="barcode")
    checked = pd.DataFrame({"barcode": table["barcode"].astype(str)})
    checked["in_tissue"] = truth_column(table, "in_tissue", path).astype(np.int64)
    for column in POSITION_COLUMNS[2:]:
        checked[column] = number_column(table, column, path)
    if not (checked["in_tissue"] == 1).any():
        raise SpotTableError(
            expected=f"spots in the tissue in {path}",
            found="in_tissue = 0 for all",
            remedy="mark the spots in the tissue with 1",
        )
    check_names(checked["barcode"].to_numpy(dtype=str), "spot", name)
    return checked


def _read_parquet(path: Path | Packed) -> pd.DataFrame:
    table = read_parquet(path)
    if "barcode" not in table and table.index.name == "barcode":
        table = table.reset_index()
    missing = [column for column in POSITION_COLUMNS if column not in table]
    if missing:
        raise SpotTableError(
            expected=f"the columns {', '.join(POSITION_COLUMNS)} in {path}",
            found=", ".join(map(str, table)),
            remedy=f"add {', '.join(missing)}",
        )
    return table


def _is_parquet(path: Path | Packed) -> bool:
    """By the first bytes, whatever the name says; by the name where there is no such file, which then is said."""
    if isinstance(path, Packed):
        kind = kind_of(path.content[:HEAD_BYTES])
    else:
        try:
            kind = read_kind(path)
        except OSError:
            return path.suffix == ".parquet"
    return kind is not None and kind.name == "parquet"


def read_scale(path: Path | Packed | None) -> ScaleHints:
    """Scale of Visium: pitch 100 um, spot 55 um, and a rough mpp from the diameter."""
    if path is None:
        return ScaleHints(spot_pitch_um=PITCH_UM, spot_diameter_um=DIAMETER_UM)
    values = read_json(path)
    diameter = positive_number(values, "spot_diameter_fullres", path)
    scales = copy_scales(values, path)
    rough = {SPOT_DIAMETER: RoughScale.of_spot_diameter(diameter)} if diameter else {}
    return ScaleHints(
        rough_mpp=rough,
        spot_pitch_um=PITCH_UM,
        spot_diameter_um=DIAMETER_UM,
        image_scales=scales,
        full_size_px0=full_size(path, scales),
    )


def _outs_folder(source: SpotSource) -> Path:
    place = source.expression or source.spots
    if place is None:
        raise SpotTableError(
            expected="Space Ranger's outs folder in the manifest's column expression", found="none"
        )
    if (place / "binned_outputs").is_dir():
        raise SpotTableError(
            expected=f"Visium outs at {place}",
            found="binned_outputs of Visium HD",
            remedy="set the format to visium_hd",
        )
    if place.is_file() or "feature_bc_matrix" in place.name:
        return place.parent
    if not place.is_dir():
        raise SpotTableError(expected=f"a folder at {place}", found="nothing")
    return outs_in(place)


def _find_matrix(place: Path) -> Path:
    """The matrix that is meant by a file, a matrix folder or an outs folder; filtered before raw."""
    if place.is_file() or find_one(
        place, "matrix.mtx", tuple(f"matrix.mtx{e}" for e in TEXT_ENDINGS)
    ):
        return place
    folder = outs_in(place)
    # What is packed is found, too, so that the reader says how to unpack it.
    names = [
        f"{kind}_feature_bc_matrix{ending}"
        for kind in ("filtered", "raw")
        for ending in (".h5", "", ".h5.gz", ".tar.gz")
    ]
    for name in names:
        found = find_one(folder, name, (name,))
        if found is not None:
            return found
    raise SpotTableError(
        expected=f"filtered_feature_bc_matrix.h5, or the folder of that name, in {folder}",
        found=", ".join(sorted(p.name for p in folder.iterdir()))[:200] or "nothing",
    )


READER = Reader(
    read, columns=("expression", "spots", "library"), folders=True, recognise=recognise_matrix
)
