"""Section: one piece of tissue with its spots, assembled from its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex import keys
from hespotex.config import Grid, InputChoices
from hespotex.errors import HESpotExError, SpotTableError
from hespotex.geometry import (
    Geometry,
    SlideFacts,
    StatedScale,
    check_one_section,
    decide_geometry,
    fit_to_image,
    outside_error,
    spots_outside,
)
from hespotex.sections.carried import writable_columns
from hespotex.spots.base import Joined, MissingGenes, SpotSource, SpotTable
from hespotex.spots.registry import read_spots
from hespotex.spots.text import read_table
from hespotex.storage.content_keys import content_key

__all__ = ["Geometry", "ManifestRow", "Section", "SlideFacts", "read_section"]


@dataclass(frozen=True)
class ManifestRow:
    """One row of a manifest, checked; paths are absolute. Fields are the columns of the manifest.

    Attributes:
        slide: None only where `features` is given.
        expression, format: None for a slide without spots; `format` with `spots` and no
            `expression` is a section whose spots were not measured.
        extra: the columns that start with `x_`, carried along into obs.
    """

    section_id: str
    patient_id: str
    slide: Path | None
    expression: Path | None = None
    format: str | None = None
    spots: Path | None = None
    mpp: float | None = None
    spot_pitch_um: float | None = None
    spot_diameter_um: float | None = None
    bits: int | None = None
    labels: Path | None = None
    features: Path | None = None
    alignment: Path | None = None
    tile_px: float | None = None
    bin_um: float | None = None
    image_element: str | None = None
    table_element: str | None = None
    missing_genes: MissingGenes | None = None
    nuclei: Path | None = None
    library: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_spots(self) -> bool:
        """Whether the row names spots at all."""
        return self.format is not None


@dataclass(frozen=True)
class Section:
    """A piece of tissue with spots: the unit of validation.

    Attributes:
        section_id: unique in a manifest; names the files that are written.
        patient_id: as the user gave it; sections of one patient are never independent.
        slide: the image file; None when features are given.
        geometry: the physical scale.
        barcodes: (n,) names of the spots.
        xy_px0: (n, 2) x, y of the centres in level-0 pixels.
        counts: (n, g) raw counts, CSR; None without expression.
        genes: (g,) gene names; None without expression.
        missing_genes: what a gene that is not in `genes` means.
        array_xy: (n, 2) place in the array's lattice, or None.
        obs: (n, ...) columns carried along (`x_*`, labels), index = barcodes.
        features_file: TRIDENT or CLAM features given in the manifest.
        bits: of a sample of the slide, that hold the picture, where they are stated.
        tile_px: side of their tiles in level-0 pixels, where the manifest states it.
        nuclei_file: nuclei mask given in the manifest.
        dropped: how many entries were left out when reading, by reason.
        image_scales: pixels of smaller copies of the image per level-0 pixel, by name (hires, lowres).
        accepted: what would have been refused and the user accepted, one sentence each.
        missing_genes_stated: whether the manifest says what a missing gene means.
        joined: how counts and positions from two files met; None where one file holds both.
        bins: the bins that its spots are squares of (`sections.fine`); None where spots are as they were read.
    """

    section_id: str
    patient_id: str
    slide: Path | None
    geometry: Geometry
    barcodes: npt.NDArray[np.str_]
    xy_px0: npt.NDArray[np.float64]
    counts: sparse.csr_matrix | None
    genes: npt.NDArray[np.str_] | None
    missing_genes: MissingGenes = "zero"
    array_xy: npt.NDArray[np.float64] | None = None
    obs: pd.DataFrame | None = None
    features_file: Path | None = None
    tile_px: float | None = None
    bits: int | None = None
    nuclei_file: Path | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    image_scales: Mapping[str, float] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    missing_genes_stated: bool = False
    joined: Joined | None = None
    bins: Section | None = None

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.barcodes)

    @property
    def xy_um(self) -> npt.NDArray[np.float64]:
        """(n, 2) x, y of the centres in microns."""
        return self.xy_px0 * self.geometry.mpp

    @property
    def measured(self) -> bool:
        """Whether expression was measured."""
        return self.counts is not None

    def spots(self, index: npt.NDArray[np.intp]) -> Section:
        """The same section with only these spots, in the given order; what they are squares of is not kept."""
        return replace(
            self,
            barcodes=self.barcodes[index],
            xy_px0=self.xy_px0[index],
            counts=None if self.counts is None else self.counts[index],
            array_xy=None if self.array_xy is None else self.array_xy[index],
            obs=None if self.obs is None else self.obs.iloc[index],
            bins=None,
        )

    def expression_key(self) -> str:
        """Key of the content of positions and counts, to recognise a section under another name."""
        parts: list[object] = [self.xy_px0]
        if self.counts is not None and self.genes is not None:
            parts += [self.counts.data, self.counts.indices, self.counts.indptr, list(self.genes)]
        return content_key(*parts)

    def carried_key(self) -> str:
        """Key of what predictions carry along and no fit looks at: names, places in the array, `obs`."""
        parts: list[object] = [self.barcodes.tolist(), self.array_xy]
        if self.obs is not None:
            values = pd.util.hash_pandas_object(self.obs, index=False).to_numpy()
            parts += [self.obs.columns.astype(str).tolist(), values]
        return content_key(*parts)


def read_section(row: ManifestRow, choices: InputChoices | None = None) -> Section:
    """Read the spots and counts of a row and check them against its slide.

    Args:
        row: a row of a manifest that names spots.
        choices: what the user accepts; with `allow_hires` positions and mpp are those of the small
            image. Whatever was made use of stands in `Section.accepted`.

    Raises:
        SpotTableError: spots or counts are missing or malformed, or lie outside the slide.
        SlideError: the slide cannot be opened, or is a down-scaled copy.
        GeometryError: the physical scale is unknown or contradictory.
    """
    try:
        return _read_section(row, choices or InputChoices())
    except HESpotExError as error:
        error.of_section(row.section_id)
        raise


def _read_section(row: ManifestRow, choices: InputChoices) -> Section:
    if row.format is None:
        raise SpotTableError(
            expected="spots (the manifest's columns format and expression or spots)",
            found="a slide alone",
            remedy="a slide without spots can be predicted, not trained on",
        )
    table = read_spots(row.format, spot_source(row, choices.grid))
    check_one_section(table)
    slide = _slide_facts(row.slide, row.bits) if row.slide is not None else None
    hints, accepted = table.hints, []
    if slide is not None and row.slide is not None:
        fitted = fit_to_image(table, slide, row.slide, allow_hires=choices.allow_hires)
        hints, table = fitted.hints, replace(table, xy_px0=fitted.xy_px0)
        accepted += [f"hires: {fitted.copy}"] if fitted.copy else []
        outside = spots_outside(table.xy_px0, slide)
        if outside.any():
            if outside.all() or not choices.accepts("outside", row.section_id):
                raise outside_error(table.xy_px0, slide, table.source, row.slide)
            accepted.append(f"outside: {int(outside.sum())} spots outside the image were left out")
            table = table.spots(~outside, "spots outside the image")
    geometry = decide_geometry(
        table.xy_px0,
        hints,
        stated=StatedScale(row.mpp, row.spot_pitch_um, row.spot_diameter_um),
        slide_mpp=slide.mpp_sources if slide is not None else {},
        manifest_wins=choices.accepts("mpp", row.section_id),
    )
    if geometry.overruled:
        others = ", ".join(f"{name}: {value:.4g}" for name, value in geometry.overruled.items())
        accepted.append(f"mpp: {geometry.mpp:.4g} as the manifest says, against {others}")
    obs, unlabelled = _assemble_obs(row, table)
    return Section(
        section_id=row.section_id,
        patient_id=row.patient_id,
        slide=row.slide,
        geometry=geometry,
        barcodes=table.barcodes,
        xy_px0=table.xy_px0,
        counts=table.counts,
        genes=table.genes,
        missing_genes=table.missing_genes,
        array_xy=table.array_xy,
        obs=obs,
        features_file=row.features,
        tile_px=row.tile_px,
        bits=row.bits,
        nuclei_file=row.nuclei,
        dropped={**table.dropped, **unlabelled},
        image_scales=hints.image_scales,
        accepted=tuple(accepted),
        missing_genes_stated=row.missing_genes is not None,
        joined=table.joined,
    )


def spot_source(row: ManifestRow, grid: Grid | None = None) -> SpotSource:
    """What a reader of spots is told of a row."""
    return SpotSource(
        expression=row.expression,
        spots=row.spots,
        alignment=row.alignment,
        bin_um=row.bin_um,
        spot_pitch_um=row.spot_pitch_um,
        spot_diameter_um=row.spot_diameter_um,
        image_element=row.image_element,
        table_element=row.table_element,
        missing_genes=row.missing_genes,
        grid=grid,
        library=row.library,
    )


def _slide_facts(path: Path, bits: int | None) -> SlideFacts:
    from hespotex.slide import open_slide

    with open_slide(path, bits=bits) as slide:
        facts: SlideFacts = slide
        return facts


def _assemble_obs(row: ManifestRow, table: SpotTable) -> tuple[pd.DataFrame | None, dict[str, int]]:
    """The `x_` columns of the manifest, the table's own, the labels joined by spot name: as they can be written."""
    index = pd.Index(table.barcodes.astype(object))
    columns: list[tuple[object, pd.Series]] = []
    columns += [(name, pd.Series(value, index)) for name, value in row.extra.items()]
    if table.obs is not None:
        columns += table.obs.set_axis(index, axis=0).items()
    counted: dict[str, int] = {}
    if row.labels is not None:
        joined, counted = _labels(row.labels, table)
        columns += joined.items()
    known: dict[str, object] = {keys.SECTION_ID: row.section_id, keys.PATIENT_ID: row.patient_id}
    if table.array_xy is not None:
        known |= {keys.ARRAY_X: table.array_xy[:, 0], keys.ARRAY_Y: table.array_xy[:, 1]}
    carried, renamed = writable_columns(columns, reserved=keys.OBS, known=known)
    if renamed:
        counted[f"columns renamed (kept): {renamed}"] = renamed.count(" is now ")
    obs = pd.DataFrame(carried, index=index) if carried else None
    return obs, {k: v for k, v in counted.items() if v}


