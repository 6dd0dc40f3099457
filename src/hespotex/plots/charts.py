"""Drawings of the report that are SVG text: distributions and calibration.

A chart follows the light and the dark theme: colours are CSS variables of the page, or in `predictor_css`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.predictors import PREDICTORS, label_of
from hespotex.export.scales import robust_limits
from hespotex.plots.maps import density
from hespotex.storage.metrics import Coverage

Floats = npt.NDArray[np.floating[Any]]

_WIDTH: Final = 520
_ROW: Final = 54
_LEFT: Final = 162
_RIGHT: Final = 66


def distribution_svg(tables: Mapping[str, Floats], title: str) -> str:
    """Density of the score over genes, one row a predictor, with mean and middle half.

    Args:
        tables: scores by predictor, NaN left out; a predictor without scores keeps an empty row.
        title: what a screen reader says.
    """
    low, high = robust_limits([*tables.values(), np.zeros(1)], 0.2, 99.8)
    low, high = min(low, -0.05) - 0.04, max(high, 0.2) + 0.04
    height = _ROW * len(tables) + 44
    base = height - 30

    def at(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    x = np.linspace(low, high, 160)
    parts = [_open(_WIDTH, height, title)]
    for tick in _ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="8" y2="{base}"/>'
            f'<text class="tick" x="{at(tick):.1f}" y="{base + 18}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<line class="zero" x1="{at(0):.1f}" x2="{at(0):.1f}" y1="8" y2="{base}"/>')
    for row, (predictor, values) in enumerate(tables.items()):
        y = 8 + _ROW * (row + 1) - 12
        name = escape(label_of(predictor))
        parts.append(
            f'<g class="p-{escape(predictor)}"><text class="name" x="{_LEFT - 12}" y="{y - 4}" '
            f'text-anchor="end">{name}</text>{_one_row(x, values, y, at)}</g>'
        )
    return "".join([*parts, "</svg>"])


def predictor_css() -> str:
    """The colours of the rows, on white and on a dark screen."""
    light = "".join(f"svg .p-{name}{{color:{p.colour}}}" for name, p in PREDICTORS.items())
    dark = "".join(f"svg .p-{name}{{color:{p.on_dark}}}" for name, p in PREDICTORS.items())
    return f"{light}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n"


def _one_row(x: Floats, values: Floats, y: float, at: Any) -> str:
    if not len(values):
        return f'<text class="tick" x="{at(float(x[len(x) // 2])):.1f}" y="{y}">no score</text>'
    curve = density(values, x)
    points = " ".join(
        f"{at(float(a)):.1f},{y - 36 * float(b):.1f}" for a, b in zip(x, curve, strict=True)
    )
    quarter, three_quarters = np.percentile(values, [25, 75])
    mean = float(values.mean())
    return (
        f'<polygon class="area" points="{at(float(x[0])):.1f},{y} {points} {at(float(x[-1])):.1f},{y}"/>'
        f'<line class="half" x1="{at(quarter):.1f}" x2="{at(three_quarters):.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="mean" cx="{at(mean):.1f}" cy="{y}" r="5"/>'
        f'<text class="value" x="{_WIDTH - _RIGHT + 10}" y="{y + 4}">{mean:.3f}</text>'
    )


def calibration_svg(rows: Sequence[Coverage]) -> str:
    """Nominal against observed coverage; one line per `where`."""
    side, left, base = 310, 62, 260
    span = base - 14

    def at(nominal: float, observed: float) -> tuple[float, float]:
        return left + nominal * span, base - observed * span

    parts = [_open(left + side + 140, side, "Coverage that intervals state and reach")]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = at(tick, tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{base}"/>'
            f'<text class="tick" x="{x:.1f}" y="{base + 16}" text-anchor="middle">{tick:g}</text>'
            f'<line class="grid" x1="{left}" x2="{left + span}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    parts.append(
        f'<text class="tick" x="{left + span / 2:.1f}" y="{base + 36}" text-anchor="middle">stated</text>'
        f'<text class="tick" transform="translate(16 {base - span / 2:.1f}) rotate(-90)" '
        'text-anchor="middle">seen</text>'
    )
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts.append(f'<line class="zero" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>')
    for k, where in enumerate(dict.fromkeys(row.where for row in rows)):
        points = [at(row.nominal, row.observed) for row in rows if row.where == where]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points)
        parts.append(
            f'<g class="series s{k % 4}"><polyline points="{line}"/>{dots}'
            f'<text x="{left + span + 14}" y="{30 + 20 * k}">{escape(where)}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
    )


def _ticks(low: float, high: float) -> list[float]:
    step = next(s for s in (0.1, 0.2, 0.25, 0.5, 1.0) if (high - low) / s <= 7 or s == 1.0)
    first = int(np.ceil(low / step))
    return [round(k * step, 4) for k in range(first, int(np.floor(high / step)) + 1)]
