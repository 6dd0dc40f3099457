"""Domains of sections side by side: a row a section, a column a source, labels first; returns figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import is_fine, pitch_um, raster_of
from hespotex.plots import style
from hespotex.plots.domain_colours import colour_of, colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS: Final = 4
# Inches.
_SIDE: Final = 2.9
_GAP: Final = 0.25
_TOP: Final = 1.5
_SAID: Final = 8.0
_LINE: Final = 0.17
_LEGEND: Final = 0.24
_FADE: Final = 0.55
_MOST_PX: Final = 1_500
_LONGEST: Final = 26


@dataclass(frozen=True)
class Column:
    """What a column of the picture shows.

    Attributes:
        title: above it.
        names: of the classes that the legend shows, by their numbers.
        numbers: (n,) by section; -1: none.
    """

    title: str
    names: Mapping[int, str]
    numbers: Mapping[str, npt.NDArray[np.int32]]


def plot_domains(
    sections: Sequence[StoredPrediction], columns: Sequence[Column], said: str = ""
) -> Figure:
    """Up to `ROWS` sections; a legend below each column.

    Args:
        said: a sentence below the title.
    """
    legend = _LEGEND * (max(len(c.names) for c in columns) + 1)
    wide = max(0.4 + len(columns) * (_SIDE + _GAP), 6.5)
    # There is room for two lines below the title.
    top = _TOP + _LINE * max(len(style.wrapped(said, wide * 0.92, _SAID)) - 2, 0)
    figure = style.new_figure(wide, top + len(sections) * (_SIDE + 0.35) + legend)
    style.heading(figure, "Tissue domains")
    style.paragraph(figure, 0.03 * wide, 0.72, wide * 0.92, said, size=_SAID)
    for k, column in enumerate(columns):
        x = 0.4 + k * (_SIDE + _GAP)
        style.caption(figure, x, top - 0.28, column.title, size=11)
        for row, section in enumerate(sections):
            y = top + row * (_SIDE + 0.35)
            axes = style.place(figure, x, y, _SIDE, _SIDE)
            style.draw_tissue(axes, section, fade=_FADE)
            name = section.section_id
            if name in column.numbers:
                colours = colours_of(1 + max(column.names, default=-1))
                _draw(axes, section, column.numbers[name], colours)
            if k == 0:
                style.draw_scale_bar(axes, section)
                style.caption(figure, x, y - 0.06, _short(name), size=9, colour=style.MUTED)
        _legend(figure, x, top + len(sections) * (_SIDE + 0.35), column.names)
    return figure


def _draw(
    axes: Axes,
    section: StoredPrediction,
    numbers: npt.NDArray[np.int32],
    colours: Sequence[str],
) -> None:
    from matplotlib.colors import to_rgba

    table = np.array([*(to_rgba(c) for c in colours), (0, 0, 0, 0)])
    if not is_fine(section):
        has = numbers >= 0
        style.draw_circles(
            axes, section.xy_px0[has], 0.92 * pitch_um(section) / section.mpp, facecolors=table[numbers[has]],
            edgecolors="white", linewidths=0.2,
        )  # fmt: skip
        return
    corner = section.xy_px0.max(axis=0) + pitch_um(section) / section.mpp / 2
    raster = raster_of(section, (float(corner[0]), float(corner[1])), most_px=_MOST_PX)
    view = axes.get_xlim(), axes.get_ylim()
    axes.imshow(
        table[np.append(numbers, -1)[raster.index]], extent=raster.extent, interpolation="nearest",
        zorder=2,
    )  # fmt: skip
    axes.set_xlim(*view[0])
    axes.set_ylim(*view[1])


def _legend(figure: Figure, x: float, y: float, names: Mapping[int, str]) -> None:
    from matplotlib.patches import Rectangle

    wide, high = figure.get_size_inches()
    for row, (k, name) in enumerate(names.items()):
        at, colour = y + row * _LEGEND, colour_of(k)
        figure.add_artist(
            Rectangle((x / wide, 1 - (at + 0.13) / high), 0.2 / wide, 0.14 / high, color=colour)
        )
        style.caption(figure, x + 0.28, at + 0.12, _short(name), size=8.5)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
