"""Where a slide without spots is predicted: scale, tissue, positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hespotex.config import InputChoices
from hespotex.encoders.base import CELL_PX
from hespotex.errors import HESpotExError, SlideError, SpotTableError
from hespotex.features.patches import reading_order
from hespotex.geometry import Geometry, StatedScale, decide_geometry, spots_outside
from hespotex.inspection import read_checked
from hespotex.inspection.slides import coarse_findings
from hespotex.models.bundle import Bundle
from hespotex.predicting.options import SlideTask, lattice
from hespotex.progress import Silent
from hespotex.sections.fine import FINE_UM
from hespotex.sections.section import ManifestRow, Section
from hespotex.slide import Slide
from hespotex.slide.pixel_size import PixelSize, no_mpp, tags_beside
from hespotex.slide.tissue import DETECTED, Tissue, find_tissue
from hespotex.slide.tissue_outline import read_tissue
from hespotex.spots.base import SpotTable
from hespotex.spots.given import read_positions
from hespotex.spots.grid import spot_grid


@dataclass(frozen=True)
class Layout:
    """Where to predict.

    Attributes:
        section: spots and scale; nothing is measured.
        tissue: the outline; None where positions were given.
        notes: what was assumed or set aside, one sentence each.
        bounds_px0: where coordinates for QuPath start.
    """

    section: Section
    tissue: Tissue | None
    notes: tuple[str, ...] = ()
    bounds_px0: tuple[float, float] = (0.0, 0.0)


def lay_out(slide: Slide, task: SlideTask, bundle: Bundle) -> Layout:
    """Decide scale and positions of a slide.

    Raises:
        GeometryError: microns per pixel are unknown, or positions and scale contradict each other.
        SpotTableError: the given positions are malformed or lie outside the slide.
        SlideError: the slide cannot be read, or no spot lies on its tissue.
    """
    try:
        if task.row is not None:
            layout = _of_row(task.row, task.options.choices, bundle)
        elif task.options.spots is not None:
            layout = _given(slide, task, bundle)
        else:
            layout = _grid(slide, task, bundle)
    except HESpotExError as error:
        error.of_section(task.section_id)
        raise
    coarse = coarse_findings(task.section_id, layout.section.geometry.mpp)
    picture = (f"the slide is {slide.picture}",) if slide.picture else ()
    notes = (*picture, *layout.notes, *(finding.found for finding in coarse))
    notes += _extrapolates(layout.section.geometry.spot_pitch_um, bundle)
    layout = replace(layout, notes=notes)
    return replace(layout, bounds_px0=slide.bounds_px0) if task.options.bounds_offset else layout


def _grid(slide: Slide, task: SlideTask, bundle: Bundle) -> Layout:
    options = task.options
    mpp, notes = _scale(slide, options.mpp)
    pitch = options.pitch_um or bundle.spot_pitch_um
    diameter = options.diameter_um or _diameter(pitch, bundle)
    tissue = find_tissue(slide, mpp) if options.tissue is None else read_tissue(options.tissue)
    notes += (tissue.note,) if tissue.note else ()
    notes += _unreadable(slide, tissue.unreadable_share, options.max_bad_tiles)
    if options.tissue is not None and options.bounds_offset:
        tissue = tissue.moved(slide.bounds_px0)
    xy_px0, places = spot_grid(
        slide.width_px0, slide.height_px0, mpp, pitch, lattice(options, pitch)
    )
    kept = np.flatnonzero(tissue.contains(xy_px0))
    if not len(kept):
        raise _no_spots(slide, tissue, mpp, pitch)
    kept = kept[reading_order(xy_px0[kept])]
    section = Section(
        section_id=task.section_id,
        patient_id=task.patient_id,
        slide=task.slide,
        geometry=Geometry(mpp, pitch, diameter, {_source(slide, options.mpp): mpp}),
        barcodes=np.array([f"{x}x{y}" for x, y in places[kept]], dtype=str),
        xy_px0=xy_px0[kept],
        counts=None,
        genes=None,
        array_xy=places[kept].astype(np.float64),
        bits=options.bits,
    )
    return Layout(section, tissue, notes)


def _diameter(pitch_um: float, bundle: Bundle) -> float:
    """As in training; on a fine lattice spots touch each other, unless nuclei are counted in them as in training."""
    usual = bundle.spot_diameter_um
    return (
        min(pitch_um, usual)
        if pitch_um <= FINE_UM and bundle.config.nuclei.mode == "off"
        else usual
    )


def _extrapolates(pitch_um: float, bundle: Bundle) -> tuple[str, ...]:
    """Notes where the map is finer than what was measured in training, and than what its patches tell apart."""
    if pitch_um > FINE_UM:
        return ()
    notes = []
    if pitch_um < bundle.spot_diameter_um:
        notes.append(
            f"a map every {pitch_um:g} um of a model of {bundle.spot_diameter_um:g} um spots extrapolates: nothing finer than a "
            "spot was measured in its training, and its grades are those of whole spots"
        )
    steps = {side: side * CELL_PX / bundle.encoder.size_px for side in bundle.sides_um}
    wide = [side for side, step in steps.items() if step > pitch_um]
    if bundle.config.encoder.reading == "area" and wide:
        sides, known = (", ".join(f"{v:.0f}" for v in of) for of in (wide, map(steps.get, wide)))
        notes.append(
            f"a pitch of {pitch_um:g} um is below what patches of {sides} um support: their features are known every {known} um "
            "and interpolated between"
        )
    return tuple(notes)


def _no_spots(slide: Slide, tissue: Tissue, mpp: float, pitch_um: float) -> SlideError:
    name = slide.path.name
    if tissue.is_empty:
        return SlideError(
            expected=f"tissue on {name}",
            found="none: nothing on it is stained and textured as tissue is",
            remedy=(
                "check the picture and --mpp, or draw the tissue in QuPath and give --tissue, or give "
                "positions with --spots"
            ),
        )
    if tissue.source == DETECTED:
        return SlideError(
            expected=f"spots {pitch_um:g} um apart on the tissue of {name} ({tissue.area_mm2(mpp):.2g} mm2)",
            found="none that lies on it",
            remedy="check --mpp, lower --spot-pitch-um, or give positions with --spots",
        )
    return SlideError(
        expected=f"spots of the grid inside the outline in {tissue.source}",
        found=f"none on {name} ({slide.width_px0} x {slide.height_px0} px)",
        remedy=(
            "draw it on this slide, in its level-0 pixels (of an outline that starts at the slide's "
            "bounds: --bounds-offset), or lower --spot-pitch-um"
        ),
    )


def _unreadable(slide: Slide, share: float, most: float) -> tuple[str, ...]:
    """Notes on places where no tissue could be looked for; too many of them are an error."""
    if share > most:
        raise SlideError(
            expected=f"at most {most:.2%} of {slide.path.name} unreadable (--max-bad-tiles)",
            found=f"{share:.2%}: tissue cannot be looked for there",
            remedy="copy or export the slide again, or allow more",
        )
    return (f"{share:.2%} of the slide cannot be read: no tissue is looked for there",) * (
        share > 0
    )


def _of_row(row: ManifestRow, choices: InputChoices, bundle: Bundle) -> Layout:
    """A section among slides: at its own spots, without its measured values."""
    grid = bundle.config.pooling.grid
    (section,) = read_checked(
        [row], replace(choices, accept=_about(choices, row), grid=grid), Silent()
    )
    order = reading_order(section.xy_px0)
    at_spots = replace(section, counts=None, genes=None).spots(order)
    note = "predicted at its own spots; measured values are written by a manifest of sections alone"
    accepted = (f"accepted by the user: {sentence}" for sentence in section.accepted)
    return Layout(at_spots, None, (note, *map(str, section.geometry.notes), *accepted))


def _about(choices: InputChoices, row: ManifestRow) -> tuple[str, ...]:
    """The accepted findings of this row; the user may name other sections, which are not read here."""
    return tuple(
        code
        for item in choices.accept
        for code, _, name in [item.partition(":")]
        if name in {"", row.section_id}
    )


def _given(slide: Slide, task: SlideTask, bundle: Bundle) -> Layout:
    options = task.options
    if options.spots is None:
        raise ValueError("expected a file with positions, found None")
    table = read_positions(options.spots, spot_pitch_um=options.pitch_um)
    _check_inside(table, slide)
    hints = table.hints
    known = hints.spot_diameter_um is not None or hints.spot_diameter_px0 is not None
    diameter_um = options.diameter_um or (None if known else bundle.spot_diameter_um)
    stated = StatedScale(options.mpp, options.pitch_um, diameter_um)
    notes: tuple[str, ...] = ()
    tags: Mapping[str, float] = slide.mpp_sources
    if options.mpp is not None:
        notes, tags = tags_beside(slide.mpp_sources, options.mpp), {}
    elif not (
        tags or hints.mpp or hints.rough_mpp or options.pitch_um or hints.spot_pitch_um or known
    ):
        raise no_mpp(slide.path, PixelSize(slide.mpp_sources, slide.mpp_rejected))
    geometry = decide_geometry(table.xy_px0, hints, stated=stated, slide_mpp=tags)
    section = Section(
        section_id=task.section_id,
        patient_id=task.patient_id,
        slide=task.slide,
        geometry=geometry,
        barcodes=table.barcodes,
        xy_px0=table.xy_px0,
        counts=None,
        genes=None,
        array_xy=table.array_xy,
        dropped=table.dropped,
        bits=options.bits,
    )
    order = reading_order(table.xy_px0)
    return Layout(section.spots(order), None, (*notes, *map(str, geometry.notes)))


def _check_inside(table: SpotTable, slide: Slide) -> None:
    outside = spots_outside(table.xy_px0, slide)
    if outside.any():
        low, high = table.xy_px0.min(axis=0), table.xy_px0.max(axis=0)
        raise SpotTableError(
            expected=f"all positions of {table.source} inside {slide.path.name} ({slide.width_px0} x {slide.height_px0} px)",
            found=(
                f"{int(outside.sum())} of {table.n_spots} outside (x {low[0]:.0f} to {high[0]:.0f}, y "
                f"{low[1]:.0f} to {high[1]:.0f})"
            ),
            remedy="give level-0 pixels of this slide",
        )


def _scale(slide: Slide, stated: float | None) -> tuple[float, tuple[str, ...]]:
    if stated is not None:
        return stated, tags_beside(slide.mpp_sources, stated)
    if slide.mpp is None:
        raise no_mpp(slide.path, PixelSize(slide.mpp_sources, slide.mpp_rejected))
    return slide.mpp, ()


def _source(slide: Slide, stated: float | None) -> str:
    return "stated" if stated is not None else f"slide tag {slide.mpp_source}"
