"""Nuclei under spots: from a segmenter or a mask, tile by tile, each nucleus counted once."""

from hespotex.nuclei.counting import NucleiCounts, count_nuclei
from hespotex.nuclei.origin import NucleiOrigin
from hespotex.nuclei.section_counts import (
    count_section,
    counts_on,
    open_labels,
    square_um,
    with_counts,
)
from hespotex.nuclei.segmenters import SegmenterInfo, list_segmenters, refuse_coarse

__all__ = [
    "NucleiCounts",
    "NucleiOrigin",
    "SegmenterInfo",
    "count_nuclei",
    "count_section",
    "counts_on",
    "list_segmenters",
    "open_labels",
    "refuse_coarse",
    "square_um",
    "with_counts",
]
