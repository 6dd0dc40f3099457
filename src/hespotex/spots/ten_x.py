"""The feature-barcode matrix of 10x Genomics: one HDF5 file, or a folder of three."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import SpotTableError
from hespotex.spots.base import Recognised
from hespotex.spots.counts import check_counts, distinct_names, is_control
from hespotex.spots.sparse_reading import read_compressed, read_matrix_market
from hespotex.storage.hdf5 import open_h5
from hespotex.storage.text_files import TEXT_ENDINGS, open_text

_GENES = "Gene Expression"
# What stands above ids or barcodes where R or pandas wrote them with a header.
_HEADERS = {"", "x", "v1", "gene", "genes", "gene_id", "gene_ids", "id", "feature", "features", "feature_id", "barcode",
            "barcodes", "cell", "spot"}  # fmt: skip


@dataclass(frozen=True)
class FeatureMatrix:
    """Raw counts of one matrix.

    Attributes:
        barcodes: (n,) as stored.
        genes: (g,) symbols; a symbol that two genes share is replaced by each one's id.
        counts: (n, g) raw counts.
        dropped: features that are no genes, and symbols replaced, by reason.
        targeted: whether the file says that its probes or baits ask for these genes alone.
    """

    barcodes: npt.NDArray[np.str_]
    genes: npt.NDArray[np.str_]
    counts: sparse.csr_matrix
    dropped: dict[str, int]
    targeted: bool = False


def outs_in(place: Path) -> Path:
    """The folder `outs` of a sample, where the sample's folder is given."""
    return place / "outs" if (place / "outs").is_dir() else place


def recognise_matrix(path: Path) -> Recognised | None:
    """A matrix in a file of its own, or a folder that holds one."""
    if path.is_file():
        known = "feature_bc_matrix.h5" in path.name or "matrix.mtx" in path.name
    else:
        outs = outs_in(path)
        known = any(outs.glob("*_feature_bc_matrix*")) or any(outs.glob("*matrix.mtx*"))
    return Recognised() if known else None


def read_matrix(path: Path) -> FeatureMatrix:
    """Read `*.h5`, or a folder with matrix.mtx, features.tsv or genes.tsv, barcodes.tsv (packed or not).

    The folder may be given by its `<sample>_matrix.mtx`: then the other two are of that sample.

    Raises:
        SpotTableError: missing, cut short, another layout, or no raw counts.
    """
    if path.is_dir():
        return _read_folder(path)
    prefix, found, _ = path.name.partition("matrix.mtx")
    if ".mtx" in path.name and not found:
        raise SpotTableError(
            expected=(
                "a matrix named SAMPLE_matrix.mtx with SAMPLE_features.tsv and SAMPLE_barcodes.tsv "
                "beside it"
            ),
            found=path,
            remedy="rename the three so",
        )
    return _read_folder(path.parent, prefix, path) if found else _read_h5(path)


def _read_h5(path: Path) -> FeatureMatrix:
    import h5py

    with open_h5(path, "a whole feature-barcode matrix at", SpotTableError) as file:
        groups = [name for name in file if isinstance(file[name], h5py.Group)]
        if "matrix" in file:
            group, kinds = file["matrix"], _text(file["matrix/features/feature_type"])
            ids, symbols = (_text(group[f"features/{name}"]) for name in ("id", "name"))
            asked = _asked_for(group["features"], len(ids), path)
        elif len(groups) == 1 and "gene_names" in file[groups[0]]:  # Space Ranger's elders
            group = file[groups[0]]
            ids, symbols = _text(group["genes"]), _text(group["gene_names"])
            kinds, asked = np.full(len(ids), _GENES), None
        else:
            raise SpotTableError(
                expected=f"a feature-barcode matrix in {path}",
                found=", ".join(file)[:100] or "nothing",
                remedy="give filtered_feature_bc_matrix.h5",
            )
        n_features, n_barcodes = (int(v) for v in group["shape"][:])
        matrix = read_compressed(
            group["data"], group["indices"], group["indptr"], (n_barcodes, n_features)
        )
        barcodes = _text(group["barcodes"])
    if asked is None:
        return _assemble(matrix, barcodes, ids, symbols, kinds, str(path))
    kept = asked | (kinds != _GENES)
    found = _assemble(matrix[:, kept], barcodes, ids[kept], symbols[kept], kinds[kept], str(path))
    left_out = {"genes that its probe set does not ask for": int((~kept).sum())}
    dropped = {reason: n for reason, n in {**found.dropped, **left_out}.items() if n}
    return replace(found, dropped=dropped, targeted=True)


def _asked_for(features: Any, n_features: int, path: Path) -> npt.NDArray[np.bool_] | None:
    """(n_features,) True where a probe or bait set asks for a feature; None where the file names no set."""
    sets = [np.asarray(indices[:]) for indices in features.get("target_sets", {}).values()]
    places = np.concatenate(sets) if sets else np.zeros(0, dtype=np.intp)
    if not len(places):
        return None
    if places.dtype.kind not in "iu" or places.min() < 0 or places.max() >= n_features:
        raise SpotTableError(
            expected=f"places of {n_features} features in target_sets of {path}",
            found="others",
            remedy="get the file again",
        )
    asked = np.zeros(n_features, dtype=bool)
    asked[places] = True
    return asked


