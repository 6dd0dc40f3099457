"""Contracts of the orientation check: wrong is named, symmetric is undecidable, right is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hespotex.geometry import ORIENTATIONS, orient, orientation_evidence
from hespotex.sections.manifest import read_manifest
from hespotex.slide import open_slide
from hespotex.slide.tissue import find_tissue
from hespotex.spots.legacy_st import read_spot_file

SIZE = (1200, 900)
SCALES = {"hires": 4.0, "half": 0.5}


def shape(*, symmetric: bool = False) -> np.ndarray:
    """A mask of an L (or a centred disc) on 300 x 225 mask pixels."""
    mask = np.zeros((225, 300), dtype=bool)
    if symmetric:
        y, x = np.mgrid[:225, :300]
        return (x - 149.5) ** 2 + (y - 112) ** 2 < 80**2
    mask[20:180, 30:90] = True
    mask[130:180, 30:230] = True
    return mask


def spots_on(mask: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(10, 1200, 40.0), np.arange(10, 900, 40.0))
    xy = np.column_stack([x.ravel(), y.ravel()])
    return xy[mask[(xy[:, 1] / 4).astype(int), (xy[:, 0] / 4).astype(int)]]


def test_right_positions_are_right() -> None:
    mask = shape()
    found = orientation_evidence(mask, spots_on(mask), size_px0=SIZE, scales=SCALES)
    assert found.verdict == "as given"
    assert found.given.on_tissue == 1.0
    assert found.given.covered > 0.9


FAULTS = [
    (name, frame)
    for name, (transposed, _, _) in list(ORIENTATIONS.items())[1:]
    for frame in ((SIZE, SIZE[::-1]) if transposed else (SIZE,))
]


@pytest.mark.parametrize(("name", "frame"), FAULTS)
def test_every_wrong_orientation_is_named(name: str, frame: tuple[int, int]) -> None:
    mask = shape()
    wrong = orient(spots_on(mask), name, frame)
    found = orientation_evidence(mask, wrong, size_px0=SIZE, scales=SCALES)
    assert found.verdict == "other"
    assert found.best_other.on_tissue == pytest.approx(1.0, abs=0.02)
    undo = {
        "turned by 90 degrees clockwise": "turned by 90 degrees counter-clockwise",
        "turned by 90 degrees counter-clockwise": "turned by 90 degrees clockwise",
    }
    assert found.best_other.name == undo.get(name, name)
    assert f"if corrected ({found.best_other.name})" in found.message


def test_orientations_undo_each_other() -> None:
    xy = np.array([[10.0, 20.0], [700.0, 300.0]])
    for name in ORIENTATIONS:
        frame = SIZE[::-1] if ORIENTATIONS[name][0] else SIZE
        turned = orient(xy, name, frame)
        assert any(np.allclose(orient(turned, back, SIZE), xy) for back in ORIENTATIONS)


@pytest.mark.parametrize(
    ("factor", "name"), [(0.25, "multiplied by 4 (hires)"), (2.0, "0.5 (half)")]
)
def test_positions_of_another_image_scale_are_named(factor: float, name: str) -> None:
    mask = shape()
    found = orientation_evidence(mask, spots_on(mask) * factor, size_px0=SIZE, scales=SCALES)
    assert found.verdict == "other"
    assert name in found.message
    assert "covering" in found.message


def test_an_offset_is_named() -> None:
    mask = shape()
    found = orientation_evidence(mask, spots_on(mask) + np.array([160.0, -40.0]), size_px0=SIZE)
    assert found.verdict == "other"
    assert found.best_other.on_tissue > 0.97
    assert found.best_other.name.startswith("moved by -1")


def test_a_symmetric_section_is_undecidable_not_fine() -> None:
    mask = shape(symmetric=True)
    found = orientation_evidence(mask, spots_on(mask), size_px0=SIZE, scales=SCALES)
    assert found.verdict == "undecidable"
    assert "does not tell the orientation" in found.message


@pytest.mark.parametrize("value", [True, False])
def test_without_background_or_tissue_nothing_is_decided(value: bool) -> None:
    mask = np.full((30, 40), value)
    found = orientation_evidence(mask, np.random.default_rng(0).random((9, 2)) * 900, size_px0=SIZE)
    assert found.verdict == "undecidable"
    assert "no tissue can be told" in found.message


def test_where_nothing_puts_the_spots_on_tissue_nothing_is_claimed() -> None:
    mask = np.zeros((225, 300), dtype=bool)
    mask[:8] = True  # a stripe of dirt at the edge is no tissue that a correction should aim at
    xy = np.array([[x, y] for x in range(100, 1100, 50) for y in range(10, 860, 50)], dtype=float)
    found = orientation_evidence(mask, xy, size_px0=SIZE)
    assert found.verdict == "undecidable"


@pytest.mark.slow
@pytest.mark.parametrize("section", ["B4", "C2", "C3", "C4", "MOB4", "MOB9"])
def test_on_real_sections_every_fault_is_recognised(shared_data: Path, section: str) -> None:
    folder = shared_data / ("mob" if section.startswith("MOB") else "her2st")
    (row,) = read_manifest(folder / "sections.csv", [section]).rows
    assert row.slide is not None
    assert row.spots is not None
    with open_slide(row.slide) as slide:
        size = (slide.width_px0, slide.height_px0)
        scale = max(size) / 600
        mask = find_tissue(slide, None).mask((int(size[1] / scale), int(size[0] / scale)), scale)
    _, xy, *_ = read_spot_file(row.spots)
    scales = {"hires": 4.0, "lowres": 16.0, "double": 2.0, "half": 0.5, "tenth": 0.1}
    verdicts = {"none": orientation_evidence(mask, xy, size_px0=size, scales=scales)}
    for name, (transposed, _, _) in list(ORIENTATIONS.items())[1:]:
        for frame in (size, size[::-1]) if transposed else (size,):
            wrong = orient(xy, name, frame)
            verdicts[f"{name} {frame}"] = orientation_evidence(
                mask, wrong, size_px0=size, scales=scales
            )
    for factor in (1 / 16, 0.25, 0.5, 2.0, 10.0):
        verdicts[f"times {factor}"] = orientation_evidence(
            mask, xy * factor, size_px0=size, scales=scales
        )
    assert verdicts["none"].given.on_tissue > 0.95
    assert verdicts.pop("none").verdict == "as given"
    share = orientation_evidence(mask, xy, size_px0=size).given.on_tissue
    for fault, found in verdicts.items():
        assert found.verdict == "other", fault
        assert found.best_other.on_tissue == pytest.approx(share, abs=0.03), fault
