"""Boxes and values of a store of many spots, written piece by piece where the store holds one spot and no value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.export.shown import Show, shown_values
from hespotex.export.tables import ROW_GROUP

if TYPE_CHECKING:
    from hespotex.export.h5ad import StoredPrediction

# Genes of one chunk of the table: a map is read without most of the others.
_GENES: Final = 16
_ARRAY: Final = {"encoding-type": "array", "encoding-version": "0.2.0"}


def spot_boxes(section: StoredPrediction, first: int = 0) -> pd.DataFrame:
    """Columns of the spots' squares as wsidata names them, and the squares themselves, as `geometry`.

    Args:
        first: number of the first spot.
    """
    import shapely

    half = section.spot_diameter_um / section.mpp / 2
    low, high = section.xy_px0 - half, section.xy_px0 + half
    return pd.DataFrame(
        {
            "tile_id": np.arange(first, first + len(low)),
            "x": low[:, 0],
            "y": low[:, 1],
            "tissue_id": np.zeros(len(low), dtype=np.int64),
            "spot": section.barcodes.astype(object),
            "geometry": shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]),
        }
    )


def fill_shapes(file: Path, section: StoredPrediction) -> None:
    """Replace a GeoParquet file of the first spot by one of all spots, in row groups of 65,536.

    Args:
        file: as geopandas wrote it: columns, types and metadata are kept, but for the number of rows and their extent.
    """
    import pyarrow as pa
    import shapely
    from pyarrow import parquet

    schema = parquet.read_schema(file)
    n, half = len(section.barcodes), section.spot_diameter_um / section.mpp / 2
    about = {key: json.loads(schema.metadata[key]) for key in (b"pandas", b"geo")}
    about[b"pandas"]["index_columns"][0]["stop"] = n
    extent = [*(section.xy_px0.min(axis=0) - half), *(section.xy_px0.max(axis=0) + half)]
    about[b"geo"]["columns"]["geometry"]["bbox"] = [float(v) for v in extent]
    texts = {key: json.dumps(value) for key, value in about.items()}
    schema = schema.with_metadata({**schema.metadata, **texts})
    with parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, n, ROW_GROUP):
            boxes = spot_boxes(section.rows(slice(start, start + ROW_GROUP)), start)
            boxes["geometry"] = shapely.to_wkb(boxes["geometry"].to_numpy())
            arrays = [pa.array(boxes[f.name], type=f.type) for f in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def fill_values(
    store: Path,
    table: str,
    section: StoredPrediction,
    columns: npt.NDArray[np.intp],
    show: Show,
) -> None:
    """Give a table that was written without values its X, in the type that the prediction has.

    Args:
        store: the .zarr folder.
        columns: genes of the prediction, in the table's order.
    """
    import zarr

    values, n = shown_values(section, show), len(section.barcodes)
    root: Any = zarr.open_group(store, mode="r+", use_consolidated=False)
    group = root[f"tables/{table}"]
    if "X" in group:
        del group["X"]
    x = group.create_array(
        "X",
        shape=(n, len(columns)),
        dtype=values.dtype,
        chunks=(min(ROW_GROUP, max(n, 1)), min(_GENES, max(len(columns), 1))),
    )
    x.attrs.update(_ARRAY)
    for start in range(0, n, ROW_GROUP):
        x[start : start + ROW_GROUP] = values[start : start + ROW_GROUP][:, columns]
    zarr.consolidate_metadata(store)
