"""The current view as a picture for print: slide, spots, colour bar, scale bar, and what may be believed of it."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import ConfigError
from hespotex.export.claim_words import first_sentence
from hespotex.plots.domain_colours import colours_of
from hespotex.plots.style import (
    ALARM,
    INK,
    MUTED,
    bare_axes,
    caption,
    colour_bar,
    colour_map,
    draw_circles,
    new_figure,
    paragraph,
    place,
    scale_bar,
)
from hespotex.viewer.library import DIVERGING, SEQUENTIAL, Library
from hespotex.viewer.opened import OF_GENES, Layer, OpenedSlide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap

FORMATS: Final = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
_SIDE_IN: Final = 5.6
_DPI: Final = 300
# Of flagged pixels, as `pyramid` in draw.js has them.
_PALE: Final = (255, 255, 255, 150)
_RED: Final = (179, 29, 31, 235)
_LOCK: Final = threading.Lock()  # pictures of many megapixels: one at a time


@dataclass(frozen=True)
class PaneView:
    """One pane: a layer of a slide, its palette and the ends of its scale (None: by default)."""

    slide: int
    show: str
    gene: str
    palette: str
    limits: tuple[float, float] | None

    @property
    def show_gene(self) -> bool:
        """Whether what is shown is of a gene."""
        return self.show in OF_GENES


@dataclass(frozen=True)
class View:
    """What is on the screen.

    Attributes:
        panes: one or two, side by side.
        centre_um: x, y from the slide's corner.
        size_um: width and height of a pane.
        opacity: of the spots.
        flagged: whether flagged spots are drawn.
        anyway: whether the maps of an unlike slide are drawn without hatching.
        format: of the file.
    """

    panes: tuple[PaneView, ...]
    centre_um: tuple[float, float]
    size_um: tuple[float, float]
    opacity: float = 0.85
    flagged: bool = True
    anyway: bool = False
    format: str = "png"

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> View:
        """What a page asks for.

        Raises:
            ConfigError: it is no view.
        """
        try:
            panes = tuple(_pane(p) for p in asked["panes"])
            x, y = map(float, asked["centre_um"])
            width, height = map(float, asked["size_um"])
            view = cls(panes, (x, y), (width, height), float(asked.get("opacity", 0.85)), bool(asked.get("flagged", True)),
                       bool(asked.get("anyway", False)), str(asked.get("format", "png")))  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(expected="a view of one or two panes", found=repr(error)) from error
        numbers = (x, y, width, height, view.opacity)
        right = len(panes) in (1, 2) and all(map(math.isfinite, numbers)) and min(width, height) > 0
        if not right or view.format not in FORMATS or max(width, height) > 50 * min(width, height):
            raise ConfigError(
                expected="a view of one or two panes as png, svg or pdf", found="something else"
            )
        return view


def _pane(asked: Mapping[str, Any]) -> PaneView:
    limits = asked.get("limits")
    pair = None if limits is None else (float(limits[0]), float(limits[1]))
    if pair is not None and not (all(map(math.isfinite, pair)) and pair[0] < pair[1]):
        raise ValueError("limits of a colour scale rise")
    palette = str(asked.get("palette") or "")
    if palette not in ("", *DIVERGING, *SEQUENTIAL):
        raise ValueError("an unknown palette")
    return PaneView(int(asked["slide"]), str(asked["show"]), str(asked.get("gene", "")), palette, pair)  # fmt: skip


def draw_view(library: Library, view: View) -> bytes:
    """The file of a view, 300 dots an inch.

    Raises:
        HESpotExError: a pane shows what its slide does not hold.
    """
    with _LOCK:
        width, height = view.size_um
        tall = min(max(_SIDE_IN * height / width, 2.0), 9.0)
        wide = tall * width / height
        step = wide + 1.15
        lines = 1.55
        figure = new_figure(0.3 + step * len(view.panes), tall + 0.75 + lines)
        for number, pane in enumerate(view.panes):
            slide = library.slide(pane.slide)
            left = 0.3 + number * step
            layer = slide.layer(pane.show, pane.gene)
            axes = place(figure, left, 0.7, wide, tall)
            spots = draw_pane(axes, slide, layer, view, pane)
            colour_bar(figure, spots, left + wide + 0.1, 0.7, min(tall, max(2.4, 0.15 * len(layer.categories))), layer.unit[:40], names=layer.categories)  # fmt: skip
            title = f"{pane.gene}  " if pane.show_gene else ""
            caption(figure, left, 0.32, f"{title}{slide.file.spots.section_id}", size=13)
            caption(figure, left, 0.56, layer.title, size=9, colour=MUTED)
            alarm = slide.claims.suspended
            told = slide.told(pane.gene) if pane.show_gene else layer.explained
            said = f"{told}\n{first_sentence(slide.file.spots)}" if told else first_sentence(slide.file.spots)  # fmt: skip
            if alarm:
                caption(figure, left, 0.7 + tall + 0.17, "Unlike the training slides: no grade holds here.", size=9, colour=ALARM)  # fmt: skip
            paragraph(figure, left, 0.7 + tall + (0.36 if alarm else 0.2), wide + 0.7, said, size=7)
        out = io.BytesIO()
        meta = {"Date": None} if view.format == "svg" else {}
        figure.savefig(out, format=view.format, dpi=_DPI, metadata=meta or None)
        return out.getvalue()


def draw_pane(
    axes: Axes, slide: OpenedSlide, layer: Layer, view: View, pane: PaneView
) -> ScalarMappable:
    """Slide and spots in level-0 pixels; flagged spots crossed out, an unlike slide hatched."""
    mpp = slide.file.spots.mpp
    (x, y), (w, h) = view.centre_um, view.size_um
    box = ((x - w / 2) / mpp, (y - h / 2) / mpp, w / mpp, h / mpp)
    pixels = int(min(1680, max(200, box[2])))
    size = (pixels, max(1, round(pixels * box[3] / box[2])))
    extent = (box[0], box[0] + box[2], box[1] + box[3], box[1])
    axes.imshow(slide.image.region(box, size), extent=extent, interpolation="antialiased", zorder=0)
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    bare_axes(axes)
    spots = _draw_spots(axes, slide, layer, view, pane)
    if slide.claims.suspended and not view.anyway:
        from matplotlib.patches import Rectangle

        axes.add_patch(
            Rectangle(
                (box[0], box[1]),
                box[2],
                box[3],
                fill=False,
                hatch="//",
                edgecolor=ALARM,
                alpha=0.6,
                lw=0,
                zorder=3,
            )
        )
    scale_bar(axes, mpp)
    return spots


def _draw_spots(
    axes: Axes, slide: OpenedSlide, layer: Layer, view: View, pane: PaneView
) -> ScalarMappable:
    limits, values = pane.limits or layer.limits, layer.values
    look: dict[str, Any] = {"cmap": _colours(layer, pane), "alpha": view.opacity}
    if layer.categories:
        limits = (-0.5, len(layer.categories) - 0.5)
    if slide.is_image:
        return _draw_pixels(axes, slide, values, limits, look, flagged=view.flagged)
    drawn: Any
    xy, usable = np.asarray(slide.file.spots.xy_px0), slide.file.usable
    diameter = slide.file.spots.spot_diameter_um / slide.file.spots.mpp
    inside = _within(axes, xy, diameter)
    sure = inside & usable & np.isfinite(values)
    drawn = draw_circles(axes, xy[sure], diameter, array=values[sure], edgecolors=f"{INK}40", linewidths=0.3, **look)  # fmt: skip
    drawn.set_clim(*limits)
    if view.flagged:
        unsure = inside & ~usable
        draw_circles(axes, xy[unsure], diameter, facecolors="#ffffff99", edgecolors=ALARM, linewidths=0.8, hatch="xxxx")  # fmt: skip
    return drawn  # type: ignore[no-any-return]


def _colours(layer: Layer, pane: PaneView) -> Colormap:
    if layer.categories:
        from matplotlib.colors import ListedColormap

        return ListedColormap(colours_of(len(layer.categories)))
    return colour_map(pane.palette or (DIVERGING if layer.diverging else SEQUENTIAL)[0])


def _draw_pixels(
    axes: Axes, slide: OpenedSlide, values: npt.NDArray[np.float32], limits: tuple[float, float],
    look: Mapping[str, Any], *, flagged: bool,
) -> ScalarMappable:  # fmt: skip
    """Spots as pixels of an image; flagged ones show no value, and are pale with red lines as on the page."""
    index, scale = slide.raster()
    usable = slide.file.usable
    height, width = index.shape
    span = (0.0, width * scale, height * scale, 0.0)
    keep = axes.get_xlim(), axes.get_ylim()
    known = np.append(np.where(usable, values, np.float32(np.nan)), np.float32(np.nan))
    shown = np.ma.masked_invalid(known[index])
    drawn = axes.imshow(shown, extent=span, vmin=limits[0], vmax=limits[1], zorder=2, **look)
    if flagged and not usable.all():
        crossed = np.append(~usable, False)[index]
        lines = np.add.outer(np.arange(height), np.arange(width)) % 4 == 0
        over = np.zeros((height, width, 4), np.uint8)
        over[crossed] = _PALE
        over[crossed & lines] = _RED
        axes.imshow(over, extent=span, interpolation="nearest", zorder=2.5)
    axes.set_xlim(*keep[0])
    axes.set_ylim(*keep[1])
    return drawn


def _within(axes: Axes, xy: npt.NDArray[np.float64], margin: float) -> npt.NDArray[np.bool_]:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = xy.T
    within = (x > left - margin) & (x < right + margin) & (y > top - margin) & (y < bottom + margin)
    return np.asarray(within, bool)
