"""How agreement falls with the distance between sections of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hespotex.plots.style import (
    ACCENT,
    INK,
    MUTED,
    caption,
    heading,
    new_figure,
    place,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colour and mark of each line; told apart without colours, too.
_LOOKS: Final = ((INK, "s"), (ACCENT, "o"), ("#d9820f", "^"))


@dataclass(frozen=True)
class DriftPoint:
    """One pair of sections in one comparison.

    Attributes:
        apart: steps between the sections in the series.
        value: mean over genes.
        trained: its consistency is no evidence.
    """

    apart: float
    value: float
    trained: bool


def plot_drift(title: str, unit: str, lines: Mapping[str, Sequence[DriftPoint]]) -> Figure:
    """A point a pair, hollow where one trained the other, and a line through the means of the others.

    Args:
        unit: of the values.
        lines: points by what is compared, three at most.
    """
    figure = new_figure(7.0, 3.9)
    heading(figure, title, unit, size=13)
    axes = place(figure, 0.7, 1.0, 4.0, 2.3)
    plain_axes(axes)
    axes.axhline(0.0, color=MUTED, linewidth=0.7)
    ticks = sorted({p.apart for points in lines.values() for p in points})
    for (name, points), (colour, mark) in zip(lines.items(), _LOOKS, strict=False):
        counted = [p for p in points if not p.trained] or points
        steps = sorted({p.apart for p in counted})
        means = [float(np.mean([p.value for p in counted if p.apart == at])) for at in steps]
        axes.plot(steps, means, color=colour, linewidth=1.4)
        for hollow in (False, True):
            here = [p for p in points if p.trained is hollow]
            axes.plot(
                [p.apart for p in here], [p.value for p in here], mark, markersize=6,
                color=colour, markerfacecolor="white" if hollow else colour, linestyle="none",
            )  # fmt: skip
        y = 1.3 + 0.42 * list(lines).index(name)
        key = place(figure, 4.95, y - 0.12, 0.2, 0.16)
        key.plot([0], [0], mark, color=colour, markersize=6)
        key.set_axis_off()
        caption(figure, 5.2, y, name, size=8.5, colour=INK)
    axes.set_xticks(ticks, [f"{at:g}" for at in ticks])
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("steps apart in the series", size=9, color=MUTED)
    if any(p.trained for points in lines.values() for p in points):
        caption(figure, 4.95, 2.9, "hollow: trained on it, no evidence", size=8, colour=MUTED)
    return figure
