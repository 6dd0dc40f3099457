"""predictions/<section_id>.h5ad: how a prediction is stored and read back.

The file opens in `scanpy.pl.spatial` and `squidpy.pl.spatial_scatter` as it is. It holds no path and
no name but those that the manifest gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.trust import Extras
from hespotex.export.chunk_shape import write_table
from hespotex.export.claims_store import read_claims, record_in
from hespotex.export.gene_trust import (
    HALF_WIDTHS,
    gene_columns,
    gene_record,
    read_column,
    read_half_width,
    read_words,
)
from hespotex.export.ridge_store import add_ridge
from hespotex.export.section_parts import (
    array_columns,
    id_columns,
    picture_entry,
    section_record,
    spot_columns,
)
from hespotex.export.set_store import add_set_scores, read_set_scores, set_table
from hespotex.genes.panel import PanelCounts, log1p_cpm
from hespotex.sections.section import Section
from hespotex.storage.atomic import atomic_path
from hespotex.storage.hdf5 import open_h5

if TYPE_CHECKING:
    from anndata import AnnData

    from hespotex.models.types import Prediction

Floats = npt.NDArray[np.float32]
FORMAT_VERSION: Final = 2  # 1, of hespotex 0.1.0, had grades that did not say what they rest on
UNITS: Final[Mapping[str, str]] = {
    "X": keys.UNIT_LOG1P,
    keys.COMPOSITION: keys.UNIT_COMPOSITION,
    keys.LOWER: keys.UNIT_LOG1P,
    keys.UPPER: keys.UNIT_LOG1P,
    keys.MEASURED: keys.UNIT_LOG1P,
    keys.MEASURED_COMPOSITION: keys.UNIT_MEASURED_COMPOSITION,
    keys.MEASURED_COUNTS: "raw counts",
    keys.PREDICTED_DEPTH: keys.UNIT_DEPTH,
    keys.MEASURED_DEPTH: "total count over the model's gene panel",
    keys.SPATIAL: "x, y of the spot centre in level-0 pixels, origin top-left",
    keys.GENE_SETS: keys.UNIT_GENE_SETS,
    keys.RIDGE: keys.UNIT_RIDGE,
    keys.GENE_SETS_MEASURED: "Pearson residuals of the set's counts",
    **dict.fromkeys(HALF_WIDTHS, keys.UNIT_HALF_WIDTH),
}


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of the slide.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        px0_per_px: level-0 pixels per pixel of the picture.
    """

    image: npt.NDArray[np.uint8]
    px0_per_px: float


def thumbnail_in(uns: Mapping[str, Any]) -> Thumbnail | None:
    """The picture of a prediction; None where it has none."""
    for library in uns.get(keys.SPATIAL, {}).values():
        scale = float(library["scalefactors"]["tissue_hires_scalef"])
        return Thumbnail(np.asarray(library["images"]["hires"]), 1.0 / scale)
    return None


@dataclass(frozen=True)
class StoredPrediction:
    """One section's prediction as it lies in a file; n spots, G genes.

    Attributes:
        section_id, patient_id: as in the manifest.
        genes: (G,) names.
        barcodes: (n,) names of the spots.
        xy_px0: (n, 2) x, y of the spot centres in level-0 pixels.
        mpp: microns per level-0 pixel.
        spot_diameter_um: of the spots.
        log1p: (n, G) predicted log1p(CPM over the panel); None where composition alone was kept.
        composition: (n, G) predicted log(p) - log(pooled p).
        depth: (n,) predicted total count; NaN where the model does not predict it.
        measured: (n, G) log1p(CPM), NaN where a gene was not measured; None without expression.
        measured_counts: (n, G) raw counts, CSR; None without expression.
        measured_depth: (n,); None without expression.
        thumbnail: None where there was no slide.
        extras: intervals, out-of-distribution scores, grades.
        record: the rest of uns["hespotex"]: model id, encoder, units, what was dropped, versions.
    """

    section_id: str
    patient_id: str
    genes: npt.NDArray[np.str_]
    barcodes: npt.NDArray[np.str_]
    xy_px0: npt.NDArray[np.float64]
    mpp: float
    spot_diameter_um: float
    log1p: Floats | None
    composition: Floats
    depth: Floats
    measured: Floats | None
    measured_counts: sparse.csr_matrix | None
    measured_depth: npt.NDArray[np.float64] | None
    thumbnail: Thumbnail | None
    extras: Extras = field(default_factory=Extras)
    record: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, rows: slice) -> StoredPrediction:
        """These spots of a prediction of nothing measured; what holds for the slide stays."""
        extras, sets = self.extras, self.extras.gene_sets
        if sets is not None and sets.values is not None:
            sets = replace(sets, values=sets.values[rows])
        score, flagged = extras.ood_score, extras.ood
        return replace(
            self,
            barcodes=self.barcodes[rows],
            xy_px0=self.xy_px0[rows],
            log1p=None if self.log1p is None else self.log1p[rows],
            composition=self.composition[rows],
            depth=self.depth[rows],
            extras=replace(
                extras,
                lower=None,
                upper=None,
                ood_score=None if score is None else score[rows],
                ood=None if flagged is None else flagged[rows],
                gene_sets=sets,
            ),
        )


