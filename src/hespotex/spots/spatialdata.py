"""Reader of SpatialData stores: a table, the shapes it annotates, and the image they lie on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.errors import SpotTableError
from hespotex.slide import image_names, is_zarr
from hespotex.spots.anndata_elements import read_columns
from hespotex.spots.base import Reader, Recognised, ScaleHints, SpotSource, SpotTable
from hespotex.spots.h5ad import (
    OTHER_LAYERS,
    OUTSIDE_TISSUE,
    array_places,
    is_in_tissue,
    pick_raw_counts,
)
from hespotex.spots.libraries import one_library
from hespotex.spots.other_anndata import is_zarr_table
from hespotex.spots.sparse_reading import checked_csr
from hespotex.storage.disk_errors import DAMAGED, cause_of, disk_fields, remedy_of
from hespotex.storage.file_kinds import read_kind

_GLOBAL = "global"


def read(source: SpotSource) -> SpotTable:
    """Read one table of a store, with its spots in pixels of the image.

    The positions are the centres of the annotated shapes, carried by the store's transformations into
    the pixels of `image_element`; where the store has no image, into its `global` coordinate system,
    which then has to be level-0 pixels. Spots marked as not in the tissue are left out and counted.

    Raises:
        SpotTableError: no store, or an element is missing, ambiguous, or not raw counts.
    """
    path = source.expression
    if path is None:
        raise SpotTableError(
            expected="a SpatialData store in the manifest's column expression", found="none"
        )
    store, unread = _open(path)
    name = _choose(source.table_element, store.tables, "table", path)
    table = store.tables[name]
    table = _one_section(table, source.library, name, path)
    shapes, rows = _match_shapes(store, table, name, path)
    found = rows >= 0
    kept = found
    if "in_tissue" in table.obs:
        kept = found & is_in_tissue(table.obs["in_tissue"], f"table {name} of {path}")
    to_image = _to_pixels(store, shapes, source.image_element, path)
    centres = shapes.geometry.centroid
    xy = np.column_stack([centres.x, centres.y])[rows[kept]]
    xy_px0 = xy @ to_image[:2, :2].T + to_image[:2, 2]
    barcodes = np.array(table.obs_names.astype(str), dtype=str)
    counts, genes = None, None
    no_genes: dict[str, int] = {}
    if table.n_vars:
        counts, genes, no_genes = pick_raw_counts(
            _candidates(table), barcodes, f"table {name} of {path}"
        )
        counts = counts[kept]
    attributes = table.uns["spatialdata_attrs"]
    obs = table.obs[kept].drop(columns=[attributes["region_key"], attributes["instance_key"]])
    dropped = {
        **no_genes,
        **unread.get(name, {}),
        "counts without a shape": int((~found).sum()),
        "shapes without counts": len(shapes) - int(found.sum()),
        OUTSIDE_TISSUE: int((found & ~kept).sum()),
    }
    return SpotTable(
        source=str(path),
        barcodes=barcodes[kept],
        xy_px0=xy_px0,
        counts=counts,
        genes=genes,
        array_xy=array_places(obs),
        hints=ScaleHints(spot_diameter_px0=_diameter(shapes, to_image)),
        obs=obs if len(obs.columns) else None,
        dropped=dropped,
    )


def _match_shapes(
    store: Any, table: Any, name: str, path: Path
) -> tuple[Any, npt.NDArray[np.intp]]:
    """The shapes that a table annotates, and for each of its rows the place in them (-1: none)."""
    region, instances = _annotated(table, name, path)
    if region not in store.shapes:
        raise SpotTableError(
            expected=f"the shapes {region}, which table {name} of {path} annotates",
            found=", ".join(store.shapes) or "no shapes",
        )
    shapes = store.shapes[region]
    rows = pd.Index(shapes.index).get_indexer(pd.Index(instances))
    if (rows < 0).all():
        raise SpotTableError(
            expected=f"the spots of table {name} in the shapes {region} of {path}",
            found=f"none in common (the table has {instances[0]}, the shapes have {shapes.index[0]})",
        )
    return shapes, rows


def _open(path: Path) -> tuple[Any, dict[str, dict[str, int]]]:
    """The store, and by table what had to be left out of it."""
    import spatialdata

    if not path.is_dir():
        raise _no_store(path)
    if is_zarr_table(path):
        raise SpotTableError(
            expected=f"a SpatialData store at {path}",
            found="a single AnnData table",
            remedy="set the format to h5ad",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return spatialdata.read_zarr(path, selection=("images", "shapes", "tables")), {}
            except Exception:  # noqa: BLE001  one column that anndata does not know is enough
                store = spatialdata.read_zarr(path, selection=("images", "shapes"))
                return store, _read_tables(store, path)
    except Exception as error:  # zarr, arrow and dask each raise their own kinds
        raise SpotTableError(
            expected=f"a whole SpatialData store at {path}",
            found=f"one that cannot be read ({type(error).__name__}: {cause_of(error)})",
            remedy=remedy_of(error) or DAMAGED,
        ) from error


def _read_tables(store: Any, path: Path) -> dict[str, dict[str, int]]:
    """Put the tables into the store without the columns that cannot be read, which are named by table."""
    import zarr
    from anndata import AnnData
    from anndata.io import read_elem

    unread = {}
    for name, group in zarr.open_group(path / "tables", mode="r").groups():
        obs, unread[name] = read_columns(group["obs"])
        parts = {key: read_elem(group[key]) for key in ("X", "layers", "uns") if key in group}
        raw = None
        if "raw/X" in group:
            raw = {"X": read_elem(group["raw/X"]), "var": read_columns(group["raw/var"])[0]}
        store.tables[name] = AnnData(**parts, obs=obs, var=read_columns(group["var"])[0], raw=raw)
    return unread


def _no_store(path: Path) -> SpotTableError:
    """What lies in the place of a store; stores are passed on packed."""
    try:
        kind = read_kind(path)
    except OSError as error:
        return SpotTableError(
            expected=f"a SpatialData store (a .zarr folder) at {path}", **disk_fields(error)
        )
    expected = f"a SpatialData store (a .zarr folder) at {path}"
    if kind is None:
        return SpotTableError(expected=expected, found=f"a file: {path}")
    return SpotTableError(expected=expected, **kind.fields(path))


def _choose(wanted: str | None, elements: Mapping[str, Any], what: str, path: Path) -> str:
    names = list(elements)
    if wanted is not None and wanted not in names:
        raise SpotTableError(
            expected=f"the {what} {wanted} in {path}", found=", ".join(names) or "none"
        )
    if wanted is None and len(names) != 1:
        raise SpotTableError(
            expected=f"one {what} in {path}",
            found=", ".join(names) or "none",
            remedy=f"choose with the manifest's column {what}_element",
        )
    return wanted if wanted is not None else names[0]


def _annotated(table: Any, name: str, path: Path) -> tuple[str, npt.NDArray[Any]]:
    """Name of the shapes that the table annotates, and each row's entry in their index."""
    attributes = table.uns.get("spatialdata_attrs")
    if not attributes:
        raise SpotTableError(
            expected=f"table {name} of {path} to annotate shapes (uns['spatialdata_attrs'])",
            found="a table alone",
        )
    regions = table.obs[attributes["region_key"]].astype(str).unique().tolist()
    if len(regions) != 1:
        raise SpotTableError(
            expected=f"one section in table {name} of {path}",
            found=f"the regions {', '.join(sorted(regions))}",
            remedy="choose one with the manifest's column library (inspect and convert: --library)",
        )
    return regions[0], table.obs[attributes["instance_key"]].to_numpy()


