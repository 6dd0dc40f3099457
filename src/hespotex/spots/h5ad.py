"""Reader of h5ad files: obsm["spatial"] and raw counts, as scanpy writes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex import keys
from hespotex.errors import SpotTableError
from hespotex.spots.anndata_elements import (
    gene_names,
    index_key,
    read_columns,
    read_matrix,
    without_images,
)
from hespotex.spots.base import Reader, Recognised, RoughScale, ScaleHints, SpotSource, SpotTable
from hespotex.spots.counts import check_counts, find_count_problem, is_control
from hespotex.spots.libraries import COLUMNS, one_library
from hespotex.spots.other_anndata import as_written_today, is_old, is_zarr_table, other_format
from hespotex.spots.text import truth_values
from hespotex.storage.disk_errors import DAMAGED, cause_of, remedy_of
from hespotex.storage.hdf5 import open_h5
from hespotex.storage.safe_names import shown_name

# The printed array of every Visium slide.
_VISIUM_PITCH_UM = 100.0
# Why a spot is left out that its file marks so.
OUTSIDE_TISSUE = "spots outside the tissue (in_tissue = 0)"
_SAYS_NOTHING = ("", "nan", "na", "<na>", "none")
_KEPT_UNS = ("spatial", keys.UNS)
# Columns of positions that are stored as a table.
_XY_NAMES = (
    ("x", "y"), ("pxl_col_in_fullres", "pxl_row_in_fullres"), ("imagecol", "imagerow"), ("x_centroid", "y_centroid"),
    ("pixel_x", "pixel_y"),
)  # fmt: skip
# Where raw counts lie in some files, if in none of the usual places.
OTHER_LAYERS = ("raw_counts", "raw", "count")


@dataclass(frozen=True)
class H5adParts:
    """What a section needs of an AnnData file.

    Attributes:
        obs: (n, ...) table, index = barcodes.
        spatial: (n, 2) as stored, x then y; None if there is none.
        counts: (n, g) raw counts; None if the file has no genes.
        genes: (g,) names; None if the file has no genes.
        uns: `uns["spatial"]` and `uns["hespotex"]`, without the images.
        dropped: columns that were left out or renamed, by reason.
    """

    obs: pd.DataFrame
    spatial: npt.NDArray[np.float64] | None
    counts: sparse.csr_matrix | None
    genes: npt.NDArray[np.str_] | None
    uns: Mapping[str, Any]
    dropped: Mapping[str, int] = field(default_factory=dict)


def read(source: SpotSource) -> SpotTable:
    """Read an h5ad whose `obsm["spatial"]` holds level-0 pixels.

    Counts are `layers["counts"]`, else X, else `raw.X`: the first that is raw. A file without genes,
    or one given in `spots` with no `expression`, gives positions alone.

    Raises:
        SpotTableError: no AnnData file, cut short, no positions, no raw counts.
    """
    path = source.expression or source.spots
    if path is None:
        raise SpotTableError(
            expected="an h5ad file in the manifest's column expression", found="none"
        )
    parts = read_parts(path, with_counts=source.expression is not None, library=source.library)
    return build_table(parts, path, hints=_hints(parts.uns, _library(parts, source.library)))


def _library(parts: H5adParts, wanted: str | None) -> str | None:
    """Which library of `uns["spatial"]` the spots are of, where it holds several; None where that is not said."""
    listed = _listed_libraries(parts.uns)
    if len(listed) < 2 or wanted in listed:
        return wanted if len(listed) > 1 else None
    for name in COLUMNS:
        if name in parts.obs:
            values = set(parts.obs[name].astype(str).tolist())
            if len(values) == 1 and values <= set(listed):
                return str(values.pop())
    return None


def _listed_libraries(uns: Mapping[str, Any]) -> list[str]:
    libraries = uns.get("spatial")
    return list(map(str, libraries)) if isinstance(libraries, Mapping) else []


def build_table(parts: H5adParts, path: Path, *, hints: ScaleHints) -> SpotTable:
    """Put the parts together; spots marked as not in the tissue are left out and counted."""
    if parts.spatial is None:
        raise SpotTableError(
            expected=f"spot centres in obsm['spatial'] of {path}",
            found="none",
            remedy="store x, y in pixels of the full-resolution image there",
        )
    obs, spatial, counts = parts.obs, parts.spatial, parts.counts
    dropped = dict(parts.dropped)
    if "in_tissue" in obs:
        kept = is_in_tissue(obs["in_tissue"], str(path))
        if not kept.all():
            dropped[OUTSIDE_TISSUE] = int((~kept).sum())
            obs, spatial = obs[kept], spatial[kept]
            counts = counts[kept] if counts is not None else None
    return SpotTable(
        source=str(path),
        barcodes=np.array(obs.index.astype(str), dtype=str),
        xy_px0=spatial,
        counts=counts,
        genes=parts.genes,
        array_xy=array_places(obs),
        hints=hints,
        obs=obs if len(obs.columns) else None,
        dropped=dropped,
    )


def is_in_tissue(column: pd.Series, source: str) -> npt.NDArray[np.bool_]:
    """(n,) whether spots lie in the tissue, by truth values as in files of spots; what says nothing is inside.

    Raises:
        SpotTableError: values that are neither.
    """
    known = truth_values(column)
    text = column.astype(str).astype(object).str.strip()
    unknown = (known.isna() & ~text.str.lower().isin(_SAYS_NOTHING)).to_numpy(bool)
    if unknown.any():
        values = sorted(set(text[unknown].tolist()))
        shown = ", ".join(shown_name(value) for value in values[:4])
        raise SpotTableError(
            expected=f"0 or 1 in obs['in_tissue'] of {source}",
            found=(
                f"{shown}{(' and others' if len(values) > 4 else '')} in {int(unknown.sum()):,} of "
                f"{len(text):,} spots"
            ),
            remedy="write 0 and 1, or remove this column",
        )
    return ~known.eq(False).to_numpy(bool)


def read_parts(path: Path, *, with_counts: bool = True, library: str | None = None) -> H5adParts:
    """Read obs, obsm["spatial"], raw counts and the small entries of uns; X never becomes dense.

    Raises:
        SpotTableError: no AnnData file, cut short, no raw counts in it, or several sections and no `library` chosen.
    """
    if is_zarr_table(path):
        return _read_store(path, with_counts=with_counts, library=library)
    with warnings.catch_warnings(), open_h5(path, "a whole h5ad file at", SpotTableError) as file:
        # As all files of before anndata 0.8 are.
        warnings.filterwarnings("ignore", "Element .* was written without encoding metadata")
        if not {"obs", "var"} <= set(file):
            raise SpotTableError(
                expected=f"an AnnData file at {path}", found=other_format(set(file), path)
            )
        if not is_old(file):
            return _take_parts(file, path, with_counts=with_counts, library=library)
        with as_written_today(path, _KEPT_UNS) as today:
            return _take_parts(today, path, with_counts=with_counts, library=library)


def _read_store(path: Path, *, with_counts: bool, library: str | None) -> H5adParts:
    try:
        with as_written_today(path, _KEPT_UNS) as today:
            return _take_parts(today, path, with_counts=with_counts, library=library)
    except SpotTableError:
        raise
    except Exception as error:  # zarr and its codecs raise their own kinds
        raise SpotTableError(
            expected=f"a whole AnnData store at {path}",
            found=f"one that cannot be read ({cause_of(error)})",
            remedy=remedy_of(error) or DAMAGED,
        ) from error


def _take_parts(file: Any, path: Path, *, with_counts: bool, library: str | None) -> H5adParts:
    obs, unread = read_columns(file["obs"])
    spatial = _spatial(file, len(obs), path)
    uns = {n: without_images(file[f"uns/{n}"]) for n in _KEPT_UNS if f"uns/{n}" in file}
    kept = one_library(
        obs.index.astype(str).to_numpy(dtype=str), obs, spatial,
        source=str(path), wanted=library, known=_listed_libraries(uns),
    )  # fmt: skip
    obs, spatial = obs[kept], None if spatial is None else spatial[kept]
    counts, genes = None, None
    dropped: dict[str, int] = {}
    if with_counts and len(file["var"][index_key(file["var"])]):
        counts, genes, dropped = _raw_counts(file, obs, kept, path)
    return H5adParts(obs, spatial, counts, genes, uns, {**dropped, **unread})


def _spatial(file: Any, n: int, path: Path) -> npt.NDArray[np.float64] | None:
    from anndata.io import read_elem

    if "obsm/spatial" not in file:
        return None
    values = read_elem(file["obsm/spatial"])
    if isinstance(values, pd.DataFrame):
        values = _x_then_y(values)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != n or array.shape[1] < 2:
        raise SpotTableError(
            expected=f"obsm['spatial'] of shape ({n}, 2) in {path}",
            found=array.shape,
            remedy="store x and y of every spot there",
        )
    if array.shape[1] > 2:
        raise SpotTableError(
            expected=f"x, y in obsm['spatial'] of {path}",
            found=f"{array.shape[1]} columns",
            remedy="keep x and y",
        )
    return array


def _x_then_y(table: pd.DataFrame) -> pd.DataFrame:
    """A table of positions in the order of its names; as it is where they do not tell."""
    names = [str(name).lower() for name in table.columns]
    for x, y in _XY_NAMES:
        if names.count(x) == names.count(y) == 1:
            return table.iloc[:, [names.index(x), names.index(y)]]
    return table


def _raw_counts(
    file: Any, obs: pd.DataFrame, kept: npt.NDArray[np.bool_], path: Path
) -> tuple[sparse.csr_matrix, npt.NDArray[np.str_], dict[str, int]]:
    def rows(name: str) -> sparse.csr_matrix:
        matrix = read_matrix(file[name])
        return matrix if kept.all() else matrix[kept]  # a copy of a large table is memory

    candidates = (
        (name, lambda name=name, var=var: (rows(name), gene_names(file[var])))
        for name, var in (
            ("layers/counts", "var"),
            ("X", "var"),
            ("raw/X", "raw/var"),
            *((f"layers/{layer}", "var") for layer in OTHER_LAYERS),
        )
        if name in file
    )
    return pick_raw_counts(candidates, np.array(obs.index.astype(str), dtype=str), str(path))


def pick_raw_counts(
    candidates: Iterable[tuple[str, Callable[[], tuple[sparse.csr_matrix, npt.NDArray[np.str_]]]]],
    barcodes: npt.NDArray[np.str_],
    source: str,
) -> tuple[sparse.csr_matrix, npt.NDArray[np.str_], dict[str, int]]:
    """The first candidate (name, reader of matrix and genes) that is raw counts, checked.

    Control probes are left out, and counted in the third value. A fault in a candidate named `layers/counts` is not passed over: who names it so means it.

    Raises:
        SpotTableError: none is; what each holds is said.
    """
    found: list[str] = []
    for name, load in candidates:
        try:
            matrix, genes = load()
        except TypeError as error:  # values of a type that is none of numbers
            found.append(f"{name} has {error}")
            continue
        except ValueError as error:
            raise SpotTableError(
                expected=f"a whole matrix in {name} of {source}",
                cause=cause_of(error),
                remedy=DAMAGED,
            ) from error
        kept = ~is_control(genes)
        if not kept.all():  # tables of imaging panels carry them along
            matrix, genes = matrix[:, kept], genes[kept]
        problem = find_count_problem(matrix, genes, barcodes)
        if problem is None:
            n_left_out = int((~kept).sum())
            dropped = {"features that are no genes": n_left_out} if n_left_out else {}
            return check_counts(matrix, genes, barcodes, f"{name} of {source}"), genes, dropped
        found.append(f"{name} has {problem.removesuffix('; give the raw counts')}")
        if name == "layers/counts":
            break
    raise SpotTableError(
        expected=f"raw counts in layers['counts'], X or raw.X of {source}",
        cause=" | ".join(found) or "none of the three",
        remedy="store the raw counts in layers['counts']",
    )


def array_places(obs: pd.DataFrame) -> npt.NDArray[np.float64] | None:
    """(n, 2) place in the array, from the columns of Space Ranger or our own; None if there are none."""
    for x, y in (("array_col", "array_row"), (keys.ARRAY_X, keys.ARRAY_Y)):
        if x in obs and y in obs:
            columns = [pd.to_numeric(obs[name], errors="coerce") for name in (x, y)]
            return np.column_stack([column.to_numpy(np.float64) for column in columns])
    return None


def _hints(uns: Mapping[str, Any], library: str | None = None) -> ScaleHints:
    """Scale that the file itself states: what hespotex wrote, or Space Ranger through scanpy."""
    mpp: dict[str, float] = {}
    rough: dict[str, RoughScale] = {}
    scales: dict[str, float] = {}
    full = None
    own = uns.get(keys.UNS)
    if isinstance(own, Mapping) and "mpp" in own:
        mpp["uns['hespotex']['mpp']"] = float(own["mpp"])
    libraries = uns.get("spatial")
    libraries = libraries if isinstance(libraries, Mapping) else {}
    if library is not None:
        libraries = {library: libraries[library]}
    for name, entry in sorted(libraries.items()):
        if not isinstance(entry, Mapping):
            continue
        factors = entry.get("scalefactors") or {}
        for key, label in (("tissue_hires_scalef", "hires"), ("tissue_lowres_scalef", "lowres")):
            if key in factors and len(libraries) == 1:
                scales[label] = _factor(factors, key, f"library {name}")
                full = full or _full_size((entry.get("images") or {}).get(label), scales[label])
        if "software_version" in (entry.get("metadata") or {}):
            stated, circle = _space_ranger_mpp(factors, f"library {name}")
            mpp.update(stated)
            rough.update(circle)
    # Bins and cells state their scale; what states a circle alone is the printed array of Visium.
    pitch = _VISIUM_PITCH_UM if rough and not mpp else None
    return ScaleHints(
        mpp=mpp, rough_mpp=rough, image_scales=scales, full_size_px0=full, spot_pitch_um=pitch
    )


def _full_size(shape: Any, scale: float) -> tuple[float, float] | None:
    """Width and height of the full image, from the shape of a copy of it."""
    return (shape[1] / scale, shape[0] / scale) if isinstance(shape, tuple) and scale > 0 else None


def _space_ranger_mpp(
    factors: Mapping[str, Any], whose: str
) -> tuple[dict[str, float], dict[str, RoughScale]]:
    """Exact and rough scales from Space Ranger's own factors; other tools store other circles under the same names.

    Raises:
        SpotTableError: a factor is no number above 0.
    """
    found: dict[str, float] = {}
    for name in ("microns_per_pixel", "bin_size_um", "spot_diameter_fullres"):
        if name in factors:
            found[name] = _factor(factors, name, whose)
    # Visium HD states it outright; tools that join bins into cells enlarge the diameter beside it.
    if "microns_per_pixel" in found:
        return {f"microns_per_pixel of {whose}": found["microns_per_pixel"]}, {}
    diameter, side = found.get("spot_diameter_fullres"), found.get("bin_size_um")
    if diameter is None:
        return {}, {}
    if side is not None:
        return {f"bin of {whose} ({side:g} um)": side / diameter}, {}
    return {}, {f"spot diameter of {whose} (65 um)": RoughScale.of_spot_diameter(diameter)}


def _factor(factors: Mapping[str, Any], name: str, whose: str) -> float:
    value = pd.to_numeric(factors[name], errors="coerce")
    if np.ndim(value) or not 0 < value < np.inf:
        raise SpotTableError(
            expected=f"{name} above 0 in the scalefactors of {whose}",
            found=factors[name],
            remedy="correct it there, or remove it if it is not known",
        )
    return float(value)


def recognise(path: Path) -> Recognised | None:
    """A file by its ending, or one table in Zarr."""
    is_file = path.is_file() and path.suffix == ".h5ad"
    return Recognised() if is_file or (path.is_dir() and is_zarr_table(path)) else None


READER = Reader(read, columns=("expression", "spots", "library"), recognise=recognise)