def _read_folder(path: Path, prefix: str = "", matrix_path: Path | None = None) -> FeatureMatrix:
    found: dict[str, Path | None] = {}
    for part in ("matrix.mtx", "features.tsv", "genes.tsv", "barcodes.tsv"):
        names = tuple(f"{part}{ending}" for ending in TEXT_ENDINGS)
        own = [path / f"{prefix}{name}" for name in names]
        found[part] = (
            find_one(path, part, names)
            if matrix_path is None
            else next((file for file in own if file.is_file()), None)
        )
    features = found["features.tsv"] or found["genes.tsv"]
    matrix_path, barcodes_path = matrix_path or found["matrix.mtx"], found["barcodes.tsv"]
    if matrix_path is None or barcodes_path is None or features is None:
        raise SpotTableError(
            expected=f"{prefix}matrix.mtx, {prefix}features.tsv and {prefix}barcodes.tsv (.gz or not) in {path}",
            found=", ".join(sorted(p.name for p in path.iterdir()))[:200] or "nothing",
            remedy="put the three into one folder",
        )
    matrix = read_matrix_market(matrix_path)
    rows, barcode_rows = read_cells(features), read_cells(barcodes_path)
    if matrix.shape[0] != matrix.shape[1] and matrix.shape in _shapes(rows, barcode_rows):
        matrix = matrix.T.tocsr()  # scipy and scanpy write spots x genes, 10x the other way round
    rows = _without_header(rows, matrix.shape[1])
    barcode_rows = _without_header(barcode_rows, matrix.shape[0])
    barcodes = np.array([cells[0] for cells in barcode_rows], dtype=str)
    ids = np.array([cells[0] for cells in rows], dtype=str)
    symbols = np.array([cells[1] if len(cells) > 1 else cells[0] for cells in rows], dtype=str)
    kinds = np.array([cells[2] if len(cells) > 2 else _GENES for cells in rows], dtype=str)
    return _assemble(matrix, barcodes, ids, symbols, kinds, str(path))


def read_cells(path: Path) -> list[list[str]]:
    """Lines of a table of names, separated by tabs; by commas where every line has as many and none has a tab.

    Raises:
        SpotTableError: as `open_text`, or quotes that are not closed.
    """
    with open_text(path) as stream:
        lines = [line.rstrip("\n") for line in stream if line.strip()]
    commas = {line.count(",") for line in lines if '"' not in line}
    by_comma = not any("\t" in line for line in lines) and len(commas) < 2 and commas != {0}
    try:
        rows = list(csv.reader(lines, delimiter="," if by_comma else "\t", strict=True))
    except csv.Error as error:
        raise SpotTableError(
            expected=f"names separated by tabs in {path}", cause=error, remedy="remove the quotes"
        ) from error
    return [[cell.strip() for cell in cells] for cells in rows]


def _shapes(rows: list[list[str]], barcode_rows: list[list[str]]) -> set[tuple[int, int]]:
    """Shapes of features x barcodes that the names may stand for, with and without a header above them."""
    return {
        (len(rows) - a, len(barcode_rows) - b)
        for a in range(1 + _is_header(rows))
        for b in range(1 + _is_header(barcode_rows))
    }


def _is_header(rows: list[list[str]]) -> bool:
    return bool(rows) and rows[0][0].lower() in _HEADERS


def _without_header(rows: list[list[str]], n: int) -> list[list[str]]:
    """The `n` rows below a header, where that is what the one too many is."""
    return rows[1:] if len(rows) == n + 1 and _is_header(rows) else rows


def find_one(folder: Path, what: str, endings: tuple[str, ...], prefix: str = "") -> Path | None:
    """The one file or folder in `folder` whose name ends so; the first ending that is met counts.

    Names may carry a sample's name in front: `<sample>_matrix.mtx.gz`; with `prefix` that sample's counts.

    Raises:
        SpotTableError: several samples lie in one folder.
    """
    for ending in endings:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.name == ending or path.name.endswith((f"_{ending}", f".{ending}", f"-{ending}"))
        )
        exact = [path for path in found if path.name == (f"{prefix}{ending}" if prefix else ending)]
        if len(exact or found) > 1:
            raise SpotTableError(
                expected=f"one {what} in {folder}",
                found=", ".join(p.name for p in found),
                remedy="give every sample a folder of its own",
            )
        if found:
            return (exact or found)[0]
    return None


def _assemble(
    matrix: sparse.csr_matrix,
    barcodes: npt.NDArray[np.str_],
    ids: npt.NDArray[np.str_],
    symbols: npt.NDArray[np.str_],
    kinds: npt.NDArray[np.str_],
    source: str,
) -> FeatureMatrix:
    if matrix.shape != (len(barcodes), len(ids)):
        raise SpotTableError(
            expected=f"{len(barcodes)} barcodes x {len(ids)} features in {source} as its names say",
            found=f"{matrix.shape[0]} x {matrix.shape[1]}",
            remedy="the files may be of different samples",
        )
    dropped: dict[str, int] = {}
    is_gene = (kinds == _GENES) & ~is_control(symbols)
    if not is_gene.all():
        if not is_gene.any():
            raise SpotTableError(
                expected=f"features of type {_GENES} in {source}",
                found=", ".join(sorted(set(kinds.tolist()))),
            )
        dropped["features that are no genes"] = int((~is_gene).sum())
        matrix, ids, symbols = matrix[:, is_gene], ids[is_gene], symbols[is_gene]
    genes, n_shared = distinct_names(symbols, ids)
    if n_shared:
        dropped["doubled gene symbols (named by their id, kept)"] = n_shared
    counts = check_counts(matrix, genes, barcodes, source)
    return FeatureMatrix(barcodes, genes, counts, dropped)


def _text(dataset: Any) -> npt.NDArray[np.str_]:
    values = dataset[:]
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype=str)
