"""Counting tile by tile: once at borders, the same as the whole, resumed, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from helpers.painted_nuclei import MPP, SPACING_PX, Painted, in_squares, paint_nuclei
from hespotex.config import NucleiConfig
from hespotex.errors import NucleiError
from hespotex.nuclei import NucleiCounts, count_nuclei, count_section, counting, section_counts
from hespotex.nuclei.classical import ClassicalSegmenter
from hespotex.nuclei.segmenters import SEGMENTED_MPP, SlideLabels, build_segmenter
from hespotex.sections.section import Geometry, Section
from hespotex.slide import open_slide

SIDE_PX = 3 * SPACING_PX
SIDE_UM = SIDE_PX * MPP


class Given:
    """Labels in memory, at the slide's own pixels."""

    step_px0, given = 1.0, True

    def __init__(self, labels: npt.NDArray[np.integer]) -> None:
        self.labels = labels
        self.reads = 0

    def read(self, x: int, y: int, width: int, height: int) -> npt.NDArray[np.integer]:
        self.reads += 1
        h, w = self.labels.shape
        wide = np.pad(self.labels, ((height, height), (width, width)))
        left, top = min(max(x, -width), w) + width, min(max(y, -height), h) + height
        return wide[top : top + height, left : left + width]

    def key(self) -> str:
        return "given"


@pytest.fixture(scope="module")
def painted() -> Painted:
    return paint_nuclei()


