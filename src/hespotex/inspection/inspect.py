"""The inspection of an input: every section and slide looked at, even where another is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.config import InputChoices
from hespotex.errors import HESpotExError, ManifestError, SlideError
from hespotex.inspection.checks import check_section, check_together
from hespotex.inspection.findings import Colour, Finding, accept_findings, exit_code, verdict
from hespotex.inspection.given_features import features_findings
from hespotex.inspection.inputs import resolve_input
from hespotex.inspection.mapping import offer_mapping
from hespotex.inspection.naming import join_sections, name_sections
from hespotex.inspection.placement import known_scales, place, placement_findings, total_counts
from hespotex.inspection.reading import check_named, idle_mpp
from hespotex.inspection.slides import SlideView, coarse_findings, slide_findings, view_slide
from hespotex.inspection.small_images import find_copies
from hespotex.progress import Progress, heard
from hespotex.sections.manifest import CheckedRow
from hespotex.sections.section import ManifestRow, Section, read_section, spot_source
from hespotex.slide import DOUBT_REMEDY
from hespotex.slide.pixel_size import tags_beside
from hespotex.spots.base import SpotTable
from hespotex.spots.registry import read_spots


@dataclass(frozen=True)
class Picture:
    """An image with spots on it, to be drawn.

    Attributes:
        xy_px0: (n, 2) spot centres in its pixels; None for a slide alone.
        mpp: microns per pixel of it; None where unknown.
        spot_diameter_um: None where unknown.
        note: what to say of it, for example that it is a small copy.
        bits: of a sample of the image, where they are stated.
    """

    path: Path
    xy_px0: npt.NDArray[np.float64] | None
    mpp: float | None
    spot_diameter_um: float | None
    note: str = ""
    bits: int | None = None


@dataclass(frozen=True)
class Inspected:
    """One section or slide.

    Attributes:
        name: id of the section or stem of the slide.
        picture: what can be drawn; None where no image can be read.
        facts: numbers for machines.
    """

    name: str
    findings: tuple[Finding, ...]
    picture: Picture | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Colour:
        """The worst colour."""
        return verdict(self.findings)


@dataclass(frozen=True)
class Inspection:
    """An input, looked at.

    Attributes:
        kind: manifest, spots, slide, folder of slides.
        together: findings about the input as a whole.
        gene_names: symbol of each Ensembl id, where sections name their genes differently and one of
            their own files holds both names.
    """

    source: str
    kind: str
    items: tuple[Inspected, ...]
    together: tuple[Finding, ...] = ()
    gene_names: dict[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them."""
        return (*(f for item in self.items for f in item.findings), *self.together)

    @property
    def verdict(self) -> Colour:
        """The worst colour."""
        return verdict(self.findings)

    @property
    def exit_code(self) -> int:
        """0 for green, 1 for yellow, 2 for red."""
        return exit_code(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": self.source,
            "kind": self.kind,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "sections": [
                {
                    "name": item.name,
                    "verdict": item.verdict,
                    **item.facts,
                    "findings": [f.as_dict() for f in item.findings],
                }
                for item in self.items
            ],
            "together": [f.as_dict() for f in self.together],
        }


