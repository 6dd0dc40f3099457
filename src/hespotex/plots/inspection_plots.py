"""Pictures of a preflight: spots on the tissue in their true size, and patches as encoded.

Each function returns a figure; `style.save_figure` writes it.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from hespotex.features.patches import PatchPlan, crop_patches
from hespotex.inspection.findings import Colour
from hespotex.inspection.inspect import Inspected, Picture
from hespotex.plots import style
from hespotex.slide import Slide, open_slide
from hespotex.slide.tissue import Tissue, find_tissue

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

N_PATCHES: Final = 9
_PER_ROW: Final = 3
_PATCH_GAP: Final = 0.03  # inches
_OVERVIEW_PX: Final = 1400
_SPOT: Final = "#00e5ff"
_TISSUE: Final = "#1f8a4c"
_COLOURS: Final[dict[Colour, str]] = {"green": "#1f8a4c", "yellow": "#b7791f", "red": "#b3261e"}
_ROUND_UM: Final = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
# The close-up shows about so many pitches a side.
_CLOSE_PITCHES: Final = 5.0
# Above so many spots a dark rim around each would hide the tissue.
_MANY_SPOTS: Final = 1000
# Patches of a slide alone lie farther from the glass than this share of its tissue.
_INNER: Final = 0.3


def plot_overlay(item: Inspected) -> Figure:
    """The whole image with its spots, and a close-up in which their size can be judged.

    Args:
        item: with a picture.

    Raises:
        ValueError: the item has no picture.
        SlideError: the image cannot be read.
    """
    picture = _picture(item)
    figure = style.new_figure()
    question = (
        "where is the tissue?" if picture.xy_px0 is None else "do spots and tissue belong together?"
    )
    style.heading(figure, f"{item.name}: {question}", _subtitle(picture))
    bad = [f for f in item.findings if f.colour != "green"]
    text = f"verdict: {item.verdict}"
    if bad:
        said = bad[0].found.replace(f"{picture.path.parent}/", "")
        text += f" - {_clipped(said, 150)}" + (f" (+{len(bad) - 1})" if len(bad) > 1 else "")
    style.caption(figure, 0.4, 1.12, text, size=9.5, colour=_COLOURS[item.verdict])
    left = style.place(figure, 0.4, 1.3, 6.0, 5.9)
    right = style.place(figure, 6.9, 1.3, 6.0, 5.9)
    with open_slide(picture.path, bits=picture.bits) as slide:
        _draw_region(left, slide, (0.0, 0.0, float(slide.width_px0), float(slide.height_px0)))
        if picture.xy_px0 is None:
            tissue = find_tissue(slide, picture.mpp)
            _draw_tissue_outline(left, tissue)
            centre = _tissue_points(slide, tissue, 1)[0]
        else:
            _draw_spots(left, picture, 0.5 if len(picture.xy_px0) <= _MANY_SPOTS else 0.25)
            low, high = picture.xy_px0.min(axis=0), picture.xy_px0.max(axis=0)
            middle = picture.xy_px0 - (low + high) / 2
            centre = picture.xy_px0[int(np.hypot(*middle.T).argmin())]
            _show_all(left, slide, low, high)
        side = _close_side(picture, slide)
        corner = centre - side / 2
        if picture.xy_px0 is None:
            corner = np.clip(
                corner, 0, np.maximum([slide.width_px0 - side, slide.height_px0 - side], 0)
            )
        box = (float(corner[0]), float(corner[1]), side, side)
        _draw_region(right, slide, box)
        left.add_patch(_rectangle(box))
    if picture.xy_px0 is not None:
        _draw_spots(right, picture, 1.6)
    right.set_xlim(box[0], box[0] + side)
    right.set_ylim(box[1] + side, box[1])
    for axes in (left, right):
        _scale_bar(axes, picture.mpp)
    return figure


def plot_patches(item: Inspected, plan: PatchPlan) -> Figure:
    """Nine patches as the encoder is given them, each in all its sides.

    Args:
        item: with a picture of known scale.

    Raises:
        ValueError: the item has no picture, or its scale is unknown.
        SlideError: the image cannot be read.
    """
    picture = _picture(item)
    if picture.mpp is None:
        raise ValueError(f"{item.name}: patches of physical sides need microns per pixel")
    with open_slide(picture.path, mpp=picture.mpp, bits=picture.bits) as slide:
        centres = _patch_centres(picture, slide)
        patches = np.empty(
            (len(centres), len(plan.sides_um), plan.size_px, plan.size_px, 3), np.uint8
        )
        with closing(crop_patches(slide, centres, picture.mpp, plan, N_PATCHES)) as batches:
            for indices, batch in batches:
                patches[indices] = batch
    n_sides, gap = len(plan.sides_um), 0.22
    side = float(np.clip(plan.size_px / style.DPI, 0.9, 1.5)) + _PATCH_GAP
    width = max(style.SLIDE_INCHES[0], 0.74 + _PER_ROW * n_sides * side + gap * (_PER_ROW - 1))
    rows = -(-len(centres) // _PER_ROW)
    figure = style.new_figure(width, 1.55 + rows * (side + 0.3))
    shown = ", ".join(
        f"{um:g} µm at {mpp:.3g} µm/px"
        for um, mpp in zip(plan.sides_um, plan.effective_mpp(picture.mpp), strict=True)
    )
    style.heading(
        figure,
        f"{item.name}: what the encoder sees",
        f"Nine places, each {plan.size_px} x {plan.size_px} px: {shown}; the image has {picture.mpp:.3g} µm/px.",
    )
    for number, scales in enumerate(patches):
        row, column = divmod(number, _PER_ROW)
        x0 = 0.37 + column * (n_sides * side + gap)
        y0 = 1.35 + row * (side + 0.3)
        x, y = centres[number]
        style.caption(
            figure, x0, y0 - 0.05, f"x {x:,.0f}, y {y:,.0f} px", size=8, colour=style.MUTED
        )
        for place, patch in enumerate(scales):
            axes = style.place(figure, x0 + place * side, y0, side - _PATCH_GAP, side - _PATCH_GAP)
            axes.imshow(patch, interpolation="nearest")
            style.bare_axes(axes)
    return figure


def _picture(item: Inspected) -> Picture:
    if item.picture is None:
        raise ValueError(f"{item.name}: there is no image to draw")
    return item.picture


def _subtitle(picture: Picture) -> str:
    parts = [] if not picture.note else [picture.note]
    if picture.xy_px0 is None:
        parts.append("a slide without spots; tissue as found is outlined")
    elif picture.spot_diameter_um is None or picture.mpp is None:
        parts.append(f"{len(picture.xy_px0):,} spots; their size is unknown, centres are drawn")
    else:
        parts.append(
            f"{len(picture.xy_px0):,} spots of {picture.spot_diameter_um:.4g} µm in their true size"
        )
    scale = "µm per pixel unknown" if picture.mpp is None else f"{picture.mpp:.4g} µm per pixel"
    return "; ".join([*parts, scale])


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _draw_region(axes: Axes, slide: Slide, box: tuple[float, float, float, float]) -> None:
    x, y, width, height = box
    scale = max(width, height) / _OVERVIEW_PX
    out = (max(1, round(width / scale)), max(1, round(height / scale)))
    if scale < 1:
        out = (max(1, round(width)), max(1, round(height)))
    image = slide.read_region(x, y, width, height, *out)
    axes.imshow(image, extent=(x, x + width, y + height, y), interpolation="antialiased", zorder=0)
    axes.set_aspect("equal")
    style.bare_axes(axes)


def _draw_spots(axes: Axes, picture: Picture, line_width: float) -> None:
    if picture.xy_px0 is None:
        return
    if picture.spot_diameter_um is None or picture.mpp is None:
        axes.scatter(
            picture.xy_px0[:, 0],
            picture.xy_px0[:, 1],
            s=6,
            color=_SPOT,
            edgecolors="black",
            linewidths=0.3,
            zorder=2,
        )
        return
    diameter = picture.spot_diameter_um / picture.mpp
    rims = [("black", 2.2 * line_width), (_SPOT, line_width)]
    for colour, width in rims if line_width >= 0.5 else rims[1:]:
        look = {"facecolors": "none", "edgecolors": colour, "linewidths": width}
        style.draw_circles(axes, picture.xy_px0, diameter, **look)


def _show_all(
    axes: Axes, slide: Slide, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> None:
    """The whole slide and every spot, also those outside of it."""
    margin = 0.02 * max(slide.width_px0, slide.height_px0)
    axes.set_xlim(min(0.0, low[0] - margin), max(float(slide.width_px0), high[0] + margin))
    axes.set_ylim(max(float(slide.height_px0), high[1] + margin), min(0.0, low[1] - margin))
    axes.add_patch(_rectangle((0.0, 0.0, float(slide.width_px0), float(slide.height_px0)), 0.6))


def _draw_tissue_outline(axes: Axes, tissue: Tissue) -> None:
    for polygon in tissue.polygons.geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            axes.plot(*np.asarray(ring.coords)[:, :2].T, color=_TISSUE, linewidth=1.0)


def _rectangle(box: tuple[float, float, float, float], width: float = 1.4) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle(
        box[:2], box[2], box[3], fill=False, edgecolor=style.INK, linewidth=width, zorder=3
    )


def _close_side(picture: Picture, slide: Slide) -> float:
    shortest = float(min(slide.width_px0, slide.height_px0))
    if picture.xy_px0 is None or len(picture.xy_px0) < 2:
        return min(1000.0 / picture.mpp if picture.mpp else shortest / 3, shortest)
    from scipy.spatial import cKDTree

    nearest = cKDTree(picture.xy_px0).query(picture.xy_px0, k=2)[0][:, 1]
    return max(_CLOSE_PITCHES * float(np.median(nearest)), 8.0)


def _scale_bar(axes: Axes, mpp: float | None) -> None:
    if mpp is None:
        return
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    wanted = (right - left) * mpp / 5
    length = min(_ROUND_UM, key=lambda um: abs(um - wanted))
    x, y = left + 0.03 * (right - left), bottom + 0.03 * (top - bottom)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    for colour, width in (("white", 5.0), (style.INK, 2.5)):
        axes.plot([x, x + length / mpp], [y, y], color=colour, linewidth=width, zorder=4)
    axes.text(
        x, y + 0.015 * (top - bottom), label, size=9, color=style.INK, zorder=4,
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def _patch_centres(picture: Picture, slide: Slide) -> npt.NDArray[np.float64]:
    """Up to nine places, spread over the spots, or over the tissue of a slide without."""
    if picture.xy_px0 is None:
        return _tissue_points(slide, find_tissue(slide, picture.mpp), N_PATCHES)
    inside = ((picture.xy_px0 >= 0) & (picture.xy_px0 < [slide.width_px0, slide.height_px0])).all(
        axis=1
    )
    spots = picture.xy_px0[inside] if inside.any() else picture.xy_px0
    order = np.lexsort((spots[:, 0], spots[:, 1]))
    chosen = np.unique(
        np.linspace(0, len(spots) - 1, min(N_PATCHES, len(spots))).round().astype(int)
    )
    return np.asarray(spots[order[chosen]])


def _tissue_points(slide: Slide, tissue: Tissue, n: int) -> npt.NDArray[np.float64]:
    """Places on the tissue, spread over it; the middle of the slide where there is none."""
    from scipy.ndimage import distance_transform_edt

    longest = max(slide.width_px0, slide.height_px0)
    scale = max(1.0, longest / 400)
    shape = (math.ceil(slide.height_px0 / scale), math.ceil(slide.width_px0 / scale))
    depth = distance_transform_edt(np.pad(tissue.mask(shape, scale), 1))[1:-1, 1:-1]
    inner = np.quantile(depth[depth > 0], _INNER) if depth.any() else 0.0
    rows, columns = np.nonzero((depth > 0) & (depth >= inner))
    if not len(rows):
        return np.array([[slide.width_px0 / 2, slide.height_px0 / 2]])
    chosen = np.unique(((np.arange(n) + 0.5) / n * len(rows)).astype(int))
    return (np.column_stack([columns[chosen], rows[chosen]]) + 0.5) * scale
