"""Features in a store of LazySlide (wsidata): a table of tiles and the shapes that it annotates."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.storage.disk_errors import DAMAGED, cause_of, remedy_of

_TABLES = "tables"

Tiles = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], float]


def read_features_store(path: Path, *, section: str | None = None) -> Tiles:
    """Features of all tiles of one table, with the tiles' centres.

    Args:
        path: the store, or one of its tables (`slide.zarr/tables/uni_tiles`) where it holds several.

    Returns:
        features (N, D), centres (N, 2) and the tiles' side, both in level-0 pixels.

    Raises:
        SlideError: no such store, no or several tables of tiles, or tiles without a shape.
    """
    root, name = (path.parent.parent, path.name) if path.parent.name == _TABLES else (path, None)
    store = _open(root, section)
    name = name if name is not None else _only_table(store, root, section)
    if name not in store.tables:
        raise SlideError(
            expected=f"the table {name} in {root}",
            found=", ".join(store.tables) or "none",
            section=section,
        )
    table = store.tables[name]
    attributes = table.uns.get("spatialdata_attrs") or {}
    region = str(attributes.get("region", ""))
    if region not in store.shapes:
        raise SlideError(
            expected=f"the shapes that table {name} of {root} annotates ({region or 'none'})",
            found=", ".join(store.shapes) or "no shapes",
            remedy="write the store again",
            section=section,
        )
    shapes = store.shapes[region]
    key = str(attributes["instance_key"])
    index = shapes[key] if key in shapes else shapes.index.to_series()
    by_id = {value: place for place, value in enumerate(index.tolist())}
    rows = np.array([by_id.get(value, -1) for value in table.obs[key].tolist()], dtype=np.int64)
    if (rows < 0).any():
        raise SlideError(
            expected=f"a shape in {region} for every row of table {name} of {root}",
            found=f"none for {int((rows < 0).sum())} of {len(rows)}",
            remedy="write the store again",
            section=section,
        )
    bounds = np.asarray(shapes.geometry.bounds, dtype=np.float64)[rows]
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2
    values = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    return np.asarray(values, np.float32), centres, float(np.median(bounds[:, 2] - bounds[:, 0]))


def _open(root: Path, section: str | None) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # its import warns of dependencies that announce changes
            import spatialdata

            return spatialdata.read_zarr(root, selection=("shapes", "tables"))
    except Exception as error:  # zarr, arrow and dask each raise their own kinds
        raise SlideError(
            expected=f"a store of LazySlide (wsidata) at {root}",
            found=f"one that cannot be read ({type(error).__name__}: {cause_of(error)})",
            remedy=remedy_of(error) or DAMAGED,
            section=section,
        ) from error


def _only_table(store: Any, root: Path, section: str | None) -> str:
    names = list(store.tables)
    if len(names) != 1:
        raise SlideError(
            expected=f"one table of features in {root}",
            found=", ".join(names) or "none",
            remedy=f"give {root.name}/{_TABLES}/NAME in the manifest's column features",
            section=section,
        )
    return str(names[0])
