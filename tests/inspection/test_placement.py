"""What array and counts say beside the tissue about where spots lie."""

from __future__ import annotations

import numpy as np
import pytest

from hespotex.geometry import ORIENTATIONS, Hypothesis, OrientationEvidence
from hespotex.inspection.placement import Placement, array_directions, placement_findings


@pytest.mark.parametrize(
    ("lead", "array_xy", "level"),
    [
        (0.15, None, "error"),
        (0.15, [[0, 0], [1, 0], [0, 1]], "warning"),  # a mirror would mirror the array
        (0.15, [[1, 0], [0, 0], [1, 1]], "error"),  # a mirror would put the array right
        (0.50, [[0, 0], [1, 0], [0, 1]], "error"),
    ],
)
def test_an_unmirrored_array_outweighs_a_small_lead_of_a_mirror(
    lead: float, array_xy: list[list[int]] | None, level: str
) -> None:
    given = Hypothesis("as given", 1.0, 0.4, 0.4)
    best = Hypothesis("mirrored left to right", 1.0, 0.4 + lead, 0.4)
    evidence = OrientationEvidence("other", given, best, "so many; correct the positions")
    xy = np.array([[100.0, 100.0], [140.0, 100.0], [100.0, 140.0]])
    array = None if array_xy is None else array_directions(np.array(array_xy, dtype=float), xy)
    (finding, *_) = placement_findings("A", Placement(evidence, {}, array))
    assert finding.level == level
    assert ("speaks against it" in finding.found) == (level == "warning")


@pytest.mark.parametrize(("closed", "says"), [(0.3, "as given"), (0.6, None)])
def test_counts_are_silent_where_an_orientation_that_the_tissue_rules_out_suits_them_better(
    closed: float, says: str | None
) -> None:
    given = Hypothesis("as given", 1.0, 0.6, 0.6)
    other = Hypothesis("turned by 180 degrees", 1.0, 0.6, 0.6)
    evidence = OrientationEvidence(
        "undecidable", given, other, "no telling", open=(given.name, other.name)
    )
    correlations = dict.fromkeys(ORIENTATIONS, closed) | {given.name: 0.5, other.name: 0.1}
    assert Placement(evidence, correlations, None).counts_say == says
