"""How pictures look: sizes, colours, tissue with spots on it, saving; no pyplot state.

A figure belongs to nobody but its caller, so pictures can be drawn on threads and in servers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import Raster, is_fine, pitch_um, raster_of
from hespotex.export.scales import EXPRESSION_COLOURS
from hespotex.storage.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import EllipseCollection
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.floating[Any]]

DPI: Final = 150
SLIDE_INCHES: Final = (13.333, 7.5)
INK: Final = "#1b2230"
MUTED: Final = "#6b7485"
FAINT: Final = "#d9dde4"
ACCENT: Final = "#0b6e8f"
ALARM: Final = "#b3261e"
DEPTH_COLOURS: Final = "cividis"
UNLIKE_COLOURS: Final = "unlike"
# The same on every slide: a spot is flagged above 1.
UNLIKE_LIMITS: Final = (0.0, 2.0)
UNLIKE_LIMIT: Final = 1.0
# Side of an image that is drawn: more pixels than a picture has.
_MOST_PX: Final = 2_000
# Beside the outermost spots of a picture.
_MARGIN_UM: Final = 250.0


def new_figure(width: float = SLIDE_INCHES[0], height: float = SLIDE_INCHES[1]) -> Figure:
    """An empty white figure that can be saved; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


# Grey up to the limit, then orange to dark red: what is flagged stands out, and nothing else does.
_UNLIKE: Final = ((0.0, "#f3f1ec"), (0.5, "#98a1ac"), (0.5, "#f0a03c"), (1.0, "#6d0f16"))


def colour_map(name: str) -> Colormap:
    """A colour map by name, of matplotlib or our own."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    if name != UNLIKE_COLOURS:
        return colormaps[name]
    return LinearSegmentedColormap.from_list(name, _UNLIKE)


_MADE_OF = "hespotex"
# Of zlib: two thirds of the default's time for files a tenth larger.
_COMPRESSION = {"compress_level": 3}


def save_figure(figure: Figure, path: Path, made_of: str = "") -> None:
    """Write a PNG, or PDF or SVG where the path ends so, atomically; equal figures give equal files.

    Args:
        made_of: key that `figure_made_of` reads from a PNG again.

    Raises:
        RunError: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if "$" in text.get_text():  # in a name of the user's: no formula
            text.set_parse_math(False)
    kind = path.suffix.lower().removeprefix(".")
    undated = {"pdf": "CreationDate", "svg": "Date"}.get(kind, "Software")
    known: dict[str, str | None] = {undated: None}
    more: dict[str, Any] = {} if kind in ("pdf", "svg") else {"pil_kwargs": _COMPRESSION}
    if made_of:
        known |= {_MADE_OF: made_of}
    with atomic_path(path) as temporary, warnings.catch_warnings(), rc_context({"svg.hashsalt": _MADE_OF}):  # fmt: skip
        # A sign that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, dpi=DPI, format=kind if kind in ("pdf", "svg") else "png", metadata=known, **more)  # fmt: skip


def figure_made_of(path: Path) -> str:
    """The key that a picture was saved with; empty where it has none, or is not there."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return str(image.info.get(_MADE_OF, ""))
    except OSError:
        return ""


def heading(figure: Figure, title: str, subtitle: str = "", *, size: float = 17) -> None:
    """What the picture shows, and in smaller letters how to read it."""
    height = figure.get_size_inches()[1]
    figure.text(0.03, 1 - 0.30 / height, title, size=size, weight="bold", color=INK, va="top")
    if subtitle:
        figure.text(0.03, 1 - 0.68 / height, subtitle, size=10.5, color=MUTED, va="top")


def statement(
    figure: Figure, text: str, *, alarm: bool, y: float = 0.82, size: float = 10.5
) -> float:
    """Write the most important sentence below the title, in red where it warns; returns the base line after it, in inches from the top."""
    from textwrap import wrap

    wide = figure.get_size_inches()[0]
    for line in wrap(text, int((0.95 * wide) * 128 / size)):
        caption(figure, 0.03 * wide, y, line, size=size, colour=ALARM if alarm else INK)
        y += 0.019 * size
    return y


def place(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, y from the top."""
    full_width, full_height = figure.get_size_inches()
    bottom = 1 - (y + height) / full_height
    return figure.add_axes((x / full_width, bottom, width / full_width, height / full_height))


