"""Whether the features files of sections can be used, as findings."""

from __future__ import annotations

from collections.abc import Sequence

from hespotex.errors import HESpotExError
from hespotex.features.foreign_h5 import read_features_file
from hespotex.inspection.findings import Finding
from hespotex.models.encoder_match import mixed_features
from hespotex.sections.section import Section


def features_findings(section: Section) -> list[Finding]:
    """Whether the file has features for every spot; nothing where none is given. Reads the whole file."""
    if section.features_file is None:
        return []
    name = section.section_id
    try:
        values, side_px0, _ = read_features_file(
            section.features_file, section.xy_px0, tile_px=section.tile_px, section=name
        )
    except HESpotExError as error:
        return [Finding(name, "features", "error", error.finding, error.remedy)]
    side_um = side_px0 * section.geometry.mpp
    shown = f"{values.shape[1]:,} features of every spot, of tiles of {side_px0:,.0f} px ({side_um:.4g} um)"
    return [Finding(name, "features", "ok", shown)]


def mixed_findings(sections: Sequence[Section]) -> list[Finding]:
    """The same as a finding."""
    error = mixed_features(sections)
    without = next((s.section_id for s in sections if s.features_file is None), "")
    return [Finding(without, "features", "error", error.finding, error.remedy)] if error else []
