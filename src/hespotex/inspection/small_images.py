"""The small copies of an image that Space Ranger leaves beside the spots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from hespotex.errors import HESpotExError
from hespotex.inspection.findings import Finding
from hespotex.inspection.slides import SlideView, view_slide
from hespotex.sections.section import ManifestRow, Section, spot_source
from hespotex.spots.registry import read_spots
from hespotex.spots.scale_factors import COPY_PATTERNS


@dataclass(frozen=True)
class Copy:
    """A down-scaled copy of the full image.

    Attributes:
        scale: its pixels per level-0 pixel.
    """

    view: SlideView
    scale: float


def find_copies(row: ManifestRow, section: Section) -> list[Copy]:
    """Copies in `spatial/`, the most useful first; those whose size does not hold the spots are left out."""
    place = row.spots or row.expression
    if row.format != "space_ranger" or place is None:
        return []
    folder = place if place.is_dir() else place.parent
    files = [p for sub in _folders(folder) if sub.is_dir() for p in sorted(sub.iterdir())]
    source = replace(spot_source(row), expression=None, spots=place)
    scales = read_spots(row.format, source).hints.image_scales
    copies = []
    for pattern, kind in COPY_PATTERNS:
        for path in files:
            if kind not in scales or not fnmatch(path.name, pattern):
                continue
            try:
                view = view_slide(path)
            except HESpotExError:
                continue
            if (section.xy_px0.max(axis=0) * scales[kind] < view.size_px0).all():
                copies.append(Copy(view, scales[kind]))
    return copies


def image_findings(section: Section, copies: Sequence[Copy] = ()) -> list[Finding]:
    """The finding that a section has neither image nor features, so that nothing can be run; it lists the scales of small copies."""
    if section.slide is not None or section.features_file is not None:
        return []
    name, mpp, shown = (
        section.section_id,
        section.geometry.mpp,
        "no full-resolution image was given",
    )
    remedy = (
        "give it as slide in a manifest (or with --slide): of Visium, it is the image that spaceranger count was given, or "
        "stands on the data set's page"
    )
    if not copies:
        return [Finding(name, "slide", "error", shown, remedy)]
    listed = ", ".join(
        f"{c.view.path.name} {c.view.size_px0[0]:,} x {c.view.size_px0[1]:,} px: effective "
        f"{mpp / c.scale:.4g} um per pixel"
        for c in copies
    )
    return [
        Finding(
            name,
            "slide",
            "error",
            f"{shown}, only small copies lie beside the spots ({listed}, against {mpp:.4g} in the full image)",
            f"{remedy}; or give a copy as slide with --allow-hires: it shows no cells",
        )
    ]


def _folders(folder: Path) -> list[Path]:
    outs = folder / "outs" if (folder / "outs").is_dir() else folder
    return [outs / "spatial", outs, outs.parent / "spatial"]