def _one_section(table: Any, wanted: str | None, name: str, path: Path) -> Any:
    """The rows of the one section that is meant: a region (the shapes' name), or a library in one of them."""
    attributes = table.uns.get("spatialdata_attrs") or {}
    region = table.obs.get(attributes.get("region_key", ""), pd.Series(dtype=str)).astype(str)
    kept = one_library(
        table.obs_names.astype(str).to_numpy(dtype=str),
        table.obs.drop(columns=[attributes.get("instance_key", "")], errors="ignore"),
        None,
        source=f"table {name} of {path}",
        wanted=wanted,
        known=region.unique(),
    )
    return table if kept.all() else table[kept]


def _candidates(table: Any) -> list[tuple[str, Any]]:
    genes = np.array(table.var_names.astype(str), dtype=str)
    found: list[tuple[str, Any]] = []
    if "counts" in table.layers:
        found.append(("layers/counts", lambda: (checked_csr(table.layers["counts"]), genes)))
    if table.X is not None:
        found.append(("X", lambda: (checked_csr(table.X), genes)))
    if table.raw is not None:
        raw_genes = np.array(table.raw.var_names.astype(str), dtype=str)
        found.append(("raw/X", lambda: (checked_csr(table.raw.X), raw_genes)))
    for layer in OTHER_LAYERS:
        if layer in table.layers:
            found.append((f"layers/{layer}", lambda n=layer: (checked_csr(table.layers[n]), genes)))
    return found


def _to_pixels(
    store: Any, shapes: Any, image_element: str | None, path: Path
) -> npt.NDArray[np.float64]:
    """3 x 3 affine matrix from the shapes' own coordinates to pixels of the image."""
    from spatialdata.transformations import (
        get_transformation,
        get_transformation_between_coordinate_systems,
    )

    axes: Sequence[str] = ("x", "y")
    if image_element is None and not store.images:
        systems = get_transformation(shapes, get_all=True)
        if _GLOBAL not in systems:
            raise SpotTableError(
                expected=f"an image or the coordinate system {_GLOBAL} in {path}",
                found=", ".join(systems),
            )
        transformation = systems[_GLOBAL]
    else:
        image = store.images[_choose(image_element, store.images, "image", path)]
        try:
            transformation = get_transformation_between_coordinate_systems(store, shapes, image)
        except (RuntimeError, ValueError) as error:
            raise SpotTableError(
                expected=f"shapes and image of {path} in one coordinate system", cause=error
            ) from error
    matrix: npt.NDArray[np.float64] = np.asarray(
        transformation.to_affine_matrix(input_axes=axes, output_axes=axes), dtype=np.float64
    )
    return matrix


def _diameter(shapes: Any, to_image: npt.NDArray[np.float64]) -> float | None:
    """Diameter in pixels where the shapes are circles of one size."""
    if "radius" not in shapes or shapes["radius"].nunique() != 1:
        return None
    scale = float(np.sqrt(abs(np.linalg.det(to_image[:2, :2]))))
    return 2.0 * float(shapes["radius"].iloc[0]) * scale


def recognise(path: Path) -> Recognised | None:
    """A store with a table; a bare image in Zarr is a slide."""
    if not path.is_dir() or not is_zarr(path) or is_zarr_table(path):
        return None
    tables = path / "tables"
    if not tables.is_dir() or not any(tables.iterdir()):
        return None
    return Recognised(images={name: path / "images" / name for name in image_names(path)})


READER = Reader(
    read,
    columns=("expression", "image_element", "table_element", "library"),
    folders=True,
    recognise=recognise,
)
