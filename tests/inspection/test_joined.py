"""Counts of one slide with the positions of another are never green; those of one slide stay green."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from helpers.made_sections import Known, legacy_st, positions, write_10x_h5, write_scale
from hespotex.config import InputChoices
from hespotex.errors import HESpotExError
from hespotex.inspection import read_checked
from hespotex.inspection.inspect import Inspected, inspect_row
from hespotex.progress import Silent
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import ManifestRow

PITCH = 20.0


def array(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and centres of a printed array, the same on every slide."""
    y, x = np.divmod(np.arange(columns * rows), columns)
    xy = np.stack([PITCH * (x + 0.5 + 0.5 * (y % 2)), PITCH * (0.7 + y * np.sqrt(3) / 2)], axis=1)
    return np.stack([2 * x + y % 2, y], axis=1), xy


class Slide:
    """Tissue that is dark where it is dense; spots have more counts there."""

    def __init__(
        self, seed: int, box: tuple[int, int, int, int] | None, columns: int = 32, rows: int = 30
    ) -> None:
        rng = np.random.default_rng(seed)
        width, height = 20 * columns + 40, 18 * rows + 20
        noise = gaussian_filter(rng.normal(size=(height // 4, width // 4)), 9)
        self.density = zoom((noise - noise.mean()) / noise.std(), 4, order=1)
        self.on = np.full((height, width), box is None)
        if box is not None:
            left, top, right, bottom = box
            self.on[top:bottom, left:right] = True
            self.on[top : top + (bottom - top) // 3, left : left + (right - left) // 3] = False
        cells = rng.uniform(0.85, 1.15, (height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
        shade = np.clip(1 - 0.2 * self.density, 0.3, 1.6) * cells
        tissue = np.array([170.0, 90.0, 150.0]) * shade[..., None]
        image = np.where(self.on[..., None], tissue, 240.0)
        self.image = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        self.places, self.xy = array(columns, rows)
        at = tuple(self.xy[:, ::-1].astype(int).T)
        self.inside = self.on[at]
        depth = np.where(self.inside, 60 * np.exp(0.5 * self.density[at]), 3.0)
        self.counts = rng.poisson(depth[:, None] * np.ones(6))
        self.names = [f"A{i:05d}-1" for i in range(len(self.xy))]

    def known(self, kept: np.ndarray) -> Known:
        index = np.flatnonzero(kept)
        return Known(
            self.counts[index], ["ACTB", "GAPDH", "MT-CO1", "EPCAM", "CD3E", "KRT8"],
            self.places[index], self.xy[index], [self.names[i] for i in index],
        )  # fmt: skip


A = Slide(1, (40, 40, 600, 520))
INSIDE_A = Slide(2, (240, 240, 560, 480))
OTHER = Slide(3, (110, 60, 650, 540))


def folder(
    path: Path, counts: Slide, spatial: Slide, *, kept: np.ndarray | None = None, raw: bool = False
) -> ManifestRow:
    """Filtered (or raw) counts of one slide beside the spatial folder and image of one."""
    (path / "spatial").mkdir(parents=True)
    known = counts.known(
        np.ones(len(counts.xy), bool) if raw else counts.inside if kept is None else kept
    )
    write_10x_h5(path / f"{'raw' if raw else 'filtered'}_feature_bc_matrix.h5", known)
    table = positions(spatial.known(np.ones(len(spatial.xy), bool)), outside=0)
    table["in_tissue"] = spatial.inside.astype(int)
    table.to_csv(path / "spatial" / "tissue_positions.csv", index=False)
    write_scale(path / "spatial" / "scalefactors_json.json", spot_diameter_fullres=13.0)
    Image.fromarray(spatial.image).save(path / "slide.png", compress_level=1)
    return ManifestRow("S", "P", path / "slide.png", path, "space_ranger")


def inspected(row: ManifestRow) -> Inspected:
    return inspect_row(row, InputChoices())[0]


def colours(item: Inspected) -> set[str]:
    """Of all that is found but the pixel size: the pictures are small, and coarse."""
    return {f.colour for f in item.findings if "cells cannot be seen" not in f.found}


def said(item: Inspected) -> list[str]:
    return [f.found for f in item.findings if "two sections" in f.found]


@pytest.mark.parametrize("slide", [A, INSIDE_A, OTHER])
@pytest.mark.parametrize("raw", [False, True])
def test_counts_and_positions_of_one_slide_are_green(
    slide: Slide, raw: bool, tmp_path: Path
) -> None:
    assert colours(inspected(folder(tmp_path, slide, slide, raw=raw))) == {"green"}


def test_spots_that_were_left_out_on_purpose_stay_green(tmp_path: Path) -> None:
    deep = A.counts.sum(axis=1) > np.quantile(A.counts[A.inside].sum(axis=1), 0.2)
    assert colours(inspected(folder(tmp_path, A, A, kept=A.inside & deep))) == {"green"}


def test_counts_that_lie_within_the_other_tissue_are_doubted(tmp_path: Path) -> None:
    item = inspected(folder(tmp_path, INSIDE_A, A))
    assert item.verdict == "yellow"
    (found,) = said(item)
    assert "0 of 186 counts have no position in the tissue" in found
    assert "depth does not follow the tissue's darkness (rank correlation" in found


def test_counts_that_lie_beside_it_are_refused(tmp_path: Path) -> None:
    item = inspected(folder(tmp_path, OTHER, A))
    assert item.verdict == "red"
    assert "marked outside by the positions" in " ".join(f.found for f in item.findings)


def test_few_counts_beside_it_are_doubted(tmp_path: Path) -> None:
    strays = np.flatnonzero(A.inside & ~np.roll(A.inside, 1))[:6] - 1
    kept = A.inside.copy()
    kept[strays] = True
    kept[np.flatnonzero(A.inside)[::30]] = False
    item = inspected(folder(tmp_path, A, A, kept=kept))
    assert item.verdict == "yellow"
    assert "depth follows the tissue's darkness" in said(item)[0]


def test_unfiltered_counts_of_another_slide_are_doubted(tmp_path: Path) -> None:
    item = inspected(folder(tmp_path, INSIDE_A, A, raw=True))
    assert item.verdict == "yellow"
    assert "more counts than one outside with a chance of" in said(item)[0]


@pytest.mark.slow
def test_where_tissue_covers_the_array_depth_alone_tells(tmp_path: Path) -> None:
    whole = [Slide(seed, None, 68, 60) for seed in (4, 5)]
    assert said(inspected(folder(tmp_path / "right", whole[0], whole[0]))) == []
    (found,) = said(inspected(folder(tmp_path / "wrong", whole[0], whole[1])))
    assert "the tissue covers the whole array, depth does not follow" in found


@pytest.mark.slow
def test_real_sections_are_told_from_swapped_ones(shared_data: Path) -> None:
    rows = {r.section_id: r for r in read_manifest(shared_data / "mob" / "sections.csv").rows}
    swapped = replace(rows["MOB9"], expression=rows["MOB4"].expression, labels=None)
    assert inspected(rows["MOB9"]).verdict == "green"
    assert "71 of 264 counts have no position" in said(inspected(swapped))[0]


@pytest.mark.slow
def test_runs_stop_where_both_hardly_meet_unless_it_is_accepted(tmp_path: Path) -> None:
    left, right = Slide(8, (40, 40, 420, 520)), Slide(9, (240, 40, 640, 520))
    for name, slide in (("counts", left), ("spots", right)):
        legacy_st(tmp_path / name, slide.known(slide.inside))
    Image.fromarray(right.image).save(tmp_path / "slide.png", compress_level=1)
    row = ManifestRow(
        "S", "P", tmp_path / "slide.png", tmp_path / "counts" / "counts.tsv.gz", "legacy_st",
        tmp_path / "spots" / "spots.tsv", spot_pitch_um=100.0, spot_diameter_um=55.0,
    )  # fmt: skip
    with pytest.raises(HESpotExError, match=r"two sections: .* counts have no position in the tis"):
        read_checked([row], InputChoices(), Silent())
    (section,) = read_checked([row], InputChoices(("position",)), Silent())
    assert "two sections" in " ".join(section.accepted)