def caption(
    figure: Figure, x: float, y: float, text: str, *, size: float = 11, colour: str = INK
) -> None:
    """Text at a place in inches, y from the top, standing on its base line."""
    full_width, full_height = figure.get_size_inches()
    figure.text(x / full_width, 1 - y / full_height, text, size=size, color=colour)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Lines of a `paragraph` so many inches wide."""
    from textwrap import wrap

    return wrap(text, max(int(width * 110 / size), 16))


def paragraph(
    figure: Figure, x: float, y: float, width: float, text: str, *, size: float = 8
) -> None:
    """Wrapped lines of quiet text; a line break starts a new sentence with a gap. Inches, y from the top."""
    for part in text.split("\n"):
        for line in wrapped(part, width, size):
            caption(figure, x, y, line, size=size, colour=MUTED)
            y += size * 0.021
        y += size * 0.011


def colour_bar(
    figure: Figure,
    spots: ScalarMappable,
    x: float,
    y: float,
    height: float,
    label: str,
    *,
    mark: float | None = None,
    ticks: Sequence[float] | None = None,
    names: Sequence[str] = (),
) -> None:
    """An upright colour scale with its unit, at a place in inches; a line across it at `mark`; names at 0, 1, ... if given."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    bar = figure.colorbar(spots, cax=place(figure, x, y, 0.07, height))
    if mark is not None:
        for colour, width in (("white", 3.0), (INK, 1.4)):
            bar.ax.plot([-0.6, 1.6], [mark, mark], color=colour, linewidth=width, clip_on=False)
    bar.set_label(label, size=8, color=MUTED, labelpad=2)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, length=2, colors=MUTED, pad=1.5)
    if names:
        bar.set_ticks(list(range(len(names))), labels=[name[:20] for name in names], fontsize=6)
        return
    if ticks is None:
        bar.locator = MaxNLocator(4)
    else:
        bar.locator = FixedLocator(list(ticks))
        bar.formatter = FuncFormatter(lambda value, _at: f"{value:g}".replace("-", "−"))
    bar.update_ticks()


