"""The counts of a section or slide: which source, which square, kept under a key of their content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.config import NucleiConfig
from hespotex.encoders.cache import cache_folder
from hespotex.errors import NucleiError
from hespotex.nuclei.counting import NucleiCounts, count_nuclei
from hespotex.nuclei.labels import LabelSource
from hespotex.nuclei.masks import open_mask
from hespotex.nuclei.segmenters import SlideLabels, build_segmenter
from hespotex.progress import Advance
from hespotex.sections.section import Section
from hespotex.slide import Slide, open_slide, slide_key
from hespotex.storage.content_keys import content_key


def count_section(
    section: Section,
    config: NucleiConfig,
    *,
    device: str = "cpu",
    cache_dir: Path | None = None,
    advance: Advance | None = None,
) -> NucleiCounts:
    """Nuclei under the spots of a section; counted once, kept in the cache under a key of all they depend on.

    Args:
        section: spots, slide, and its mask where the source is `mask`.
        cache_dir: folder of the cache; None takes the user's cache folder.
        advance: hears of every so many spots that are done.

    Raises:
        NucleiError: there is no slide, no mask, no segmenter, or the slide is too coarse.
        SlideError: the slide cannot be read.
    """
    if section.slide is None:
        raise NucleiError(
            expected="a slide to find nuclei on",
            found="a features file alone",
            remedy="give the slide too, or train with nuclei off",
            section=section.section_id,
        )
    with open_slide(section.slide, mpp=section.geometry.mpp, bits=section.bits) as slide:
        labels = open_labels(slide, section, config, device)
        key = content_key(slide_key(section.slide, section.bits), _key(labels, section, config))
        kept = (cache_dir or cache_folder()) / "nuclei" / f"{key}.safetensors"
        return counts_on(slide, section, labels, config, kept=kept, key=key, advance=advance)


def open_labels(
    slide: Slide,
    section: Section,
    config: NucleiConfig,
    device: str = "cpu",
    *,
    holes: bool = False,
) -> LabelSource:
    """The label image of a slide: the section's mask, or what a segmenter finds.

    Args:
        section: spots, scale, mask.
        holes: parts of the slide that cannot be read are taken as glass.

    Raises:
        NucleiError: there is no mask, no segmenter, or the slide is too coarse.
    """
    mpp = section.geometry.mpp
    if config.source == "mask":
        if section.nuclei_file is None:
            raise NucleiError(
                expected="a nuclei mask",
                found="none: name it in the manifest's column `nuclei`, or give --nuclei mask:PATH",
                section=section.section_id,
            )
        size_px0 = (slide.width_px0, slide.height_px0)
        origin_px0 = slide.bounds_px0 if config.bounds_offset else (0.0, 0.0)
        return open_mask(section.nuclei_file, size_px0, mpp, origin_px0)
    segmenter = build_segmenter(config.source, slide, section.xy_px0, mpp, device)
    return SlideLabels(slide, mpp, segmenter, holes=holes)


def counts_on(
    slide: Slide,
    section: Section,
    labels: LabelSource,
    config: NucleiConfig,
    *,
    kept: Path | None = None,
    key: str = "",
    advance: Advance | None = None,
) -> NucleiCounts:
    """Count under a section's spots; `kept`, `key` and `advance` as for `count_nuclei`."""
    return count_nuclei(
        labels,
        section.xy_px0,
        square_um(section, config),
        section.geometry.mpp,
        (slide.width_px0, slide.height_px0),
        kept=kept,
        key=key,
        advance=advance,
    )


def with_counts(section: Section, counts: NucleiCounts) -> Section:
    """The section with its counts as columns of `obs`, so that they are written with what is predicted."""
    obs = pd.DataFrame(index=section.barcodes) if section.obs is None else section.obs.copy()
    obs[keys.NUCLEI] = counts.nuclei
    obs[keys.NUCLEI_PER_MM2] = counts.per_mm2
    return replace(section, obs=obs)


def square_um(section: Section, config: NucleiConfig) -> float:
    """Side of the square in which nuclei are counted, in microns."""
    return config.side_um or section.geometry.spot_diameter_um


def _key(labels: LabelSource, section: Section, config: NucleiConfig) -> str:
    spots: npt.NDArray[np.float64] = section.xy_px0
    return content_key(labels.key(), spots, section.geometry.mpp, square_um(section, config))
