"""One section as one clean file: h5ad, or a SpatialData store, with raw counts and level-0 pixels.

Both are read back by the readers of these formats with identical counts and positions, and open in
scanpy, squidpy, spatialdata and what builds on them. No path goes into the files.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy import sparse

from hespotex import keys
from hespotex.errors import RunError, SpotTableError
from hespotex.export.h5ad import UNITS
from hespotex.export.section_parts import (
    array_columns,
    id_columns,
    picture_entry,
    section_record,
    spot_columns,
)
from hespotex.export.spatialdata import check_store_path, write_store
from hespotex.sections.section import ManifestRow, Section
from hespotex.storage.atomic import atomic_path

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

SHAPES: Final = "spots"
TABLE: Final = "counts"
# No label that a user carries along has such names.
REGION: Final = "hespotex_region"
INSTANCE: Final = "hespotex_spot"
_THUMBNAIL_PX: Final = 2000
# Whole numbers up to here are exact in float32, which every tool takes as counts.
_EXACT: Final = 2**24


def write_section(path: Path, section: Section) -> None:
    """Write a section by the ending of the path: `.h5ad` or `.zarr`.

    Raises:
        RunError: another ending, or the file cannot be written.
        SpotTableError: the section has no expression.
        SlideError: the slide cannot be read for its small picture.
    """
    if path.suffix == ".h5ad":
        table = build_h5ad(section)
        with atomic_path(path) as temporary:
            table.write_h5ad(temporary, compression="gzip")
    elif path.suffix == ".zarr":
        check_store_path(path)
        write_store(path, build_store(section))
    else:
        raise RunError(
            expected="a name that ends with .h5ad or .zarr",
            found=path.name,
            remedy="choose one of the two",
        )


def refuse_input(out: Path, row: ManifestRow) -> None:
    """Refuse to write over what is read.

    Raises:
        RunError: names the file.
    """
    target = out.resolve()
    inputs = (row.expression, row.spots, row.slide, row.labels, row.features, row.nuclei)
    for given in (path.resolve() for path in inputs if path is not None):
        if (
            target == given
            or target in given.parents
            or (given in target.parents and given.suffix == ".zarr")
        ):
            raise RunError(
                expected=f"another place than the input {given} with --out",
                found=out,
                remedy="an input is never changed: choose another name",
            )


def build_h5ad(section: Section) -> AnnData:
    """The section as AnnData: X = raw counts, obsm["spatial"], and what scanpy and squidpy plot with."""
    from hespotex.slide import open_slide

    table = _table(section)
    table.obsm[keys.SPATIAL] = np.asarray(section.xy_px0, dtype=np.float64)
    if section.slide is not None:
        with open_slide(section.slide, bits=section.bits) as slide:
            picture = picture_entry(*slide.thumbnail(_THUMBNAIL_PX), section.geometry)
        table.uns[keys.SPATIAL] = {section.section_id: picture}
    return table


def build_store(section: Section) -> SpatialData:
    """The section as SpatialData: circles `spots`, table `counts`; `global` is level-0 pixels.

    The slide stays a file of its own: an image in the store would be its copy.
    """
    with warnings.catch_warnings():
        # Its import warns of dependencies that announce changes.
        warnings.simplefilter("ignore")
        from spatialdata import SpatialData
        from spatialdata.models import ShapesModel, TableModel

        n = section.n_spots
        radius = section.geometry.spot_diameter_um / section.geometry.mpp / 2
        shapes = ShapesModel.parse(
            np.asarray(section.xy_px0, dtype=np.float64),
            geometry=0,
            radius=radius,
            index=np.arange(n),
        )
        table = _table(section)
        table.obsm[keys.SPATIAL] = np.asarray(section.xy_px0, dtype=np.float64)
        table.obs[REGION] = pd.Categorical([SHAPES] * n)
        table.obs[INSTANCE] = np.arange(n)
        parsed = TableModel.parse(table, region=SHAPES, region_key=REGION, instance_key=INSTANCE)
        return SpatialData(shapes={SHAPES: shapes}, tables={TABLE: parsed})


def manifest_row(path: Path, section: Section) -> dict[str, str]:
    """The row of a manifest by which the written file means the same section."""
    geometry = section.geometry
    row = {
        "section_id": section.section_id,
        "patient_id": section.patient_id,
        "slide": "" if section.slide is None else str(section.slide),
        "expression": str(path),
        "format": "h5ad" if path.suffix == ".h5ad" else "spatialdata",
        "mpp": repr(float(geometry.mpp)),
        "spot_pitch_um": repr(float(geometry.spot_pitch_um)),
        "spot_diameter_um": repr(float(geometry.spot_diameter_um)),
    }
    if section.bits is not None:
        row["bits"] = str(section.bits)
    if section.missing_genes != "zero":
        row["missing_genes"] = section.missing_genes
    return row


def _table(section: Section) -> AnnData:
    from anndata import AnnData

    if section.counts is None or section.genes is None:
        raise SpotTableError(
            expected="a section with expression to convert",
            found="positions alone",
            section=section.section_id,
        )
    counts = sparse.csr_matrix(section.counts)
    exact = counts.nnz == 0 or int(counts.data.max()) <= _EXACT
    own = {**array_columns(section), "in_tissue": np.ones(section.n_spots, dtype=np.int64)}
    table = AnnData(
        X=counts.astype(np.float32 if exact else np.float64),
        obs=spot_columns(section, {**own, **id_columns(section)}, (REGION, INSTANCE)),
        var=pd.DataFrame(index=pd.Index(section.genes.astype(object))),
    )
    table.uns[keys.UNS] = {
        **section_record(section),
        "missing_genes": section.missing_genes,
        "units": {"X": "raw counts", keys.SPATIAL: UNITS[keys.SPATIAL]},
    }
    return table
