"""The overview of a predicted slide: one picture for a talk; returns a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.errors import counted
from hespotex.evaluation.claims import NONE
from hespotex.evaluation.grades import UNGRADED
from hespotex.export.claim_words import claims_of, first_sentence, flagged_text, short
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import is_fine, pitch_um
from hespotex.export.scales import Scale, robust_limits
from hespotex.export.shown import Show, explained, label, scale_of, shown_values
from hespotex.plots import style
from hespotex.plots.maps import FADE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_TOP: Final = 2.0
_LARGE: Final = (4.95, 5.1)
_SMALL: Final = 1.88
_LEFT: Final = 5.5
_STEP: Final = 2.53
_SECOND: Final = _TOP + 2.5
_BOTTOM: Final = 6.5
_LOWEST: Final = 7.1
_LINE: Final = 0.19
_COLUMNS: Final = 3
_MARGIN_UM: Final = 150.0
_LONGEST_NAME: Final = 24
_LONGEST_ID: Final = 48
_WIDE_TITLE: Final = 26
_OUTLINE: Final = "#0b8f5a"


def plot_overview(
    slide: StoredPrediction,
    genes: Sequence[str],
    *,
    tissue: Any = None,
    notes: Sequence[str] = (),
    n_bad: int = 0,
    show: Show = "composition",
) -> Figure:
    """The slide with its tissue outline, three genes, depth, and how far the slide is from training.

    Args:
        slide: with a thumbnail; holds the genes that are drawn.
        genes: up to three of its genes.
        tissue: shapely geometry in level-0 pixels, or None.
        notes: what was assumed, one sentence each.
        n_bad: spots whose pixels could not be read.
    """
    figure = style.new_figure()
    name, claims = _short(slide.section_id, _LONGEST_ID), claims_of(slide)
    style.heading(figure, f"Slide {name}: predicted {label(show)}")
    y = style.statement(figure, first_sentence(slide), alarm=claims.scope == NONE)
    style.caption(figure, 0.4, y + 0.03, _subtitle(slide), size=9.5, colour=style.MUTED)
    facts = _facts(slide, notes, n_bad)
    if not len(slide.barcodes):
        _draw_nothing(figure, slide, tissue, facts)
        return figure
    _draw_slide(figure, slide, tissue)
    place = {str(g): j for j, g in enumerate(slide.genes)}
    for k, gene in enumerate(genes[:_COLUMNS]):
        values = shown_values(slide, show)[:, place[gene]]
        _draw_map(figure, slide, _gene_map(slide, gene, values, place[gene], show), k, _TOP)
    if not len(genes):
        untested = (
            "--untested writes genes without evidence, " if claims.counts()["untested"] else ""
        )
        every = "--all-genes every gene" if untested else "--all-genes writes every gene"
        told = f"No gene is shown: none is predicted on this slide. {untested}{every}, each marked."
        style.paragraph(figure, _LEFT, _TOP + 0.8, 5.5, told, size=11)
    maps = _maps_of_spots(slide)
    for k, shown in enumerate(maps):
        _draw_map(figure, slide, shown, k, _SECOND)
    if len(maps) < _COLUMNS:
        x = _LEFT + len(maps) * _STEP
        style.caption(figure, x, _SECOND - 0.12, "trust")
        _write_lines(figure, _SECOND + 0.12, facts, x=x)
    else:
        style.caption(figure, _LEFT, _BOTTOM - 0.02, "trust")
        _write_lines(figure, _BOTTOM + 0.2, _joined(facts))
    style.caption(figure, 0.3, 7.34, explained(show), size=8, colour=style.MUTED)
    return figure


@dataclass(frozen=True)
class _Map:
    """One small map: what it shows of every spot, in which unit and colours.

    `mark` is a limit on its scale, `claim` what may be said of the gene.
    """

    title: str
    values: npt.NDArray[Any]
    unit: str
    scale: Scale
    mark: float | None = None
    claim: str = ""


def _gene_map(
    slide: StoredPrediction, gene: str, values: npt.NDArray[Any], place: int, show: Show
) -> _Map:
    claim = short(claims_of(slide), place)
    scale = scale_of(show, [values])
    return _Map(_short(gene, _LONGEST_NAME), values, label(show), scale, claim=claim)


def _maps_of_spots(slide: StoredPrediction) -> list[_Map]:
    """What is shown below the genes: depth, likeness to training, the best gene set; what there is."""
    maps = []
    if np.isfinite(slide.depth).any():
        depth = np.log10(1 + slide.depth)
        scale = Scale(style.DEPTH_COLOURS, robust_limits([depth]))
        maps.append(_Map("predicted depth", depth, "log10 total", scale))
    if slide.extras.ood_score is not None:
        unlike = np.asarray(slide.extras.ood_score)
        scale = Scale(style.UNLIKE_COLOURS, style.UNLIKE_LIMITS, (0.0, 0.5, 1.0, 1.5, 2.0))
        title = "unlike the training"
        maps.append(_Map(title, unlike, "above 1: flagged", scale, style.UNLIKE_LIMIT))
    sets = slide.extras.gene_sets
    if sets is not None and sets.values is not None and len(sets.names):
        best = int(sets.best(1)[0])
        values = sets.values[:, best]
        scale = scale_of("composition", [values])
        maps.append(
            _Map(_titled(sets.names[best], sets.grades[best]), values, "composition", scale)
        )
    return maps


def _draw_slide(figure: Figure, slide: StoredPrediction, tissue: Any) -> None:
    """The large picture: H&E, outline, scale."""
    outlined = "" if tissue is None else ", outline of the tissue"
    style.caption(figure, 0.3, _TOP - 0.12, "H&E" + outlined)
    axes = style.place(figure, 0.3, _TOP, *_LARGE)
    style.draw_tissue(axes, slide)
    _fill(axes, slide, _LARGE)
    _draw_outline(axes, slide, tissue)
    style.draw_scale_bar(axes, slide)


def _draw_nothing(
    figure: Figure, slide: StoredPrediction, tissue: Any, facts: Sequence[str]
) -> None:
    """The whole slide, and why nothing was predicted on it."""
    found = tissue is not None and not tissue.is_empty
    style.caption(figure, 0.3, _TOP - 0.12, "H&E")
    _draw_whole(style.place(figure, 0.3, _TOP, *_LARGE), slide)
    why = "No spot of the grid lies on the tissue" if found else "No tissue found"
    style.caption(figure, _LEFT, _TOP + 0.4, f"{why}: nothing was predicted.", size=15)
    _write_lines(figure, _TOP + 0.9, facts)


def _titled(name: str, grade: str) -> str:
    """The name of a gene set with its grade, cut to the width of a map."""
    shown = _short(name, _LONGEST_NAME)
    return f"{shown} ({grade if grade == UNGRADED else f'grade {grade}'})"


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _joined(facts: Sequence[str]) -> list[str]:
    """Alarming facts as one paragraph, the others as another."""
    alarms = [fact for fact in facts if _is_alarming(fact)]
    others = [fact for fact in facts if not _is_alarming(fact)]
    return [" ".join(part) for part in (alarms, others) if part]


def _is_alarming(fact: str) -> bool:
    return any(s in fact for s in ("unlike the training", "unreadable"))


def _fill(axes: Axes, slide: StoredPrediction, inches: tuple[float, float]) -> None:
    """Show the spots with a margin, as large as the place allows."""
    low, high = slide.xy_px0.min(axis=0), slide.xy_px0.max(axis=0)
    centre, size = (low + high) / 2, high - low + 2 * _MARGIN_UM / slide.mpp
    half = (size / np.asarray(inches)).max() * np.asarray(inches) / 2
    axes.set_xlim(centre[0] - half[0], centre[0] + half[0])
    axes.set_ylim(centre[1] + half[1], centre[1] - half[1])


def _subtitle(slide: StoredPrediction) -> str:
    measured = (
        "nothing here was measured"
        if slide.measured is None
        else "what was measured stands beside it in the h5ad"
    )
    n = len(slide.barcodes)
    wide = (
        f"every {pitch_um(slide):g} µm" if is_fine(slide) else f"of {slide.spot_diameter_um:g} µm"
    )
    return (
        f"{counted(n, 'spot')} {wide}, {slide.mpp:.4g} µm per pixel; {measured}. "
        f"Model {slide.record.get('model_id', '')}."
    )


def _facts(slide: StoredPrediction, notes: Sequence[str], n_bad: int) -> list[str]:
    lines = []
    verdict = slide.record.get(keys.OOD_VERDICT)
    if verdict is not None and slide.extras.ood is not None:
        told = str(verdict).replace("unlike: ", "unlike the training slides: ")
        lines += [f"This slide is {told}.", f"{flagged_text(slide.extras.ood)}."]
    elif len(slide.barcodes):
        lines.append("The model carries no check against its training slides.")
    if n_bad:
        lines.append(f"{n_bad:,} spots have unreadable pixels (hollow).")
    others = [note for note in notes if note != "no tissue found"]  # the picture says it at large
    return lines + [note[0].upper() + note[1:] + "." for note in others[:3]]


def _write_lines(figure: Figure, y: float, lines: Sequence[str], x: float = _LEFT) -> None:
    from textwrap import wrap

    width = max(int((style.SLIDE_INCHES[0] - x - 0.2) * 13.5), 16)
    for line in lines:
        parts = wrap(line, width)
        fitting = max(int((_LOWEST - y) / _LINE) + 1, 0)
        if len(parts) > fitting:  # what is left out stands in the h5ad and in slides.csv
            parts = parts[: max(fitting - 1, 0)] + ["…"] * bool(fitting)
        for part in parts:
            colour = style.ALARM if _is_alarming(line) else style.MUTED
            style.caption(figure, x, y, part, size=9.5, colour=colour)
            y += _LINE
        y += 0.09


def _draw_map(
    figure: Figure, slide: StoredPrediction, shown: _Map, column: int, top: float
) -> None:
    x, side = _LEFT + column * _STEP, _SMALL
    axes = style.place(figure, x, top, side, side)
    style.draw_tissue(axes, slide, fade=FADE)
    _fill(axes, slide, (side, side))
    scale = shown.scale
    spots = style.draw_spots(axes, slide, shown.values, limits=scale.limits, colours=scale.colours)
    small = len(shown.title) > _WIDE_TITLE
    above = 0.3 if shown.claim else 0.12
    style.caption(figure, x, top - above, shown.title, size=9 if small else 11)
    if shown.claim:
        style.caption(figure, x, top - 0.12, shown.claim, size=8.5, colour=style.MUTED)
    style.colour_bar(
        figure,
        spots,
        x + side + 0.05,
        top + 0.1,
        side - 0.2,
        shown.unit,
        mark=shown.mark,
        ticks=scale.ticks,
    )


def _draw_whole(axes: Axes, slide: StoredPrediction) -> None:
    if slide.thumbnail is not None:
        axes.imshow(slide.thumbnail.image, interpolation="antialiased")
    style.bare_axes(axes)


def _draw_outline(axes: Axes, slide: StoredPrediction, tissue: Any) -> None:
    if tissue is None:
        return
    for polygon in tissue.geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            corners = np.asarray(ring.coords)[:, :2]
            if slide.thumbnail is not None:  # the mask's last pixel may reach beyond the slide
                height, width = slide.thumbnail.image.shape[:2]
                corners = np.clip(
                    corners, 0, np.array([width, height]) * slide.thumbnail.px0_per_px
                )
            axes.plot(*corners.T, color="white", linewidth=2.2, alpha=0.7, zorder=3)
            axes.plot(*corners.T, color=_OUTLINE, linewidth=1.2, zorder=3)
