"""Nuclei on a slide without spots: whose, the counts of every spot kept on the disk, the factor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hespotex.config import NucleiConfig
from hespotex.nuclei import NucleiOrigin, counts_on, open_labels, square_um, with_counts
from hespotex.nuclei.factor import nuclei_factor
from hespotex.predicting.options import SlideTask
from hespotex.progress import Advance
from hespotex.sections.section import Section
from hespotex.slide import Slide
from hespotex.storage.content_keys import content_key, file_key


def mask_of(task: SlideTask, nuclei: NucleiConfig) -> Path | None:
    """The mask of a slide; None where nuclei come from elsewhere, or the model has none.

    Raises:
        ConfigError: there is no mask.
    """
    if nuclei.mode == "off" or nuclei.source != "mask":
        return None
    origin = task.options.nuclei_origin or NucleiOrigin("mask")
    listed = task.row.nuclei if task.row is not None else task.nuclei_mask
    return origin.mask_of(task.section_id, listed)


def nuclei_key(mask: Path | None, nuclei: NucleiConfig) -> str:
    """Key of what the nuclei of a slide depend on besides the slide and its spots."""
    return content_key(nuclei.model_dump(), None if mask is None else file_key(mask))


def find_slide_nuclei(
    slide: Slide,
    section: Section,
    mask: Path | None,
    nuclei: NucleiConfig,
    kept: Path,
    key: str,
    *,
    device: str,
    advance: Advance,
) -> tuple[Section, npt.NDArray[np.float64] | None]:
    """The section with counts in its `obs`, and the factor of every spot; None with mode off.

    The factor of the published mode is relative to the slide, so all spots are counted before the first
    is predicted. Parts that cannot be read hold no nuclei: their spots are marked where they are encoded.

    Args:
        mask: of the slide, where the source is `mask`.
        kept: file that lets a killed count go on.
        key: of slide, spots and scale.

    Raises:
        NucleiError: nuclei cannot be found on this slide.
    """
    if nuclei.mode == "off" or not section.n_spots:
        advance(section.n_spots)
        return section, None if nuclei.mode == "off" else np.ones(0)
    labels = open_labels(slide, replace(section, nuclei_file=mask), nuclei, device, holes=True)
    counted = content_key(key, labels.key(), square_um(section, nuclei))
    counts = counts_on(slide, section, labels, nuclei, kept=kept, key=counted, advance=advance)
    factor = nuclei_factor(counts, nuclei.mode, section=section.section_id)
    return with_counts(section, counts), factor