@pytest.fixture(scope="module")
def slide(painted: Painted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nuclei") / "painted.png"
    Image.fromarray(painted.picture).save(path)
    return path


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 61 um: many borders, most of them through nuclei."""
    monkeypatch.setattr(counting, "TILE_UM", 61.0)


def partition(painted: Painted) -> npt.NDArray[np.float64]:
    """Centres of squares that cover the picture without overlap."""
    height, width = painted.labels.shape
    x, y = np.meshgrid(
        np.arange(SIDE_PX / 2, width, SIDE_PX), np.arange(SIDE_PX / 2, height, SIDE_PX)
    )
    return np.stack([x.ravel(), y.ravel()], axis=1)


def count(labels: counting.LabelSource, painted: Painted, **options: object) -> NucleiCounts:
    height, width = painted.labels.shape
    return count_nuclei(labels, partition(painted), SIDE_UM, MPP, (width, height), **options)  # type: ignore[arg-type]


def found_on(slide: Path, painted: Painted) -> NucleiCounts:
    with open_slide(slide) as opened:
        segmenter = build_segmenter("classical", opened, partition(painted), MPP, "cpu")
        return count(SlideLabels(opened, MPP, segmenter, holes=False), painted)


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
def test_every_painted_nucleus_is_found_and_counted_once(slide: Path, painted: Painted) -> None:
    counts = found_on(slide, painted)
    expected = in_squares(painted.centres + 0.5, partition(painted), SIDE_PX)
    assert len(painted.centres) > 300
    np.testing.assert_array_equal(counts.nuclei, expected)
    np.testing.assert_allclose(counts.per_mm2, expected / (SIDE_UM**2 * 1e-6))


@pytest.mark.usefixtures("small_tiles")
def test_label_values_are_those_under_the_square_with_the_background(painted: Painted) -> None:
    counts = count(Given(painted.labels * 7 + (painted.labels > 0)), painted)
    expected = [
        len(np.unique(painted.labels[int(y - SIDE_PX / 2) : int(y + SIDE_PX / 2),
                                     int(x - SIDE_PX / 2) : int(x + SIDE_PX / 2)]))
        for x, y in partition(painted)
    ]  # fmt: skip
    assert counts.label_values.tolist() == expected
    assert counts.nuclei.sum() == len(painted.centres)


def test_a_square_full_of_one_nucleus_has_one_label_value() -> None:
    counts = count_nuclei(Given(np.full((20, 20), 5)), np.array([[10.0, 10.0]]), 5.0, MPP, (20, 20))
    assert (counts.nuclei.tolist(), counts.label_values.tolist()) == ([1], [1])


def test_a_square_is_cut_at_the_slides_border() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[:4, :4] = 3
    counts = count_nuclei(Given(labels), np.array([[0.0, 0.0], [400.0, 0.0]]), 10.0, MPP, (40, 40))
    assert (counts.nuclei.tolist(), counts.label_values.tolist()) == ([1, 0], [2, 0])
    np.testing.assert_allclose(counts.area_um2, [25.0, 0.0])
    np.testing.assert_allclose(counts.per_mm2, [1 / 25e-6, np.nan])


@pytest.mark.slow
def test_tiled_equals_whole_where_nuclei_crowd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discs thrown at random overlap in clumps; the segmentation of tiles is that of the whole."""
    import cv2

    rng = np.random.default_rng(2)
    picture = np.full((640, 900, 3), (226, 188, 212), np.uint8)
    for x, y in rng.integers(0, (900, 640), size=(900, 2)).tolist():
        colour = [int(c) for c in rng.integers((60, 40, 90), (110, 90, 150))]
        cv2.ellipse(picture, (x, y), (9, 6), float(rng.integers(180)), 0, 360, colour, -1)
    Image.fromarray(picture).save(tmp_path / "s.png")
    painted = Painted(picture, np.zeros((640, 900), np.int32), np.zeros((0, 2)))
    whole = found_on(tmp_path / "s.png", painted)
    monkeypatch.setattr(counting, "TILE_UM", 61.0)
    tiled = found_on(tmp_path / "s.png", painted)
    assert whole.nuclei.sum() > 300
    np.testing.assert_array_equal(tiled.nuclei, whole.nuclei)
    np.testing.assert_array_equal(tiled.label_values, whole.label_values)


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
def test_an_interrupted_count_goes_on_and_equals_the_uninterrupted(
    painted: Painted, tmp_path: Path
) -> None:
    whole = Given(painted.labels)
    expected = count(whole, painted)
    kept = tmp_path / "n.safetensors"

    class Breaks(Given):
        def read(self, x: int, y: int, width: int, height: int) -> npt.NDArray[np.integer]:
            if self.reads == 40:
                raise NucleiError("broken off")
            return super().read(x, y, width, height)

    with pytest.raises(NucleiError, match="broken off"):
        count(Breaks(painted.labels), painted, kept=kept, key="k")
    rest = Given(painted.labels)
    told: list[int] = []
    resumed = count(rest, painted, kept=kept, key="k", advance=told.append)
    assert 0 < rest.reads < whole.reads
    assert sum(told) == len(partition(painted))
    np.testing.assert_array_equal(resumed.nuclei, expected.nuclei)
    np.testing.assert_array_equal(resumed.label_values, expected.label_values)
    finished = Given(painted.labels)
    count(finished, painted, kept=kept, key="k")
    assert finished.reads == 0


@pytest.mark.parametrize("fault", ["cut short", "other key"])
def test_a_damaged_or_foreign_file_is_counted_anew(
    painted: Painted, tmp_path: Path, fault: str
) -> None:
    kept = tmp_path / "n.safetensors"
    expected = count(Given(painted.labels), painted, kept=kept, key="k")
    if fault == "cut short":
        kept.write_bytes(kept.read_bytes()[:-9])
    again = Given(painted.labels)
    counts = count(again, painted, kept=kept, key="k" if fault == "cut short" else "other")
    assert again.reads > 0
    np.testing.assert_array_equal(counts.nuclei, expected.nuclei)


def test_a_section_is_counted_once_and_again_when_its_spots_differ(
    slide: Path, painted: Painted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xy = partition(painted)
    section = Section(
        section_id="s",
        patient_id="p",
        slide=slide,
        geometry=Geometry(MPP, 100.0, SIDE_UM),
        barcodes=np.array([f"b{i}" for i in range(len(xy))]),
        xy_px0=xy,
        counts=None,
        genes=None,
    )
    config = NucleiConfig(mode="density")
    first = count_section(section, config, cache_dir=tmp_path)
    assert first.nuclei.sum() == len(painted.centres)
    found = section_counts.with_counts(section, first).obs
    assert found is not None
    assert found["nuclei"].tolist() == first.nuclei.tolist()

    def never(*_: object) -> None:
        raise AssertionError("segmented again")

    monkeypatch.setattr(ClassicalSegmenter, "segment", never)
    again = count_section(section, config, cache_dir=tmp_path)
    np.testing.assert_array_equal(again.nuclei, first.nuclei)
    with pytest.raises(AssertionError, match="segmented again"):
        count_section(section.spots(np.arange(5)), config, cache_dir=tmp_path)


@pytest.mark.slow
def test_unreadable_parts_hold_no_nuclei_where_holes_are_allowed(
    slide: Path, painted: Painted
) -> None:
    from hespotex.errors import SlideError
    from hespotex.slide import Slide

    class Torn(Slide):
        def read_region(self, x: float, y: float, w: float, h: float, *size: int) -> np.ndarray:
            if x < 600 < x + w and y < 300 < y + h:
                raise SlideError("damaged there")
            return super().read_region(x, y, w, h, *size)

    with open_slide(slide) as opened:
        segmenter = build_segmenter("classical", opened, partition(painted), MPP, "cpu")
        whole = count(SlideLabels(opened, MPP, segmenter, holes=False), painted)
        opened.__class__ = Torn
        with pytest.raises(SlideError, match="damaged there"):
            count(SlideLabels(opened, MPP, segmenter, holes=False), painted)
        torn = count(SlideLabels(opened, MPP, segmenter, holes=True), painted)
    far = np.abs(partition(painted) - (600, 300)).max(axis=1) > 128 + SIDE_PX
    assert torn.nuclei.sum() < whole.nuclei.sum()
    np.testing.assert_array_equal(torn.nuclei[far], whole.nuclei[far])


def test_a_picture_without_stain_holds_no_nuclei() -> None:
    glass = np.full((200, 200, 3), 240, np.uint8)
    segmenter = ClassicalSegmenter.calibrated([glass], SEGMENTED_MPP)
    assert not segmenter.segment(glass, SEGMENTED_MPP).any()
    assert ClassicalSegmenter.calibrated([], SEGMENTED_MPP).threshold > 0
