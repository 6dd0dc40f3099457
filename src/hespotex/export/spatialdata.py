"""The SpatialData store of a prediction, laid out as wsidata's, so that LazySlide opens it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.trust import LEVEL
from hespotex.export.claim_words import claims_of
from hespotex.export.claims_store import claim_record
from hespotex.export.exporters import Exporter
from hespotex.export.gene_trust import half_width_columns
from hespotex.export.h5ad import UNITS, StoredPrediction
from hespotex.export.set_store import add_set_scores, set_table
from hespotex.export.shown import SHOWN, Show, explained, measured_beside, shown_values, unit
from hespotex.export.spatialdata_chunks import fill_shapes, fill_values, spot_boxes
from hespotex.export.tables import MAX_GENES, chosen_columns
from hespotex.storage.atomic import atomic_folder
from hespotex.storage.safe_names import safe_names

if TYPE_CHECKING:
    from spatialdata import SpatialData

SPOTS: Final = "spots"
TABLE: Final = "hespotex_spots"
_THUMBNAIL: Final = "wsi_thumbnail"


def write_spatialdata(
    path: Path,
    section: StoredPrediction,
    *,
    genes: Sequence[str] | None = None,
    show: Show = "composition",
) -> None:
    """Write a zarr store with the spots as shapes and the prediction as a table; replaces a store.

    A prediction that holds composition alone (a fine map) is written in chunks, in its own type: float16.

    Args:
        path: the .zarr folder.
        genes: which to write; default all.
        show: X of the table: composition, or log1p(CPM); the other one is a layer.

    Raises:
        GenePanelError: a gene is not in the prediction.
        RunError: the folder cannot be written, or holds something that is no store.
    """
    check_store_path(path)
    if section.log1p is not None or section.measured is not None or not len(section.barcodes):
        write_store(path, build_spatialdata(section, genes, show))
        return
    columns = chosen_columns(section, list(section.genes) if genes is None else genes)
    with atomic_folder(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `write_store`
        build_spatialdata(section, genes, show, whole=False).write(temporary)
        fill_shapes(temporary / "shapes" / SPOTS / "shapes.parquet", section)
        fill_values(temporary, TABLE, section, columns, show)


def check_store_path(path: Path) -> None:
    """Refuse to replace anything but a store.

    Raises:
        RunError: the path holds something else.
    """
    if path.exists() and not (path / "zarr.json").exists() and not (path / ".zgroup").exists():
        raise RunError(
            expected=f"a free name or an older store at {path}",
            found="something else",
            remedy="choose another",
        )


def write_store(path: Path, store: SpatialData) -> None:
    """Write a store beside its place, then put it there; an older store is replaced as a whole.

    Raises:
        RunError: the folder cannot be written.
    """
    with atomic_folder(path) as temporary, warnings.catch_warnings():
        # The library warns of its own dependencies' futures while it writes.
        warnings.simplefilter("ignore")
        store.write(temporary)


def build_spatialdata(
    section: StoredPrediction,
    genes: Sequence[str] | None = None,
    show: Show = "composition",
    *,
    whole: bool = True,
) -> SpatialData:
    """The store in memory: shapes `spots`, table `hespotex_spots`, the slide's small picture.

    Each spot is the square that encloses it, as wsidata writes tiles; `global` is level-0 pixels.

    Args:
        whole: else with the first spot's shape alone, and a table of all spots without values.
    """
    with warnings.catch_warnings():
        # Its import warns of dependencies that announce changes.
        warnings.simplefilter("ignore")
        from spatialdata import SpatialData
    store = SpatialData(
        shapes={SPOTS: _shapes(section if whole else section.rows(slice(0, 1)))},
        tables={TABLE: _table(section, genes, show, whole)},
        images={_THUMBNAIL: _image(section)} if section.thumbnail is not None else {},
    )
    side = max(round(section.spot_diameter_um / section.mpp), 1)
    stride = round(float(section.record.get("spot_pitch_um", 0)) / section.mpp) or side
    store.attrs["tile_spec"] = {
        SPOTS: {
            "height": side,
            "width": side,
            "stride_height": stride,
            "stride_width": stride,
            "mpp": section.mpp,
        }
    }
    return store


def _shapes(section: StoredPrediction) -> Any:
    import geopandas
    from spatialdata.models import ShapesModel

    return ShapesModel.parse(geopandas.GeoDataFrame(spot_boxes(section), geometry="geometry"))


def _table(section: StoredPrediction, genes: Sequence[str] | None, show: Show, whole: bool) -> Any:
    from anndata import AnnData
    from spatialdata.models import TableModel

    columns = chosen_columns(section, list(section.genes) if genes is None else genes)
    n = len(section.barcodes)
    obs = pd.DataFrame(
        {
            "tile_id": np.arange(n),
            "library_id": pd.Categorical.from_codes(np.zeros(n, np.int8), pd.Index([SPOTS])),
            "spot": section.barcodes.astype(object),
            keys.PREDICTED_DEPTH: section.depth,
        },
        index=[str(i) for i in range(n)],
    )
    if section.extras.ood_score is not None:
        obs[keys.OOD_SCORE] = section.extras.ood_score
    claims = claims_of(section)
    # The store's own alphabet; the name as given stays in var["gene"].
    var = pd.DataFrame(index=list(safe_names(section.genes[columns], fallback="gene")))
    var["gene"] = section.genes[columns].astype(object)
    for name, values in claims.subset(columns).columns().items():
        var[name] = values.astype(object) if values.dtype.kind == "U" else values
    half_widths = half_width_columns(section.extras)
    for name, values in half_widths.items():
        var[name] = values[columns]
    shown = shown_values(section, show)[:, columns] if whole else None
    table = AnnData(X=shown, obs=obs, var=var)
    others = [kind for kind in SHOWN if kind != show and section.log1p is not None]
    for other in others:
        table.layers[other] = shown_values(section, other)[:, columns]
    if section.measured is not None:
        table.layers[keys.MEASURED] = section.measured[:, columns]
        beside = measured_beside(section, columns)
        table.layers[keys.MEASURED_COMPOSITION] = beside.astype(np.float32)
    table.obsm[keys.SPATIAL] = section.xy_px0
    if section.extras.gene_sets is not None:
        add_set_scores(table, section.extras.gene_sets)
    table.uns[keys.UNS] = {
        keys.SECTION_ID: section.section_id,
        "mpp": section.mpp,
        "model_id": str(section.record.get("model_id", "")),
        "shown": show,
        "explained": explained(show),
        "units": {
            "X": unit(show),
            **{other: unit(other) for other in others},
            keys.PREDICTED_DEPTH: UNITS[keys.PREDICTED_DEPTH],
            **{
                k: UNITS[k] for k in (keys.MEASURED, keys.MEASURED_COMPOSITION) if k in table.layers
            },
            **{name: UNITS[name] for name in half_widths},
        },
        **({keys.HALF_WIDTH_LEVEL: LEVEL} if half_widths else {}),
        **claim_record(claims),
    }
    if section.extras.gene_sets is not None:
        table.uns[keys.UNS][keys.GENE_SETS] = set_table(section.extras.gene_sets)
        table.uns[keys.UNS]["units"][keys.GENE_SETS] = UNITS[keys.GENE_SETS]
    return TableModel.parse(table, region=SPOTS, region_key="library_id", instance_key="tile_id")


def _image(section: StoredPrediction) -> Any:
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    if section.thumbnail is None:
        raise ValueError(f"section {section.section_id}: expected a thumbnail, found none")
    scale = section.thumbnail.px0_per_px
    return Image2DModel.parse(
        section.thumbnail.image.transpose(2, 0, 1),
        dims=("c", "y", "x"),
        transformations={"global": Scale([scale, scale], axes=("x", "y"))},
    )


EXPORTER: Final = Exporter(
    lambda path, section, wanted: write_spatialdata(
        path, section, genes=wanted.genes, show=wanted.show
    ),
    suffix=".zarr",
    most_genes=MAX_GENES,
)