def write_prediction(
    path: Path,
    *,
    section: Section,
    genes: Sequence[str],
    prediction: Prediction,
    counts: PanelCounts | None = None,
    thumbnail: Thumbnail | None = None,
    provenance: Mapping[str, Any] | None = None,
    extras: Extras | None = None,
    columns: npt.NDArray[np.intp] | None = None,
) -> None:
    """Write one section's prediction, with the measured values beside it where there are any.

    Args:
        path: the h5ad; replaced as a whole.
        genes: (G,) the model's panel.
        prediction: of the section's spots over the panel.
        counts: measured counts over the same panel, or None.
        thumbnail: picture of the slide that the spots are drawn on.
        provenance: model id, encoder, versions, ...; goes into uns["hespotex"]; None values are left out.
        columns: which genes to write, default all; log1p(CPM) stays relative to the whole panel.

    Raises:
        ValueError: arrays do not fit the section or the panel.
        RunError: the file cannot be written.
    """
    table = build_table(
        section=section,
        genes=genes,
        prediction=prediction,
        counts=counts,
        thumbnail=thumbnail,
        provenance=provenance,
        extras=extras or Extras(),
    )
    if columns is not None:
        table = table[:, columns].copy()
    with atomic_path(path) as temporary:
        write_table(table, temporary)


def build_table(
    *,
    section: Section,
    genes: Sequence[str],
    prediction: Prediction,
    counts: PanelCounts | None,
    thumbnail: Thumbnail | None,
    provenance: Mapping[str, Any] | None,
    extras: Extras,
) -> AnnData:
    """The table that `write_prediction` writes, in memory."""
    from anndata import AnnData

    shape = (section.n_spots, len(genes))
    layers = {keys.COMPOSITION: prediction.composition}
    ends = {keys.LOWER: extras.lower, keys.UPPER: extras.upper}
    layers |= {k: v for k, v in ends.items() if v is not None}
    for name, values in {"log1p": prediction.log1p, **layers}.items():
        if values.shape != shape:
            raise ValueError(
                f"section {section.section_id}: expected {name} of shape {shape}, found {values.shape}"
            )
    stored: dict[str, Any] = {name: _dense(values) for name, values in layers.items()}
    if counts is not None:
        measured = log1p_cpm(counts.counts)
        measured[:, ~counts.measured] = np.nan
        stored[keys.MEASURED] = measured
        stored[keys.MEASURED_COUNTS] = counts.counts.astype(np.float32)
    table = AnnData(
        X=_dense(prediction.log1p),
        obs=spot_table(section, prediction.depth, extras, counts),
        var=gene_table(genes, extras, counts),
    )
    for name, values in stored.items():
        table.layers[name] = values
    table.obsm[keys.SPATIAL] = np.asarray(section.xy_px0, dtype=np.float64)
    if extras.gene_sets is not None:
        add_set_scores(table, extras.gene_sets)
    add_ridge(table, extras.ridge)
    written = [*stored, *table.obs.columns, *table.obsm]
    table.uns.update(file_record(section, extras, written, thumbnail, provenance))
    return table


def spot_table(
    section: Section, depth: Floats, extras: Extras, counts: PanelCounts | None = None
) -> pd.DataFrame:
    """obs of a prediction: the columns that the user carries along, then ours.

    Args:
        section: n spots.
        depth: (n,) predicted.
        counts: measured counts over the panel, or None.
    """
    own: dict[str, Any] = {**id_columns(section), **array_columns(section)}
    if section.array_xy is not None:
        own[keys.ARRAY_X], own[keys.ARRAY_Y] = np.asarray(section.array_xy, dtype=np.float64).T
    own[keys.PREDICTED_DEPTH] = np.asarray(depth, dtype=np.float32)
    if counts is not None:
        own[keys.MEASURED_DEPTH] = counts.depth
    if extras.ood_score is not None:
        own[keys.OOD_SCORE] = np.asarray(extras.ood_score, dtype=np.float32)
    if extras.ood is not None:
        own[keys.OOD] = np.asarray(extras.ood, dtype=bool)
    return spot_columns(section, own)


def gene_table(
    genes: Sequence[str], extras: Extras, counts: PanelCounts | None = None
) -> pd.DataFrame:
    """var of a prediction: what may be claimed of each gene, and whether it was measured."""
    var = pd.DataFrame(index=pd.Index(list(genes), dtype=object))
    for name, column in gene_columns(extras).items():
        var[name] = column
    if counts is not None:
        var[keys.MEASURED] = counts.measured
    return var


