"""Checks of a slide: its thumbnail, its tags, whether it is coloured and whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hespotex.inspection.findings import Finding
from hespotex.slide import Slide, open_slide
from hespotex.slide.pixel_size import PixelSize, no_mpp
from hespotex.slide.tiff import empty_tiles
from hespotex.slide.tissue import LEAST_PX, find_tissue

THUMBNAIL_PX = 800
# A JPEG can be decoded at an eighth, a quarter or half of its size at a fraction of the cost.
_REDUCED = (8, 4, 2)
# Microns per pixel from which on a nucleus is no more than two pixels wide.
CELLS_UM = 3.0
_JPEG = (b"\xff\xd8\xff",)
# Differences of the channels, of 255, below which a picture has no colour.
_GREY = 4
_BLACK = 8
_MUCH_BLACK = 0.02
# The side of the smallest image that holds a patch of the usual encoders.
_SMALLEST_PX = 224


@dataclass(frozen=True)
class SlideView:
    """A slide as a preflight sees it.

    Attributes:
        reader: which library reads it.
        size_px0: width and height of level 0.
        level_downsamples: level-0 pixels per pixel of each level.
        mpp_sources: believable microns per pixel in the tags, by tag.
        mpp_rejected: values in the tags that mean "not set".
        thumbnail: (h, w, 3) of the whole slide, `THUMBNAIL_PX` on the longer side.
        tissue: (h, w) True on tissue.
        empty_tiles: tiles of the largest level that hold no data, and all of them; (0, 0) for no TIFF.
        picture: which of several pictures in the file it is, where it is not the first and alone of its size; else empty.
        bits: of a sample, that hold the picture.
    """

    path: Path
    reader: str
    size_px0: tuple[int, int]
    level_downsamples: tuple[float, ...]
    mpp_sources: dict[str, float]
    mpp_rejected: dict[str, float]
    thumbnail: npt.NDArray[np.uint8]
    tissue: npt.NDArray[np.bool_]
    empty_tiles: tuple[int, int] = (0, 0)
    picture: str = ""
    bits: int = 8

    @property
    def px0_per_px(self) -> npt.NDArray[np.float64]:
        """Level-0 pixels per pixel of the thumbnail, (x, y)."""
        return np.array(self.size_px0, dtype=np.float64) / self.thumbnail.shape[1::-1]

    @property
    def tags(self) -> PixelSize:
        """What the tags say of the pixel size."""
        return PixelSize(self.mpp_sources, self.mpp_rejected)

    @property
    def mpp(self) -> float | None:
        """The tags' mpp where they agree."""
        return self.tags.mpp


def view_slide(
    path: Path, mpp: float | None = None, *, bits: int | None = None, alone: bool = False
) -> SlideView:
    """Open a slide and look at it as a whole.

    Args:
        mpp: microns per level-0 pixel where somebody states it; else the tags' is taken, where they have one.
        bits: of a sample, that hold the picture, where somebody states them.
        alone: no spots lie on it: its tissue is then that of `predict`. Under spots a small slide is looked at
            more finely.

    Raises:
        SlideError: it cannot be read.
    """
    least_px = LEAST_PX if alone else THUMBNAIL_PX
    with open_slide(path, mpp=mpp, bits=bits) as slide:
        thumbnail = read_thumbnail(slide)
        shape = thumbnail.shape[:2]
        px0_per_px = max(slide.width_px0, slide.height_px0) / max(shape)
        return SlideView(
            path=path,
            reader=slide.reader,
            size_px0=(slide.width_px0, slide.height_px0),
            level_downsamples=slide.level_downsamples,
            mpp_sources=dict(slide.mpp_sources),
            mpp_rejected=dict(slide.mpp_rejected),
            thumbnail=thumbnail,
            tissue=find_tissue(slide, slide.mpp, least_px=least_px).mask(shape, px0_per_px),
            empty_tiles=empty_tiles(path) if path.is_file() else (0, 0),
            picture=slide.picture,
            bits=slide.bits,
        )


def read_thumbnail(slide: Slide, max_side_px: int = THUMBNAIL_PX) -> npt.NDArray[np.uint8]:
    """The whole slide, small; from a JPEG file without decoding it in full size.

    Its longer side is `max_side_px`, or that of the slide where it is smaller.
    """
    longer = max(slide.width_px0, slide.height_px0)
    reduce = next((r for r in _REDUCED if longer >= r * max_side_px), None)
    if reduce is not None and slide.reader == "pillow":
        small = _decode_reduced(slide.path, reduce)
        expected = np.array([slide.height_px0, slide.width_px0]) / reduce
        if small is not None and (np.abs(np.array(small.shape[:2]) - expected) < 2).all():
            return _shrink(small, max_side_px)
    return slide.thumbnail(max_side_px)[0]


