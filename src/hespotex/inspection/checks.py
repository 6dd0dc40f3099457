"""The checks that run before every run: of each section, and of all sections together.

Quick beyond the reading: one small picture of each slide is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hespotex.errors import HESpotExError
from hespotex.inspection.counts import count_findings
from hespotex.inspection.findings import Finding
from hespotex.inspection.given_features import mixed_findings
from hespotex.inspection.joined import joined_findings
from hespotex.inspection.naming import NO_PANEL, GivenPanel, compare_names
from hespotex.inspection.placement import Placement, place_section, placement_findings
from hespotex.inspection.slides import SlideView, coarse_findings, slide_findings, view_slide
from hespotex.inspection.small_images import Copy, image_findings
from hespotex.inspection.unseen import unseen_findings
from hespotex.sections.section import Section
from hespotex.slide import slide_key
from hespotex.storage.content_keys import content_key

# Whole-transcriptome tables of one kind of tissue differ by less: what was never seen in a section is rare.
_FEW_GENES = 0.5
_SAME_PLACE = 0.1
_SHOWN = 4


def check_sections(
    sections: Sequence[Section], panel: GivenPanel = NO_PANEL, *, needs_image: bool = True
) -> list[Finding]:
    """Check sections that were read, each by itself and against the others.

    Args:
        sections: as `section.read_section` gives them, their genes joined.
        panel: as of `check_together`.
        needs_image: as of `check_section`.

    Returns:
        every finding, the sections' own first; a red one must stop a run.

    Raises:
        SlideError: a slide cannot be read.
    """
    found: list[Finding] = []
    for section in sections:
        view = (
            view_slide(section.slide, section.geometry.mpp, bits=section.bits)
            if section.slide is not None
            else None
        )
        found += check_section(section, view, needs_image=needs_image)[0]
    return found + check_together(sections, panel)


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Stop where something is red.

    Raises:
        HESpotExError: names every red finding.
    """
    red = [finding for finding in findings if finding.colour == "red"]
    if red:
        shown = " | ".join(str(finding) for finding in red[:_SHOWN])
        more = f" | and {len(red) - _SHOWN} more" if len(red) > _SHOWN else ""
        raise HESpotExError(f"{shown}{more} (`hespotex inspect` shows everything)")


def check_section(
    section: Section,
    view: SlideView | None,
    *,
    copies: Sequence[Copy] = (),
    needs_image: bool = True,
) -> tuple[list[Finding], Placement | None]:
    """Everything about one section.

    Args:
        copies: small copies of its image, where it has none.
        needs_image: False where positions and counts alone are asked for.
    """
    name = section.section_id
    found: list[Finding] = []
    placement = None
    if view is not None:
        found += slide_findings(name, view, alone=False)
        found += coarse_findings(name, section.geometry.mpp)
    elif needs_image:
        found += image_findings(section, copies)
    found += scale_findings(section)
    if view is not None:
        placement = place_section(view, section)
        found += placement_findings(name, placement)
    found += joined_findings(section, placement)
    found += count_findings(section)
    found += [
        Finding(name, "left out", "info", left_out_text(reason, count))
        for reason, count in section.dropped.items()
    ]
    return found, placement


def left_out_text(reason: str, count: int) -> str:
    """A line on entries that a reader counted: left out, or kept although something is special about them."""
    kept = "kept)" in reason
    return f"{count:,} {reason}" if kept else f"{count:,} left out: {reason}"


def scale_findings(section: Section) -> list[Finding]:
    """mpp with every source's value; what was assumed."""
    geometry = section.geometry
    sources = ", ".join(f"{name}: {value:.4g}" for name, value in geometry.mpp_sources.items())
    agree = " agree" if len(geometry.mpp_sources) > 1 else ", the only source"
    found = [
        Finding(
            section.section_id,
            "scale",
            "ok",
            f"{geometry.mpp:.4g} um per pixel ({sources}{agree}); spots of {geometry.spot_diameter_um:.4g} um, "
            f"{geometry.spot_pitch_um:.4g} um apart",
        )
    ]
    for note in (*geometry.notes, *geometry.doubts):
        if note.doubtful:
            remedy = note.remedy or "look at the overlay"
            found.append(Finding(section.section_id, "scale", "warning", note.found, remedy))
        else:
            found.append(Finding(section.section_id, "scale", "info", str(note)))
    return found


def check_together(sections: Sequence[Section], panel: GivenPanel = NO_PANEL) -> list[Finding]:
    """Whether the sections fit each other: the same genes' names, none filtered, no section twice.

    Args:
        sections: joined by `naming.join_sections`.
    """
    return [
        *compare_names(sections, panel),
        *mixed_findings(sections),
        *(unseen_findings(sections) or _filtered(sections)),
        *_same_content(sections),
        *_same_slide(sections),
    ]


def _filtered(sections: Sequence[Section]) -> list[Finding]:
    """Tables with far fewer genes than the largest, whose absent genes would be taken for 0."""
    listed = [(s, len(s.genes)) for s in sections if s.genes is not None]
    most, widest = max(((n, s.section_id) for s, n in listed), default=(0, ""))
    return [
        Finding(
            section.section_id,
            "genes",
            "warning",
            f"{n:,} genes, where {widest} has {most:,}: those that it lacks count as 0 in every spot",
            "if genes were left out of the table, set missing_genes to unmeasured, or give the whole table",
        )
        for section, n in listed
        if section.missing_genes == "zero" and n < _FEW_GENES * most
    ]


def _same_content(sections: Sequence[Section]) -> list[Finding]:
    """The same counts under two ids: one would be tested with the other in training."""
    seen: dict[str, str] = {}
    found = []
    for section in sections:
        counts, genes = section.counts, section.genes
        if counts is None or genes is None:
            continue
        key = content_key(counts.data, counts.indices, counts.indptr, genes.tolist())
        if key in seen:
            found.append(
                Finding(
                    section.section_id,
                    "content",
                    "error",
                    f"the same counts as section {seen[key]}",
                    "keep one of the two in the manifest",
                )
            )
        seen.setdefault(key, section.section_id)
    return found


def _same_slide(sections: Sequence[Section]) -> list[Finding]:
    """One image under two sections whose spots lie on the same place."""
    with_slide = [(s, s.slide, _size(s.slide)) for s in sections if s.slide is not None]
    sizes = [size for _, _, size in with_slide]
    seen: dict[str, list[Section]] = {}
    found = []
    for section, path, size in with_slide:
        if sizes.count(size) < 2:  # another size is another image: nothing has to be read
            continue
        same = seen.setdefault(slide_key(path), [])
        found += [
            Finding(
                section.section_id,
                "content",
                "warning",
                f"the same image as section {other.section_id}, with spots in the same place",
                "check the manifest's column slide",
            )
            for other in same
            if _overlap(section, other)
        ]
        same.append(section)
    return found


def _size(path: Path) -> int:
    """Bytes of a file; 0 for a Zarr store, so that all stores are compared."""
    return 0 if path.is_dir() else path.stat().st_size


def _overlap(one: Section, other: Section) -> bool:
    """Whether many spots of one section lie on the other's: two pieces of tissue on one slide may interlock."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(one.xy_px0).query(other.xy_px0)
    near = distance * one.geometry.mpp < one.geometry.spot_pitch_um / 2
    return bool(near.sum() > _SAME_PLACE * min(one.n_spots, other.n_spots))