def file_record(
    section: Section,
    extras: Extras,
    written: Iterable[str],
    thumbnail: Thumbnail | None,
    provenance: Mapping[str, Any] | None,
    *,
    log1p: bool = True,
) -> dict[str, Any]:
    """uns of a prediction: its record, and the picture that spots are drawn on.

    Args:
        extras: what holds for the prediction as a whole, and gene sets.
        written: names in layers, obs and obsm, whose units are said.
        provenance: model id, encoder, versions, ...
        log1p: whether X is log1p(CPM), else composition.
    """
    units = {**UNITS, "X": UNITS["X" if log1p else keys.COMPOSITION]}
    names = ["X", keys.SPATIAL, *written]
    names += [] if extras.gene_sets is None else [keys.GENE_SETS]
    names += HALF_WIDTHS if extras.half_width is not None else ()
    record = {
        **_storable({**(provenance or {}), **gene_record(extras)}),
        keys.FORMAT_VERSION: FORMAT_VERSION,
        **section_record(section),
        "units": {name: units[name] for name in names if name in units},
    }
    if section.bits is not None:
        record["bits"] = section.bits
    if extras.gene_sets is not None:
        record[keys.GENE_SETS] = set_table(extras.gene_sets)
    uns: dict[str, Any] = {keys.UNS: record}
    if thumbnail is not None:
        picture = picture_entry(thumbnail.image, thumbnail.px0_per_px, section.geometry)
        uns[keys.SPATIAL] = {section.section_id: picture}
    return uns


def holds_log1p(uns: Mapping[str, Any]) -> bool:
    """Whether X of a prediction is log1p(CPM): by its unit, which version 1 of the format always had so."""
    units = uns.get(keys.UNS, {}).get("units", {})
    return str(units.get("X", keys.UNIT_LOG1P)) != keys.UNIT_COMPOSITION


def read_prediction(path: str | Path) -> StoredPrediction:
    """Read what `write_prediction` wrote.

    Raises:
        RunError: the file is missing, cut short, or none of ours.
    """
    from anndata.io import read_elem

    path = Path(path)
    with open_h5(path, "a prediction of hespotex in", RunError, "predict again") as file:
        return stored_prediction(read_elem(file["/"]), path)


def stored_prediction(table: AnnData, path: Path) -> StoredPrediction:
    """The prediction that a table holds; `path` is named where it holds none.

    Raises:
        RunError: the table was not written by hespotex.
    """
    record = record_in(table.uns if keys.COMPOSITION in table.layers else {}, path)
    obs = table.obs
    measured = keys.MEASURED in table.layers
    return StoredPrediction(
        section_id=str(record[keys.SECTION_ID]),
        patient_id=str(record[keys.PATIENT_ID]),
        genes=table.var_names.to_numpy(dtype=str),
        barcodes=table.obs_names.to_numpy(dtype=str),
        xy_px0=np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64),
        mpp=float(record["mpp"]),
        spot_diameter_um=float(record["spot_diameter_um"]),
        log1p=np.asarray(table.X) if holds_log1p(table.uns) else None,
        composition=np.asarray(table.layers[keys.COMPOSITION], np.float32),
        depth=obs[keys.PREDICTED_DEPTH].to_numpy(np.float32),
        measured=np.asarray(table.layers[keys.MEASURED]) if measured else None,
        measured_counts=table.layers[keys.MEASURED_COUNTS] if measured else None,
        measured_depth=obs[keys.MEASURED_DEPTH].to_numpy(np.float64) if measured else None,
        thumbnail=thumbnail_in(table.uns),
        extras=_extras(table),
        record=record,
    )


def _extras(table: AnnData) -> Extras:
    obs, layers = table.obs, table.layers
    return Extras(
        lower=np.asarray(layers[keys.LOWER]) if keys.LOWER in layers else None,
        upper=np.asarray(layers[keys.UPPER]) if keys.UPPER in layers else None,
        half_width=read_half_width(table.var),
        pooled_share=read_column(table.var, keys.POOLED_SHARE),
        upper_quartile=read_column(table.var, keys.UPPER_QUARTILE),
        ridge_level=read_column(table.var, keys.RIDGE_LEVEL),
        ood_score=obs[keys.OOD_SCORE].to_numpy(np.float32) if keys.OOD_SCORE in obs else None,
        ood=obs[keys.OOD].to_numpy(bool) if keys.OOD in obs else None,
        grades=read_words(table.var, keys.GRADE),
        verdict=table.uns[keys.UNS].get(keys.OOD_VERDICT),
        gene_sets=read_set_scores(table),
        claims=read_claims(table),
        level_grades=read_words(table.var, keys.LEVEL_GRADE),
    )


def _dense(values: npt.NDArray[Any]) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float32)


def _storable(value: Any) -> Any:
    """What HDF5 can hold: nested mappings of numbers, strings and lists; a path becomes its name."""
    if isinstance(value, Mapping):
        return {str(k).replace("/", " "): _storable(v) for k, v in value.items() if v is not None}
    if isinstance(value, Path):
        return value.name
    if isinstance(value, (list, tuple)):
        array = np.asarray(value)
        return array if array.dtype.kind in "biuf" else np.array([str(v) for v in value], object)
    return value