def bare_axes(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def plain_axes(axes: Axes) -> None:
    """Leave the left and lower line and quiet ticks."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=MUTED, labelsize=9, length=3)


def view_box(section: StoredPrediction) -> tuple[float, float, float, float]:
    """Square (left, right, top, bottom) in level-0 pixels that holds all spots and a margin."""
    low, high = section.xy_px0.min(axis=0), section.xy_px0.max(axis=0)
    centre = (low + high) / 2
    half = max(float((high - low).max()) / 2 + _MARGIN_UM / section.mpp, 1.0)
    return centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half


def draw_tissue(axes: Axes, section: StoredPrediction, *, fade: float = 0.0) -> None:
    """Draw the slide's picture in level-0 coordinates, cropped to the spots.

    Args:
        fade: 0 as it is; towards 1 grey and pale, so that colours on top are read alone.
    """
    left, right, top, bottom = view_box(section)
    if section.thumbnail is not None:
        scale, full = section.thumbnail.px0_per_px, section.thumbnail.image
        height, width = full.shape[:2]
        x0, x1 = (int(np.clip(v / scale, 0, width)) for v in (left, right))
        y0, y1 = (int(np.clip(v / scale, 0, height)) for v in (top, bottom))
        if x1 > x0 and y1 > y0:
            shown = full[y0:y1, x0:x1]
            extent = (x0 * scale, x1 * scale, y1 * scale, y0 * scale)
            axes.imshow(
                _faded(shown, fade) if fade > 0 else shown,
                extent=extent, interpolation="antialiased", zorder=0,
                cmap="gray", vmin=0, vmax=255,  # of a grey picture alone
            )  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    bare_axes(axes)


def _faded(image: npt.NDArray[np.uint8], fade: float) -> npt.NDArray[np.uint8]:
    """(h, w) grey, from white at `fade` 1."""
    red, green, blue = (image[..., channel].astype(np.uint16) for channel in range(3))
    shades = 255 - (1 - fade) * (255 - np.arange(3 * 255 + 1) / 3)
    return np.asarray(shades.astype(np.uint8)[red + green + blue])


def draw_spots(
    axes: Axes,
    section: StoredPrediction,
    values: Floats,
    *,
    limits: tuple[float, float],
    colours: str = EXPRESSION_COLOURS,
) -> ScalarMappable:
    """Draw spots in their true size, coloured by value; a spot without a value stays hollow. A fine map is an image."""
    if is_fine(section):
        return _draw_image(axes, section, values, limits, colours)
    diameter = section.spot_diameter_um / section.mpp
    known = np.isfinite(values)
    for mask, style in (
        (~known, {"facecolors": "none", "edgecolors": MUTED, "linewidths": 0.4}),
        (
            known,
            {
                "edgecolors": "#1b223040",
                "linewidths": 0.3,
                "array": values[known],
                "cmap": colour_map(colours),
            },
        ),
    ):
        spots = draw_circles(axes, section.xy_px0[mask], diameter, **style)
    spots.set_clim(*limits)
    return spots


def _draw_image(
    axes: Axes,
    section: StoredPrediction,
    values: Floats,
    limits: tuple[float, float],
    colours: str,
) -> ScalarMappable:
    """Draw a fine map as an image over the tissue, which shows where there is no spot."""
    raster = _raster(section)
    image = np.ma.masked_invalid(raster.image(values))
    view = axes.get_xlim(), axes.get_ylim()
    drawn = axes.imshow(
        image, extent=raster.extent, cmap=colour_map(colours), vmin=limits[0], vmax=limits[1],
        interpolation="antialiased", zorder=2,
    )  # fmt: skip
    axes.set_xlim(*view[0])
    axes.set_ylim(*view[1])
    return drawn


def _raster(section: StoredPrediction) -> Raster:
    low_right = section.xy_px0.max(axis=0) + pitch_um(section) / section.mpp / 2
    return raster_of(section, (float(low_right[0]), float(low_right[1])), most_px=_MOST_PX)


def draw_circles(
    axes: Axes, xy: npt.NDArray[np.float64], diameter: float, **look: Any
) -> EllipseCollection:
    """Circles of one diameter in the unit of the axes, over pictures and below bars."""
    from matplotlib.collections import EllipseCollection

    size, upright = np.full(len(xy), diameter), np.zeros(len(xy))
    circles = EllipseCollection(
        size,
        size,
        upright,
        units="xy",
        offsets=xy,
        offset_transform=axes.transData,
        zorder=2,
        **look,
    )
    axes.add_collection(circles)
    return circles


def draw_scale_bar(axes: Axes, section: StoredPrediction) -> None:
    """A bar of a round length, about a fifth of the view, in the lower left corner; light rims show it on dark."""
    scale_bar(axes, section.mpp)


def scale_bar(axes: Axes, mpp: float, *, size: float = 9) -> None:
    """The same for axes in any unit, `mpp` microns each; `size` of its letters in points."""
    from matplotlib.patheffects import withStroke

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    rim = [withStroke(linewidth=size / 2, foreground="white", alpha=0.85)]
    width_um = (right - left) * mpp
    choices = np.array([5, 10, 20, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000, 10000, 20000])
    length_um = int(choices[np.abs(choices - width_um / 5).argmin()])
    x, y = left + 0.04 * (right - left), bottom - 0.03 * (bottom - top)
    ends = [x, x + length_um / mpp]
    axes.plot(ends, [y, y], color=INK, linewidth=size / 3.6, zorder=4, path_effects=rim)
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um} µm"
    said = axes.text(
        x, y - 0.015 * (bottom - top), label, size=size, color=INK, va="bottom", zorder=4
    )
    said.set_path_effects([withStroke(linewidth=size / 3.6, foreground="white", alpha=0.85)])
