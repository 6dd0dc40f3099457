"""Owns the overview of a predicted slide: one picture for a talk; returns a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.export import style
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.plots import FADE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_TOP: Final = 1.45
_LARGE: Final = 4.95
_SMALL: Final = 1.95
_LEFT: Final = 5.55
_STEP: Final = 2.58
_SECOND: Final = _TOP + 2.75
_OUTLINE: Final = "#0b8f5a"
_ALARM: Final = "#b3261e"
_OOD_COLOURS: Final = "magma"


def plot_overview(
    slide: StoredPrediction,
    genes: Sequence[str],
    *,
    tissue: Any = None,
    verdict: str | None = None,
    notes: Sequence[str] = (),
    n_bad: int = 0,
) -> Figure:
    """The slide with its tissue outline, three genes, depth, and how far the slide is from training.

    Args:
        slide: with a thumbnail; holds the genes that are drawn.
        genes: up to three of its genes.
        tissue: shapely geometry in level-0 pixels, or None.
        verdict: of the out-of-distribution check, or None.
        notes: what was assumed, one sentence each.
        n_bad: spots whose pixels could not be read.
    """
    figure = style.new_figure()
    n = len(slide.barcodes)
    style.heading(figure, f"Slide {slide.section_id}: predicted expression", _subtitle(slide))
    axes = style.place(figure, 0.3, _TOP, _LARGE, _LARGE)
    style.caption(
        figure, 0.3, _TOP - 0.12, "H&E" + ("" if tissue is None else ", outline of the tissue")
    )
    if n == 0:
        _draw_whole(axes, slide)
        style.caption(figure, _LEFT, _TOP + 0.4, "No tissue found: nothing was predicted.", size=15)
        _write_lines(figure, _TOP + 0.9, _facts(slide, verdict, notes, n_bad))
        return figure
    style.draw_tissue(axes, slide)
    _draw_outline(axes, tissue)
    style.draw_scale_bar(axes, slide)
    place = {str(g): j for j, g in enumerate(slide.genes)}
    for k, gene in enumerate(genes[:3]):
        column = place[gene]
        grade = "" if slide.extras.grades is None else f" ({_grade(slide.extras.grades[column])})"
        values = slide.log1p[:, column]
        _map(figure, slide, values, (_LEFT + k * _STEP, _TOP), f"{gene}{grade}", "log1p(CPM)")
    if np.isfinite(slide.depth).any():
        values = np.log10(1 + slide.depth)
        _map(
            figure,
            slide,
            values,
            (_LEFT, _SECOND),
            "predicted depth",
            "log10 total",
            colours="cividis",
        )
    if slide.extras.ood_score is not None:
        _map(
            figure,
            slide,
            np.asarray(slide.extras.ood_score),
            (_LEFT + _STEP, _SECOND),
            "unlike training",
            "above 1: flagged",
            colours=_OOD_COLOURS,
            limits=(0.0, 2.0),
        )
    n_maps = 1 if slide.extras.ood_score is None else 2
    x = _LEFT + n_maps * _STEP if np.isfinite(slide.depth).any() else _LEFT
    style.caption(figure, x, _SECOND - 0.12, "trust")
    _write_lines(figure, _SECOND + 0.12, _facts(slide, verdict, notes, n_bad), x=x)
    return figure


def _subtitle(slide: StoredPrediction) -> str:
    model = slide.record.get("model_id", "")
    return (
        f"{len(slide.barcodes):,} spots of {slide.spot_diameter_um:g} µm, {slide.mpp:.4g} µm per pixel; "
        f"nothing here was measured. Model {model}. Genes: log1p(CPM over the model's panel)."
    )


def _grade(grade: str) -> str:
    return grade if grade == "ungraded" else f"grade {grade}"


def _facts(
    slide: StoredPrediction, verdict: str | None, notes: Sequence[str], n_bad: int
) -> list[str]:
    lines = []
    if verdict is not None and slide.extras.ood is not None:
        share = float(np.mean(slide.extras.ood)) if len(slide.extras.ood) else 0.0
        told = verdict.replace("unlike: ", "unlike the training slides: ")
        lines += [f"This slide is {told}.", f"{share:.0%} of the spots are flagged."]
    elif len(slide.barcodes):
        lines.append("The model carries no check against its training slides.")
    if slide.extras.grades is not None and set(slide.extras.grades) == {"ungraded"}:
        lines.append("Genes are ungraded: the model was not cross-validated.")
    if n_bad:
        lines.append(f"{n_bad:,} spots have unreadable pixels (hollow).")
    return lines + [note[0].upper() + note[1:] + "." for note in notes[:3]]


def _write_lines(figure: Figure, y: float, lines: Sequence[str], x: float = _LEFT) -> None:
    from textwrap import wrap

    width = max(int((style.SLIDE_INCHES[0] - x - 0.2) * 13.5), 16)
    for line in lines:
        alarming = "unlike the training" in line or "unreadable" in line
        for part in wrap(line, width):
            colour = _ALARM if alarming else style.MUTED
            style.caption(figure, x, y, part, size=9.5, colour=colour)
            y += 0.19
        y += 0.09


def _map(
    figure: Figure,
    slide: StoredPrediction,
    values: npt.NDArray[Any],
    corner: tuple[float, float],
    title: str,
    unit: str,
    *,
    colours: str = style.EXPRESSION_COLOURS,
    limits: tuple[float, float] | None = None,
) -> None:
    x, y = corner
    side = _SMALL
    axes = style.place(figure, x, y, side, side)
    style.draw_tissue(axes, slide, fade=FADE)
    limits = limits or style.robust_limits([values])
    spots = style.draw_spots(axes, slide, values, limits=limits, colours=colours)
    style.caption(figure, x, y - 0.12, title)
    style.colour_bar(figure, spots, x + side + 0.05, y + 0.1, side - 0.2, unit)


def _draw_whole(axes: Axes, slide: StoredPrediction) -> None:
    if slide.thumbnail is not None:
        axes.imshow(slide.thumbnail.image, interpolation="antialiased")
    style.bare_axes(axes)


def _draw_outline(axes: Axes, tissue: Any) -> None:
    if tissue is None:
        return
    for polygon in tissue.geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            x, y = np.asarray(ring.coords).T
            axes.plot(x, y, color=_OUTLINE, linewidth=1.2, zorder=3)
