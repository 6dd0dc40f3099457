"""Masks: exact counts whatever the format and scale; what is no mask is refused."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.painted_nuclei import MPP, SPACING_PX, in_squares, paint_nuclei
from hespotex.errors import ConfigError, NucleiError
from hespotex.nuclei import NucleiOrigin, count_nuclei
from hespotex.nuclei.masks import open_mask

PAINTED = paint_nuclei(680, 408)
HEIGHT, WIDTH = PAINTED.labels.shape
SIZE = (WIDTH, HEIGHT)
SIDE_PX = 2 * SPACING_PX
XY = np.stack(
    np.meshgrid(np.arange(SIDE_PX / 2, WIDTH, SIDE_PX), np.arange(SIDE_PX / 2, HEIGHT, SIDE_PX)),
    axis=-1,
).reshape(-1, 2)


def _outlines(
    folder: Path, *, cells: bool = False, origin: tuple[float, float] = (0.0, 0.0)
) -> Path:
    """Each disc as QuPath writes it: a detection, or a cell around its nucleus."""
    features = []
    for x, y in PAINTED.centres.tolist():
        angle = np.linspace(0, 2 * np.pi, 25)
        ring = np.stack([x + 0.5 + 8.4 * np.cos(angle), y + 0.5 + 8.4 * np.sin(angle)], axis=1)
        ring = ring - origin
        ring[-1] = ring[0]
        shape = {"type": "Polygon", "coordinates": [ring.tolist()]}
        cell = {"type": "Polygon", "coordinates": [((ring - (x, y)) * 1.5 + (x, y)).tolist()]}
        feature = {"type": "Feature", "geometry": cell if cells else shape}
        features.append(feature | ({"nucleusGeometry": shape} if cells else {}))
    path = folder / "outlines.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _write(folder: Path, kind: str) -> Path:
    labels = PAINTED.labels
    path = folder / f"mask.{kind.split(maxsplit=1)[0]}"
    match kind:
        case "npy":
            np.save(path, labels + (labels > 0) * 1_000_000_000)
        case "npy half":
            np.save(path, labels[::2, ::2])
        case "tif":
            tifffile.imwrite(path, labels, tile=(64, 64), compression="zlib")
        case "tif pyramid":
            with tifffile.TiffWriter(path) as writer:
                writer.write(labels[None].astype(np.uint16), subifds=1)
                writer.write(labels[None, ::2, ::2].astype(np.uint16), subfiletype=1)
        case "png":
            Image.fromarray(labels.astype(np.uint16)).save(path)
        case "png binary":
            Image.fromarray(((labels > 0) * 255).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    "kind",
    ["npy", "npy half", "tif", "tif pyramid", "png", "png binary", "geojson", "geojson of cells"],
)
def test_nuclei_of_a_mask_are_counted_exactly(tmp_path: Path, kind: str) -> None:
    path = (
        _outlines(tmp_path, cells="cells" in kind) if "geojson" in kind else _write(tmp_path, kind)
    )
    counts = count_nuclei(open_mask(path, SIZE, MPP), XY, SIDE_PX * MPP, MPP, SIZE)
    np.testing.assert_array_equal(counts.nuclei, in_squares(PAINTED.centres + 0.5, XY, SIDE_PX))
    expected = np.array(
        [
            len(np.unique(PAINTED.labels[int(y) - 34 : int(y) + 34, int(x) - 34 : int(x) + 34]))
            for x, y in XY
        ]
    )
    # Half the pixels, or outlines, see a rim of less than a pixel otherwise.
    slack = 0 if kind in {"npy", "tif", "tif pyramid", "png", "png binary"} else 1
    assert np.abs(counts.label_values - expected).max() <= slack


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: None, r"mask\.npy.*|No such file"),
        (lambda p: np.save(p, PAINTED.picture), "expected one plane of whole numbers .* found 408 x 680 x 3 of uint8"),
        (lambda p: np.save(p, PAINTED.labels / 2), "whole numbers .* of float64"),
        (lambda p: np.save(p, PAINTED.labels[:200]), "expected a nuclei mask of the slide's shape, 680 x 408 px .* found 680 x 200 px"),
        (lambda p: p.write_bytes(b"\x93NUMPY"), "expected a readable nuclei mask"),
    ],
)  # fmt: skip
def test_what_is_no_mask_is_refused(tmp_path: Path, write, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mask.npy"
    write(path)
    with pytest.raises(NucleiError, match=message):
        open_mask(path, SIZE, MPP)


def test_outlines_elsewhere_and_other_files_are_refused(tmp_path: Path) -> None:
    path = _outlines(tmp_path)
    moved = re.sub(r"\d+\.\d+", lambda m: str(float(m[0]) + 5000), path.read_text())
    path.write_text(moved)
    with pytest.raises(
        NucleiError, match=r"expected outlines on the slide of 680 x 408 px, found none of \d+"
    ):
        open_mask(path, SIZE, MPP)
    path.write_text('{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9]]]}')
    with pytest.raises(NucleiError, match=r"expected a readable nuclei mask, found: .*closed"):
        open_mask(path, SIZE, MPP)
    path.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(NucleiError, match=r"expected outlines of nuclei .* found none"):
        open_mask(path, SIZE, MPP)
    with pytest.raises(NucleiError, match=r"expected a nuclei mask of \.npy, .* found \.qpdata"):
        open_mask(tmp_path / "project.qpdata", SIZE, MPP)


def test_outlines_that_start_at_the_bounds_are_moved(tmp_path: Path) -> None:
    path = _outlines(tmp_path, origin=(100.0, 60.0))
    labels = open_mask(path, SIZE, MPP, (100.0, 60.0))
    counts = count_nuclei(labels, XY, SIDE_PX * MPP, MPP, SIZE)
    np.testing.assert_array_equal(counts.nuclei, in_squares(PAINTED.centres + 0.5, XY, SIDE_PX))
    assert labels.key() != open_mask(path, SIZE, MPP).key()


def _typed(kind: str | None, version: str) -> dict[str, object]:
    """The type of an object as the versions of QuPath write it; `bare` says none."""
    old = {
        "detection": "PathDetectionObject",
        "cell": "PathCellObject",
        "tma_core": "TMACoreObject",
    }
    classified = {"classification": {"name": "Tumor", "colorRGB": -3670016}}
    match version:
        case "0.2":
            name = old.get(str(kind)) or f"Path{str(kind).title()}Object"
            return {"id": name, "properties": classified | {"isLocked": False, "measurements": []}}
        case "0.3":
            return {"properties": classified | {"object_type": kind}}
        case "0.4":
            return {"id": "0c1d", "properties": classified | {"objectType": kind, "name": "Größe"}}
        case _:
            return {"properties": classified}


def _region(kind: str | None, version: str) -> dict[str, object]:
    whole = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [whole]}
    return {"type": "Feature", "geometry": shape} | _typed(kind, version)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["collection", "list", "collection with a head and a BOM"])
@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("detection", "0.4"), ("cell", "0.4"), ("annotation", "0.4"), ("detection", "0.3"), ("annotation", "0.3"),
        ("detection", "0.2"), ("cell", "0.2"), ("annotation", "0.2"), (None, "bare"),
    ],
)  # fmt: skip
def test_nuclei_of_every_version_of_qupath_are_counted_and_regions_are_not(
    tmp_path: Path, kind: str | None, version: str, layout: str
) -> None:
    path = _outlines(tmp_path, cells=kind == "cell")
    nuclei = [f | _typed(kind, version) for f in json.loads(path.read_text())["features"]]
    kinds = [None] if version == "bare" else ["root", "annotation", "tile", "tma_core"]
    others = [_region(k, version) for k in kinds]
    features = [*others, *nuclei, {"type": "Feature", "geometry": None}]
    collection = {"type": "FeatureCollection", "features": features}
    head = {"crs": {"type": "name", "properties": {"name": "pixels"}}}
    everything = {"collection": collection, "list": features}.get(layout, head | collection)
    bom = "utf-8-sig" if "BOM" in layout else "utf-8"
    path.write_text(json.dumps(everything, ensure_ascii=False, indent=1), encoding=bom)
    counts = count_nuclei(open_mask(path, SIZE, MPP), XY, SIDE_PX * MPP, MPP, SIZE)
    np.testing.assert_array_equal(counts.nuclei, in_squares(PAINTED.centres + 0.5, XY, SIDE_PX))
    path.write_text(json.dumps(others))
    with pytest.raises(
        NucleiError, match=rf"found {len(others)} objects that are none .* export detections"
    ):
        open_mask(path, SIZE, MPP)


def test_small_annotations_beside_cells_are_no_nuclei(tmp_path: Path) -> None:
    path = _outlines(tmp_path)
    found = json.loads(path.read_text())["features"]
    cells, drawn = found[::2], found[1::2]
    path.write_text(
        json.dumps(
            [f | _typed("annotation", "0.4") for f in drawn]
            + [f | _typed("cell", "0.4") for f in cells]
        )
    )
    counts = count_nuclei(open_mask(path, SIZE, MPP), XY, SIDE_PX * MPP, MPP, SIZE)
    expected = in_squares(PAINTED.centres[::2] + 0.5, XY, SIDE_PX)
    np.testing.assert_array_equal(counts.nuclei, expected)


def test_outlines_that_change_while_they_are_read_are_one_line(tmp_path: Path) -> None:
    path = _outlines(tmp_path)
    mask = open_mask(path, SIZE, MPP)
    path.write_text(path.read_text()[:4000])
    with pytest.raises(NucleiError, match=r"as they were when the run began, found: .*run again"):
        mask.read(0, 0, *SIZE)


def test_objects_of_classes_that_qupath_ignores_are_no_nuclei(tmp_path: Path) -> None:
    path = _outlines(tmp_path)
    content = json.loads(path.read_text())
    for feature in content["features"][::2]:
        feature["properties"] = {"classification": {"name": "Ignore*"}}
    path.write_text(json.dumps(content))
    counts = count_nuclei(open_mask(path, SIZE, MPP), XY, SIDE_PX * MPP, MPP, SIZE)
    kept = PAINTED.centres[1::2]
    np.testing.assert_array_equal(counts.nuclei, in_squares(kept + 0.5, XY, SIDE_PX))


@pytest.mark.parametrize("text", ['{"features": [3]}', '{"features": [{"geometry": null}, {"ge'])
def test_a_broken_feature_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "o.geojson").write_text(text)
    with pytest.raises(NucleiError, match=r"expected a readable nuclei mask, found: .*o\.geojson"):
        open_mask(tmp_path / "o.geojson", SIZE, MPP)


def test_a_png_too_large_to_be_decoded_is_one_line(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + crc

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 16, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(80_001)))
    path = tmp_path / "large.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))
    with pytest.raises(
        NucleiError, match=r"PNG of less than 2\^30 .* export as TIFF or \.npy"
    ) as e:
        open_mask(path, (40_000, 40_000), MPP)
    assert "\n" not in str(e.value)


def test_a_mask_of_tissue_is_refused(tmp_path: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[50:350, 100:600] = 1
    np.save(tmp_path / "tissue.npy", labels)
    mask = open_mask(tmp_path / "tissue.npy", SIZE, MPP)
    with pytest.raises(
        NucleiError, match=r"found an object wider than 48 um at x .* not one of tissue"
    ):
        count_nuclei(mask, XY, SIDE_PX * MPP, MPP, SIZE)


def test_an_origin_names_a_segmenter_a_file_or_a_folder(tmp_path: Path) -> None:
    assert NucleiOrigin.parse("classical").mask_of("s", Path("x.npy")) is None
    file = tmp_path / "C2.npy"
    np.save(file, PAINTED.labels)
    assert NucleiOrigin.parse("mask").mask_of("C2", file) == file
    assert NucleiOrigin.parse(f"mask:{file}").mask_of("other", None) == file
    assert NucleiOrigin.parse(f"mask:{tmp_path}").mask_of("C2", None) == file
    for wrong in ("watershed", "classical:x", "mask:"):
        with pytest.raises(ConfigError, match=f"expected --nuclei classical .* found '{wrong}'"):
            NucleiOrigin.parse(wrong)
    with pytest.raises(ConfigError, match="found nothing at"):
        NucleiOrigin.parse(f"mask:{tmp_path / 'none'}")
    with pytest.raises(ConfigError, match=r"section C3: expected one mask C3\.\* .* found none"):
        NucleiOrigin.parse(f"mask:{tmp_path}").mask_of("C3", None)
    with pytest.raises(
        ConfigError, match="section C3: expected a nuclei mask in the manifest's column"
    ):
        NucleiOrigin.parse("mask").mask_of("C3", None)


def test_a_segmenter_that_there_is_not_is_refused_by_its_key() -> None:
    from hespotex.config import RunConfig

    with pytest.raises(ConfigError, match=r"nuclei\.source"):
        RunConfig.from_values({}, ["nuclei.source=watershed"])