def inspect_input(
    path: Path,
    *,
    slide: Path | None = None,
    sections: Sequence[str] | None = None,
    library: str | None = None,
    bits: int | None = None,
    choices: InputChoices | None = None,
    progress: Progress = None,
) -> Inspection:
    """Look at everything in an input; nothing that is wrong with it is raised.

    Args:
        path: a slide, a folder or file of spots, a manifest, a folder of slides.
        slide: the full-resolution image of a folder or file of spots.
        library: which section of a folder or file of spots that holds several.
        bits: of a sample of the slides, that hold the picture, where no tag tells it.
        choices: what the user accepts; it is shown in yellow.

    Example:
        >>> inspect_input(Path("sections.csv")).verdict  # doctest: +SKIP
        'green'
    """
    reporter, choices = heard(progress), choices or InputChoices()
    try:
        found = resolve_input(path, slide=slide, sections=sections, library=library, bits=bits)
        check_named(choices, [row.section_id for row in found.rows])
    except ManifestError as error:
        problems = tuple(
            Finding(path.name, "reading", "error", problem, "correct the manifest")
            for problem in error.problems
        )
        return Inspection(path.name, "manifest", (), problems)
    except HESpotExError as error:
        return Inspection(path.name, "unknown", (), (_error(path.name, error),))
    items, read = [_no_row(row) for row in found.broken], []
    with reporter.task("inspecting", len(found.rows)) as advance:
        for row in found.rows:
            item, section = _inspect_any(row, choices)
            items.append(item)
            if section is not None:
                read.append(section)
            advance(1)
    notes = [Finding(path.name, "reading", "info", note) for note in found.notes]
    if found.doubt is not None:
        notes.append(Finding(path.name, "reading", "warning", found.doubt, DOUBT_REMEDY))
    notes += idle_mpp(choices, found.rows)
    named, by_table = name_sections(read, choices)
    joined, renamed = join_sections(named)
    together, _ = accept_findings([*by_table, *renamed, *check_together(joined)], choices)
    mapping: dict[str, str] = {}
    if any(f.topic == "genes" and f.colour == "red" for f in together):
        mapping, offer = offer_mapping(found.rows, joined)
        notes += offer
    return Inspection(path.name, found.kind, tuple(items), (*together, *notes), mapping)


def _no_row(row: CheckedRow) -> Inspected:
    findings = (
        Finding(row.name, "reading", "error", p, "correct the manifest") for p in row.problems
    )
    return Inspected(row.name, tuple(findings))


def _inspect_any(row: ManifestRow, choices: InputChoices) -> tuple[Inspected, Section | None]:
    """`inspect_row`; a file that breaks a library in a way of its own is one red line, and the others go on."""
    try:
        return inspect_row(row, choices)
    except Exception as error:  # noqa: BLE001  named, so nothing is hidden
        found = f"the files of this section cannot be read ({type(error).__name__}: {error})"
        remedy = "write or copy them again, or report this line"
        finding = Finding(row.section_id, "reading", "error", found, remedy)
        return Inspected(row.section_id, (finding,)), None


def inspect_row(row: ManifestRow, choices: InputChoices) -> tuple[Inspected, Section | None]:
    """Look at one section or slide; the section itself too, where it can be read."""
    findings: list[Finding] = []
    view, slide_error = None, None
    if row.slide is not None:
        try:
            view = view_slide(row.slide, row.mpp, bits=row.bits, alone=not row.has_spots)
        except SlideError as error:
            slide_error = error
            findings.append(_error(row.section_id, error))
    if not row.has_spots:
        return _slide_alone(row, view, findings), None
    try:
        # With a slide that cannot be read, the rest can still be looked at.
        section = read_section(replace(row, slide=None) if slide_error else row, choices)
    except HESpotExError as error:
        return _broken(row, view, findings, error, choices), None
    findings += [
        Finding(
            row.section_id,
            "accepted",
            "warning",
            f"accepted by the user: {said}",
            "look at the overlay",
        )
        for said in section.accepted
    ]
    inspected = _read_well(row, section, view, findings, slide_failed=slide_error is not None)
    weighed, _ = accept_findings(inspected.findings, choices)
    return replace(inspected, findings=tuple(weighed)), section


def _read_well(
    row: ManifestRow,
    section: Section,
    view: SlideView | None,
    findings: list[Finding],
    *,
    slide_failed: bool,
) -> Inspected:
    # A slide that cannot be read has been named.
    alone = row.slide is None and row.features is None
    copies = find_copies(row, section) if alone else []
    found, placement = check_section(section, view, copies=copies, needs_image=not slide_failed)
    found += features_findings(section)
    picture = None
    geometry = section.geometry
    facts = {**_slide_facts(view), **_section_facts(section)}
    if placement is not None:
        given = placement.evidence.given
        facts["share_of_spots_on_tissue"] = round(given.on_tissue, 4)
        facts["orientation"] = placement.evidence.verdict
        facts["depth_darkness_correlation"] = placement.depth_correlation.get("as given")
    if view is not None:
        picture = Picture(
            view.path, section.xy_px0, geometry.mpp, geometry.spot_diameter_um, bits=section.bits
        )
    elif row.features is not None:
        found.append(Finding(row.section_id, "slide", "info", "no slide: features are given"))
    elif copies:
        best = copies[0]
        small = place(
            best.view,
            section.xy_px0 * best.scale,
            scales={},
            pitch_px0=geometry.spot_pitch_um / geometry.mpp * best.scale,
            depth=total_counts(section),
            array_xy=section.array_xy,
        )
        found += placement_findings(row.section_id, small)
        facts["share_of_spots_on_tissue"] = round(small.evidence.given.on_tissue, 4)
        picture = Picture(
            best.view.path,
            section.xy_px0 * best.scale,
            geometry.mpp / best.scale,
            geometry.spot_diameter_um,
            f"small copy of the image, {best.scale:.4g} of its size",
        )
    return Inspected(row.section_id, (*findings, *found), picture, facts)


