"""Outlines that an expert drew, and how well a map agrees with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hespotex.analysis.localize import compare
from hespotex.analysis.localize.cohort import Slides
from hespotex.analysis.localize.evidence import SpotMap
from hespotex.analysis.localize.nested import Passed
from hespotex.analysis.regions import Region, read_regions
from hespotex.errors import ConfigError, counted


def read_outlines(read: Slides, folder: Path | None) -> dict[str, tuple[Region, ...]]:
    """Expert outlines by slide; those of slides without a file are absent."""
    if folder is None:
        return {}
    files = {b.section_id: folder / f"{b.section_id}.geojson" for b in read.bags}
    there = {name: read_regions(path) for name, path in files.items() if path.is_file()}
    if not there:
        raise ConfigError(
            expected=f"outlines such as {next(iter(files.values()))}", found="none for any slide",
            remedy="name each GeoJSON as its slide",
        )  # fmt: skip
    return there


def against_outlines(
    read: Slides, mapped: SpotMap, passed: Passed, outlines: dict[str, tuple[Region, ...]]
) -> list[str]:
    """How well the map agrees with outlines, slide by slide; empty where there are none."""
    if not outlines:
        return []
    found, at = [], 0
    for bag, file in zip(read.bags, read.files, strict=True):
        rows = slice(at, at + bag.n_spots)
        at += bag.n_spots
        if bag.section_id in outlines:
            inside = np.any(
                [r.contains(file.spots.xy_px0) for r in outlines[bag.section_id]], axis=0
            )
            found.append([compare.map_auroc(v[rows], inside) for v in (mapped.z, passed.loss[0])])
    kept = [pair for pair in found if np.isfinite(pair).all()]
    if not kept:
        return [
            f"Outlines of {counted(len(found), 'slide')} hold no spot or all of them: the map is not scored against them."
        ]
    mean = np.mean(kept, axis=0)
    return [
        f"Against the outlines of {counted(len(kept), 'slide')}: AUROC of spots {mean[0]:.2f} by z, {mean[1]:.2f} by necessity "
        "alone (mean of the slides)."
    ]