def _labels(path: Path, table: SpotTable) -> tuple[pd.DataFrame, dict[str, int]]:
    """Columns of a labels file by spot, and how many spots and labels have no partner.

    Raises:
        SpotTableError: a spot stands there twice, none is one of the section's, or the spots have such a column.
    """
    labels = read_table(path, ())
    names = labels.iloc[:, 0]
    if names.duplicated().any():
        raise SpotTableError(
            expected=f"every spot once in {path}",
            found=f"{names[names.duplicated()].iloc[0]} again",
        )
    if not names.isin(table.barcodes).any():
        raise SpotTableError(
            expected=f"names of spots such as {table.barcodes[0]} in the first column of {path}",
            found=names.iloc[0],
            remedy="give the labels of this section",
        )
    taken = [n for n in labels.columns[1:] if table.obs is not None and n in table.obs]
    if taken:
        raise SpotTableError(
            expected=f"new names for the columns of {path}",
            found=f"{', '.join(taken)}, which the spots have already",
            remedy="rename them",
        )
    # An empty cell is no label: as a text it would be drawn as a class of its own.
    joined = labels.set_index(labels.columns[0]).reindex(table.barcodes.astype(object))
    joined = joined.where(joined != "")
    return joined, {
        "spots without a label (kept)": int(joined.isna().all(axis=1).sum()),
        "labels without a spot": int((~names.isin(table.barcodes)).sum()),
    }
