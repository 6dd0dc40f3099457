"""What pages and notebooks of the site share: one demo run, and maps drawn in one way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import hespotex

WORK = Path(os.environ["HESPOTEX_DOCS"])
plt.rcParams.update(
    {
        "figure.dpi": 110,
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def demo() -> Path:
    """The run folder of the demo; made where it is not there yet."""
    results = WORK / "demo" / "results"
    if not (results / "report.html").exists():
        hespotex.demo(WORK / "demo", progress=False)
    return results


def map_of(
    ax: Any,
    xy_um: Any,
    values: Any,
    title: str,
    label: str,
    cmap: str = "viridis",
    size: float = 22,
) -> None:
    """Spots coloured by their values, between the 2nd and 98th percentile, with a bar of colours and a scale of 500 um."""
    low, high = np.nanpercentile(values, [2, 98])
    drawn = ax.scatter(*xy_um.T, c=values, s=size, cmap=cmap, vmin=low, vmax=high, linewidths=0)
    ax.set(title=title, aspect="equal", xticks=[], yticks=[])
    ax.invert_yaxis()
    for side in ax.spines.values():
        side.set_visible(False)
    left, bottom = xy_um.min(axis=0)[0], xy_um.max(axis=0)[1] + 130
    ax.plot([left, left + 500], [bottom, bottom], color="black", linewidth=2)
    ax.text(left + 250, bottom + 40, "500 um", ha="center", va="top", fontsize=7)
    plt.colorbar(drawn, ax=ax, shrink=0.7, pad=0.02).set_label(label, fontsize=8)
