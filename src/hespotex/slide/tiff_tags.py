"""Which picture of a TIFF file is the slide, and what its tags say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from hespotex.slide.pixel_size import UM_PER_UNIT, mpp_of_density
from hespotex.slide.tiff_colour import BLACK_IS_ZERO, RGB, YCBCR, colour_samples, has_full_range

_RESOLUTION_UNITS: Mapping[int, str] = {2: "inch", 3: "cm"}
_JPEG = 7
# None, LZW, JPEG, deflate (twice), PackBits: libtiff always has them. One tile in another stops OpenSlide.
_OF_OPENSLIDE = {1, 5, _JPEG, 8, 32946, 32773}


def slide_series(tiff: Any) -> Any:
    """The largest picture of an open file: labels, macros and thumbnails are smaller, wherever they stand.

    Its first page decides size, pixel size, orientation and colours alike.

    Raises:
        ValueError: the file holds no picture with pixels.
    """
    largest = max(tiff.series, key=_area, default=None)
    if largest is None or not _area(largest):
        sizes = {f"{page.imagewidth} x {page.imagelength} px" for page in tiff.pages}
        raise ValueError(f"no picture with pixels ({', '.join(sorted(sizes)) or 'no page'})")
    return largest


def levels_of(series: Any) -> list[Any]:
    """Levels of a picture that have pixels, the finest first."""
    return [level for level in series.levels if _area(level)]


def picture_said(tiff: Any, series: Any) -> str:
    """Which of several pictures is the slide, where it is not the first or another is as large; else empty."""
    pictures = [other for other in tiff.series for _ in range(_planes(other))]
    place = next(i for i, other in enumerate(pictures, 1) if other is series)
    name = f" ({series.name})" if series.name and tiff.is_ome else ""
    n_twins = sum(_sides(other) == _sides(series) for other in pictures) - 1
    return which_picture(place, len(pictures), f"file{name}", n_twins=n_twins)


def which_picture(place: int, n: int, where: str, *, n_twins: int) -> str:
    """Words for "picture 2 of `n`" in a file or store; empty for the first one if no other has its size."""
    if place == 1 and not n_twins:
        return ""
    twins = f", the first of {n_twins + 1} of the same size" if n_twins else ""
    return f"picture {place} of {n} in the {where}{', the largest' if place > 1 else ''}{twins}"


def suits_openslide(tiff: Any) -> bool:
    """Whether OpenSlide's reader of plain TIFF gives the slide as its tags mean it.

    It takes the first page with tiles for the slide, turns every tile by itself, takes any fourth channel for
    alpha even where no tag says so, and knows no other ranges than the full one. It refuses files with a tile in a
    compression that it does not know.
    """
    page = slide_series(tiff).keyframe
    known = {RGB, BLACK_IS_ZERO} | ({YCBCR} if int(page.compression) == _JPEG else set())
    return (
        page.index == 0
        and orientation(page) == 1
        and int(page.bitspersample) == 8
        and int(page.photometric) in known
        and int(page.samplesperpixel) == colour_samples(page)
        and all(int(p.compression) in _OF_OPENSLIDE for p in tiff.pages if p.is_tiled)
        and has_full_range(page, 8)
    )


def orientation(page: Any) -> int:
    """How a page is to be turned to be shown, 1 to 8; 1 is upright."""
    value = page.tags.valueof("Orientation", default=1)
    return int(value) if value in range(1, 9) else 1


def stated_maxima(tiff: Any, page: Any) -> dict[str, int]:
    """Largest values of a sample that tags of a page state, by the name of the tag."""
    found: dict[str, int] = {}
    for name in ("MaxSampleValue", "SMaxSampleValue"):
        value = _largest(page.tags.valueof(name))
        if value is not None:
            found[name] = value
    reference = page.tags.valueof("ReferenceBlackWhite")
    if reference is not None and int(page.photometric) == RGB:
        values = reference[::2] if len(reference) == 12 else reference
        found["ReferenceBlackWhite"] = int(max(values))
    if tiff.ome_metadata:
        pixels = _ome_pixels(tiff.ome_metadata, (page.imagewidth, page.imagelength), page.index)
        bits = "" if pixels is None else pixels.get("SignificantBits", "")
        if bits.isdecimal() and int(bits) > 0:
            found["OME SignificantBits"] = (1 << int(bits)) - 1
    return found


def _largest(value: Any) -> int | None:
    """The largest value of a tag that may have one number a sample; None where it is no whole number above 0."""
    try:
        most = float(max(value)) if isinstance(value, tuple) else float(value)
    except (TypeError, ValueError):
        return None
    return int(most) if most >= 1 and most == int(most) else None


def mpp_tags(tiff: Any, series: Any) -> dict[str, tuple[float, float]]:
    """(x, y) microns per pixel by tag, the most trusted first, believable or not; of one picture alone."""
    found: dict[str, tuple[float, float]] = {}
    page = series.keyframe
    if tiff.ome_metadata:
        size = (page.imagewidth, page.imagelength)
        found.update(ome_pixel_size(tiff.ome_metadata, size, page.index))
    found.update(aperio_pixel_size(page.description or ""))
    tags = page.tags
    if "XResolution" in tags and "YResolution" in tags:
        unit_tag = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
        unit = _RESOLUTION_UNITS.get(unit_tag, "none")
        imagej = (tiff.imagej_metadata or {}).get("unit")
        if unit == "none" and imagej:
            unit = str(imagej).replace("\\u00B5", "µ")
        axes = tuple(_density(tags[name].value, unit) for name in ("XResolution", "YResolution"))
        if not all(map(math.isnan, axes)):
            found["TIFF resolution"] = (axes[0], axes[1])
    return found


def aperio_pixel_size(description: str) -> dict[str, tuple[float, float]]:
    """`MPP = 0.5`, as Aperio writes it into a description and others copy it along."""
    aperio = re.search(r"\bMPP\s*=\s*([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?)", description)
    return {"Aperio MPP": (float(aperio.group(1)), float(aperio.group(1)))} if aperio else {}


def _density(value: Any, unit: str) -> float:
    numerator, denominator = value if isinstance(value, tuple) else (value, 1)
    return mpp_of_density(numerator / denominator, unit) if denominator else math.nan


def ome_pixel_size(
    xml: str, size_px: tuple[int, int] | None = None, ifd: int | tuple[int, ...] | None = None
) -> dict[str, tuple[float, float]]:
    """PhysicalSizeX and PhysicalSizeY of an image in OME-XML, in microns.

    Args:
        xml: the description.
        size_px: width and height of the image that is meant; None: the first.
        ifd: page that it starts with, which tells images of one size apart.
    """
    pixels = _ome_pixels(xml, size_px, ifd)
    if pixels is None:
        return {}
    sizes = []
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}")
        unit = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), math.nan)
        try:
            sizes.append(float(size) * unit if size else math.nan)
        except ValueError:
            sizes.append(math.nan)
    return {} if all(map(math.isnan, sizes)) else {"OME PhysicalSize": (sizes[0], sizes[1])}


def _ome_pixels(
    xml: str, size_px: tuple[int, int] | None, ifd: int | tuple[int, ...] | None
) -> ElementTree.Element | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    found = [e for e in root.iter() if _local(e) == "Pixels"]
    if size_px is not None:
        sized = [e for e in found if (e.get("SizeX"), e.get("SizeY")) == tuple(map(str, size_px))]
        starting = [e for e in sized if str(ifd) in _starts(e)]
        found = starting or sized or (found if len(found) == 1 else [])
    return found[0] if found else None


def _starts(pixels: ElementTree.Element) -> list[str]:
    return [child.get("IFD", "0") for child in pixels if _local(child) == "TiffData"]


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _area(series: Any) -> int:
    height, width = _sides(series)
    return height * width


def _sides(series: Any) -> tuple[int, int]:
    """Height and width in pixels."""
    shape = dict(zip(series.axes, series.shape, strict=True))
    return int(shape.get("Y", 0)), int(shape.get("X", 0))


def _planes(series: Any) -> int:
    """Pictures of one size that tifffile holds together; channels are none."""
    return math.prod(n for a, n in zip(series.axes, series.shape, strict=True) if a not in "YXSC")