def _slide_alone(row: ManifestRow, view: SlideView | None, findings: list[Finding]) -> Inspected:
    if view is None:
        return Inspected(row.section_id, tuple(findings))
    found = slide_findings(row.section_id, view, alone=True, scale_stated=row.mpp is not None)
    mpp = row.mpp if row.mpp is not None else view.mpp
    if row.mpp is not None:
        shown = f"{row.mpp:.4g} um per pixel, as the manifest says"
        found.append(Finding(row.section_id, "scale", "ok", shown))
        remedy = "correct or empty the manifest's column mpp"
        found += [
            Finding(row.section_id, "scale", "warning", said, remedy)
            for said in tags_beside(view.mpp_sources, row.mpp)
        ]
    found += coarse_findings(row.section_id, mpp)
    picture = Picture(view.path, None, mpp, None, bits=row.bits)
    facts = {**_slide_facts(view), "mpp": mpp}
    return Inspected(row.section_id, (*findings, *found), picture, facts)


def _broken(
    row: ManifestRow,
    view: SlideView | None,
    findings: list[Finding],
    error: HESpotExError,
    choices: InputChoices,
) -> Inspected:
    """A section that cannot be put together: what its positions say, where they can be read."""
    findings = [*findings, _error(row.section_id, error)]
    is_copy = isinstance(error, SlideError)  # then the scale has been named already
    if view is None:
        return Inspected(row.section_id, tuple(findings))
    found = slide_findings(row.section_id, view, alone=False)
    table = _table(row, choices)
    xy_px0 = table.xy_px0 if table is not None else None
    if table is not None and xy_px0 is not None and not is_copy:
        scales = known_scales(view.size_px0, None, dict(table.hints.image_scales))
        placement = place(view, xy_px0, scales=scales, array_xy=table.array_xy)
        if placement.evidence.verdict == "other":
            found += placement_findings(row.section_id, placement)
    picture = Picture(view.path, xy_px0, row.mpp or view.mpp, row.spot_diameter_um, bits=row.bits)
    return Inspected(row.section_id, (*findings, *found), picture, _slide_facts(view))


def _table(row: ManifestRow, choices: InputChoices) -> SpotTable | None:
    try:
        return read_spots(row.format or "", spot_source(row, choices.grid))
    except HESpotExError:
        return None  # its error was the one that read_section raised


def _error(name: str, error: HESpotExError) -> Finding:
    return Finding(name, "reading", "error", error.finding, error.remedy)


def _slide_facts(view: SlideView | None) -> dict[str, Any]:
    if view is None:
        return {}
    return {
        "slide": {
            "file": view.path.name,
            "reader": view.reader,
            "width_px0": view.size_px0[0],
            "height_px0": view.size_px0[1],
            "level_downsamples": list(view.level_downsamples),
            "mpp_tags": view.mpp_sources,
            "mpp_tags_not_set": view.mpp_rejected,
        }
    }


def _section_facts(section: Section) -> dict[str, Any]:
    geometry = section.geometry
    return {
        "n_spots": section.n_spots,
        "n_genes": None if section.genes is None else len(section.genes),
        "mpp": geometry.mpp,
        "mpp_sources": dict(geometry.mpp_sources),
        "spot_pitch_um": geometry.spot_pitch_um,
        "spot_diameter_um": geometry.spot_diameter_um,
        "left_out": dict(section.dropped),
    }
