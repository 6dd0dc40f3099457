"""Gene maps as OME-TIFF: opened by tifffile, placed on the slide by their physical size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from helpers.toy_prediction import DOWNSAMPLE, GENES, MPP, toy_extras, toy_prediction, toy_section
from hespotex.errors import GenePanelError, RunError, SlideError
from hespotex.export.h5ad import StoredPrediction, Thumbnail
from hespotex.export.pyramid import write_ome_tiff
from hespotex.slide import open_slide

WIDTH_PX0, HEIGHT_PX0 = 24000, 6000
PITCH_PX0 = 100


def _stored(scale: float = 1.0) -> StoredPrediction:
    """The toy section on a slide 24,000 px wide: a pitch of 100 level-0 pixels."""
    section, prediction = toy_section(), toy_prediction(toy_section())
    image = np.full((int(HEIGHT_PX0 / DOWNSAMPLE), int(WIDTH_PX0 / DOWNSAMPLE), 3), 255, np.uint8)
    return StoredPrediction(
        section_id="S1",
        patient_id="P-7",
        genes=np.array(GENES),
        barcodes=section.barcodes,
        xy_px0=section.xy_px0 * scale,
        mpp=MPP,
        spot_diameter_um=100.0,
        log1p=prediction.log1p,
        composition=prediction.composition,
        depth=prediction.depth,
        measured=None,
        measured_counts=None,
        measured_depth=None,
        thumbnail=Thumbnail(image, DOWNSAMPLE),
        extras=replace(toy_extras(section), lower=None, upper=None),
        record={"spot_pitch_um": 200.0},
    )


def _without_spots(stored: StoredPrediction) -> StoredPrediction:
    return replace(
        stored, barcodes=stored.barcodes[:0], xy_px0=stored.xy_px0[:0], log1p=stored.log1p[:0],
        composition=stored.composition[:0],
    )  # fmt: skip


def test_ome_xml_names_channels_and_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "S1.ome.tif"
    write_ome_tiff(path, _stored(), genes=["TUM-01", "ACTB"])
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert file.is_bigtiff
        root = ElementTree.fromstring(file.ome_metadata)
        series = file.series[0]
        assert (series.axes, series.dtype) == ("CYX", np.float32)
        assert series.shape == (2, HEIGHT_PX0 // 8, WIDTH_PX0 // 8)
        sizes = [level.shape[1:] for level in series.levels]
        assert file.pages[0].is_tiled
    ome = {"o": root.tag[1:].split("}")[0]}
    pixels = root.find("o:Image/o:Pixels", ome)
    assert pixels is not None
    # 100 px a pitch: pixels of 8 level-0 pixels of 2 um.
    assert float(pixels.attrib["PhysicalSizeX"]) == 16.0
    assert float(pixels.attrib["PhysicalSizeY"]) == 16.0
    assert pixels.attrib["PhysicalSizeXUnit"] == "µm"
    names = [c.attrib["Name"] for c in pixels.findall("o:Channel", ome)]
    assert names == ["TUM-01, not shown", "ACTB"]
    # Down to one pixel a pitch, each level half of the one above.
    assert sizes == [(750, 3000), (375, 1500), (188, 750), (94, 375)]


def test_equal_maps_are_equal_files(tmp_path: Path) -> None:
    stored = _stored()
    for name in ("a", "b"):
        write_ome_tiff(tmp_path / f"{name}.ome.tif", stored, genes=["ACTB"])
    other = replace(stored, composition=stored.composition + 1)
    write_ome_tiff(tmp_path / "c.ome.tif", other, genes=["ACTB"])
    a, b, c = ((tmp_path / f"{name}.ome.tif").read_bytes() for name in "abc")
    assert a == b != c


def test_every_pixel_has_the_value_of_the_spot_that_covers_it(tmp_path: Path) -> None:
    stored = _stored()
    write_ome_tiff(tmp_path / "S1.ome.tif", stored, genes=["TUM-01"])
    with tifffile.TiffFile(tmp_path / "S1.ome.tif") as file:
        for level in file.series[0].levels:
            image = level.asarray()
            downsample = round(WIDTH_PX0 / image.shape[1])
            x, y = np.floor(stored.xy_px0 / downsample).astype(int).T
            np.testing.assert_array_equal(image[y, x], stored.composition[:, 4])
            assert np.isnan(image[-1, -1])
            covered = np.isfinite(image).sum() * (downsample / PITCH_PX0) ** 2
            assert covered == pytest.approx(len(stored.barcodes), rel=0.3)


def test_spots_without_a_value_are_left_empty(tmp_path: Path) -> None:
    stored = _stored()
    stored.composition[7] = stored.log1p[7] = np.nan
    x, y = (stored.xy_px0[7] / 8).astype(int)
    write_ome_tiff(tmp_path / "S1.ome.tif", stored, genes=["ACTB"])
    assert np.isnan(tifffile.imread(tmp_path / "S1.ome.tif")[y, x])
    write_ome_tiff(tmp_path / "S1.ome.tif", stored, genes=["ACTB"], show="log1p")
    image = tifffile.imread(tmp_path / "S1.ome.tif")
    assert image[y, x] == 0
    assert np.isfinite(image).all()


def test_best_graded_genes_by_default_and_errors_leave_nothing(tmp_path: Path) -> None:
    write_ome_tiff(tmp_path / "S1.ome.tif", _stored(), max_genes=2)
    with tifffile.TiffFile(tmp_path / "S1.ome.tif") as file:
        assert 'Name="ACTB"' in (file.ome_metadata or "")
        assert 'Name="FLAT-02"' in (file.ome_metadata or "")
    with pytest.raises(GenePanelError, match="found unknown: ERBB2"):
        write_ome_tiff(tmp_path / "x.ome.tif", _stored(), genes=["ERBB2"])
    stored = _stored()
    with pytest.raises(RunError, match=r"expected spots or a picture of the slide for .*neither"):
        write_ome_tiff(tmp_path / "x.ome.tif", replace(_without_spots(stored), thumbnail=None))
    assert [p.name for p in tmp_path.iterdir()] == ["S1.ome.tif"]


def test_a_slide_without_tissue_gives_an_empty_map(tmp_path: Path) -> None:
    write_ome_tiff(tmp_path / "S1.ome.tif", _without_spots(_stored()), genes=["ACTB"])
    image = tifffile.imread(tmp_path / "S1.ome.tif")
    assert image.shape == (HEIGHT_PX0 // 8, WIDTH_PX0 // 8)
    assert np.isnan(image).all()


def test_a_map_is_not_taken_for_a_slide(tmp_path: Path) -> None:
    write_ome_tiff(tmp_path / "S1.ome.tif", _stored(), genes=["ACTB"])
    with pytest.raises(SlideError, match=r"expected colours of 8 or 16 bit, found float32 in .*S1"):
        open_slide(tmp_path / "S1.ome.tif")
