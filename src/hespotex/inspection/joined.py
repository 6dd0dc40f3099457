"""Whether counts and positions of two files are of one section, as findings.

Barcodes and places of the array are the same on every slide, so they join counts of one with positions of another.
"""

from __future__ import annotations

from typing import Final

from hespotex.inspection.findings import Finding, Level
from hespotex.inspection.placement import Placement
from hespotex.sections.section import Section

# Of the real sections of docs/inspect.md: at most 2 % have no partner, in one direction alone; the depth of matching ones
# follows the tissue's darkness by 0.33 to 0.69, of others by up to 0.23, by 0.37 where two sections are neighbours.
_FEW: Final = 0.02
_MANY: Final = 0.2
_FOLLOWS: Final = 0.3
_DEEPER: Final = 0.8
_REMEDY: Final = "give counts and positions of one section; look at the overlay"


def joined_findings(section: Section, placement: Placement | None) -> list[Finding]:
    """Findings on whether counts and positions are of one section, by partners and depth; none where one file holds both.

    Args:
        placement: on its slide, or on a copy of it; None without.
    """
    joined = section.joined
    if joined is None:
        return []
    counts = joined.counts_alone / max(joined.n_counts, 1)
    positions = joined.positions_alone / max(joined.n_positions, 1)
    correlation = None if placement is None else placement.depth_correlation.get("as given")
    follows = correlation is not None and correlation >= _FOLLOWS
    both = min(counts, positions) > 0 and max(counts, positions) > _FEW
    shallow = joined.deeper_inside is not None and joined.deeper_inside < _DEEPER
    # Spots may have been left out of the counts on purpose: then depth tells.
    one = positions > _FEW or (joined.exact and counts > 0)
    silent = joined.whole_array and correlation is not None
    if not (both or shallow or ((one or silent) and not follows)):
        return []
    level: Level = "error" if min(counts, positions) > _MANY and not follows else "warning"
    said = [
        f"{joined.counts_alone:,} of {joined.n_counts:,} counts have no position in the tissue",
        f"{joined.positions_alone:,} of {joined.n_positions:,} positions there have no counts",
    ]
    if joined.whole_array:
        said.append("the tissue covers the whole array")
    if shallow:
        said.append(
            f"a spot in the tissue has more counts than one outside with a chance of {joined.deeper_inside:.0%} alone"
        )
    if correlation is not None:
        verb = "follows" if follows else "does not follow"
        said.append(f"depth {verb} the tissue's darkness (rank correlation {correlation:.2f})")
    found = f"counts and positions may be of two sections: {', '.join(said)}"
    remedy = _REMEDY + (" (where it is right: --accept position)" if level == "error" else "")
    return [Finding(section.section_id, "position", level, found, remedy)]
