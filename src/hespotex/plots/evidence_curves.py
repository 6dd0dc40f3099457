"""Deletion and insertion curves of the map of a diagnosis; draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from hespotex.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDE: Final = 3.6
_HIGH: Final = 2.3
_TITLES: Final = {"deletion": "taken away", "insertion": "alone"}
# The first order stands out, the last is what chance does.
_COLOURS: Final = ("#b3261e", "#2f6db3", "#8a8f98")


def plot_curves(table: pd.DataFrame, words: str, *, alarm: bool) -> Figure:
    """One row a diagnosis: what is left without the spots, and what they say alone.

    Args:
        table: of `analysis.localize.curves`.
        words: the sentence to be read with it; in red where `alarm`.
    """
    labels, orders = table["label"].unique().tolist(), table["order"].unique().tolist()
    figure = style.new_figure(2 * _WIDE + 1.9, 1.3 + len(labels) * (_HIGH + 0.95))
    style.heading(figure, "Log odds of slides towards their diagnosis")
    style.statement(figure, words, alarm=alarm)
    for row, label in enumerate(labels):
        for column, (what, title) in enumerate(_TITLES.items()):
            y = 1.5 + row * (_HIGH + 0.95)
            axes = style.place(figure, 0.75 + column * (_WIDE + 0.75), y, _WIDE, _HIGH)
            for order, colour in zip(orders, _COLOURS, strict=True):
                own = table[(table["label"] == label) & (table["order"] == order)]
                axes.plot(100 * own["part"], own[what], color=colour, linewidth=1.8, label=order)
            style.plain_axes(axes)
            axes.axhline(0, color=style.FAINT, linewidth=0.8, zorder=0)
            axes.set_title(
                f"{str(label)[:40]}: spots {title}", size=10, color=style.INK, loc="left"
            )
            axes.set_xlabel(
                "part of the spots, groups of neighbours, %", size=8.5, color=style.MUTED
            )
            if not row and column:
                axes.legend(
                    frameon=False,
                    fontsize=8.5,
                    title="first go those highest by",
                    title_fontsize=8.5,
                )
    return figure