def _shrink(image: npt.NDArray[np.uint8], max_side_px: int) -> npt.NDArray[np.uint8]:
    import cv2

    height, width = image.shape[:2]
    scale = max_side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _decode_reduced(path: Path, reduce: int) -> npt.NDArray[np.uint8] | None:
    """A JPEG turned as its EXIF tag says; None for any other file."""
    import cv2

    content = np.fromfile(path, dtype=np.uint8)
    if not content[:3].tobytes().startswith(_JPEG):
        return None
    flag = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    bgr = cv2.imdecode(content, flag.get(reduce, cv2.IMREAD_REDUCED_COLOR_8))
    return None if bgr is None else np.ascontiguousarray(bgr[..., ::-1])


def slide_findings(
    name: str, view: SlideView, *, alone: bool, scale_stated: bool = False
) -> list[Finding]:
    """Facts and doubts about a slide.

    Args:
        name: what the findings are about.
        alone: no spots belong to it, so that only its tissue can tell where to predict, and its tags mpp.
        scale_stated: somebody states mpp, so that the tags are not asked.
    """
    width, height = view.size_px0
    levels = ", ".join(f"{d:.4g}" for d in view.level_downsamples)
    shown = f"{view.path.name}: {width:,} x {height:,} px, read by {view.reader}, "
    shown += (
        f"{len(view.level_downsamples)} levels ({levels})"
        if len(view.level_downsamples) > 1
        else "one level"
    )
    shown += f", colours of {view.bits} bits" if view.bits > 8 else ""
    shown += f"; {view.picture}" if view.picture else ""
    return [
        Finding(name, "slide", "ok", shown),
        *_tag_findings(name, view, alone=alone and not scale_stated),
        *_tile_findings(name, view),
        _tissue_finding(name, view, alone=alone),
        *_picture_findings(name, view),
    ]


def _tile_findings(name: str, view: SlideView) -> list[Finding]:
    empty, n_tiles = view.empty_tiles
    if not empty:
        return []
    shown = f"{empty:,} of {n_tiles:,} tiles of the largest level hold no data and are shown as background"
    if "philips" in view.reader:  # it leaves out tiles without tissue
        return [Finding(name, "slide", "info", shown)]
    remedy = "look at the picture; export or copy the slide again if tissue is missing"
    return [Finding(name, "slide", "warning", shown, remedy)]


def _tag_findings(name: str, view: SlideView, *, alone: bool) -> list[Finding]:
    found = [
        Finding(
            name,
            "scale",
            "info",
            f"slide tag {tag} says {value:.4g} um per pixel: not set, not used",
        )
        for tag, value in view.mpp_rejected.items()
    ]
    values = ", ".join(f"{tag} {value:.4g}" for tag, value in view.mpp_sources.items())
    if alone and view.mpp is not None:
        found.append(Finding(name, "scale", "ok", f"{view.mpp:.4g} um per pixel ({values})"))
    elif alone:  # as `predict` says it
        error = no_mpp(view.path, view.tags)
        found.append(Finding(name, "scale", "error", error.finding, error.remedy))
    return found


def coarse_findings(name: str, mpp: float | None) -> list[Finding]:
    """The finding that pixels are too large to show cells, where they are."""
    if mpp is None or mpp <= CELLS_UM:
        return []
    return [
        Finding(
            name,
            "scale",
            "warning",
            f"cells cannot be seen at {mpp:.3g} um per pixel (above {CELLS_UM:g})",
            "give the slide itself, not a small copy of it; a model trained on finer slides may call it unlike",
        )
    ]


def _tissue_finding(name: str, view: SlideView, *, alone: bool) -> Finding:
    if view.tissue.any():
        shown = f"tissue on {100 * view.tissue.mean():.0f} % of the slide"
        return Finding(name, "slide", "ok", shown)
    shown, look = "no tissue can be told from the background", "look at the picture"
    if alone:  # predict has nowhere to predict
        remedy = f"{look}: is it a slide of stained tissue? predict then needs --tissue or --spots"
        return Finding(name, "slide", "error", shown, remedy)
    return Finding(name, "slide", "warning", shown, f"{look}: is it a slide of stained tissue?")


def _picture_findings(name: str, view: SlideView) -> list[Finding]:
    found = []
    image = view.thumbnail[::2, ::2]
    if min(view.size_px0) < _SMALLEST_PX:
        width, height = view.size_px0
        found.append(
            Finding(
                name,
                "slide",
                "warning",
                f"the image has only {width} x {height} px, less than one patch",
                "give the slide itself, not its label or a piece of it",
            )
        )
    spread = image.max(axis=2).astype(int) - image.min(axis=2)
    tissue = view.tissue[::2, ::2]
    # On the tissue alone: a grey image may carry coloured marks.
    if float(np.median(spread[tissue] if tissue.any() else spread)) < _GREY:
        found.append(
            Finding(
                name,
                "slide",
                "warning",
                "the image is grey: the colours of the stain are missing",
                "give the colour image; features of a grey one are not those of H&E",
            )
        )
    black = float((image.max(axis=2) < _BLACK).mean())
    if black > _MUCH_BLACK:
        found.append(
            Finding(
                name,
                "slide",
                "warning",
                f"{100 * black:.0f} % of the slide is pure black: a mat or padding around it, or tiles that were never written",
                "look at the picture; export or copy the slide again if tissue is missing",
            )
        )
    return found
