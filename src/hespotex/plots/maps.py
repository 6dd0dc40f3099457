"""Pictures of a run: genes on the tissue, scores against baselines, depth.

Each function returns a figure; `style.save_figure` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import counted
from hespotex.evaluation import run_tables
from hespotex.evaluation.predictors import MODEL, PREDICTORS
from hespotex.evaluation.scores import pcc_per_gene
from hespotex.export.claim_words import claims_of, short
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.scales import robust_limits
from hespotex.export.shown import COMPOSITION_IS, MEASURED_IS, label, measured_beside, scale_of
from hespotex.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.floating[Any]]

FADE: Final = 0.72
# Above so many genes single dots say less than the outline of their density.
_MAX_DOTS: Final = 400
# Inches: height of the heading, side of a small map, height of a gene, left edges of the two columns of genes.
_TOP: Final = 1.6
_SIDE: Final = 1.85
_ROW: Final = 2.56
_COLUMNS: Final = (3.45, 8.4)
_ROWS: Final = 3


@dataclass(frozen=True)
class GenePick:
    """A gene to draw.

    Attributes:
        label: why it was chosen: `best`, `middle`, `worst`, ...
        pcc_log1p, pcc_composition: in this section.
    """

    label: str
    gene: str
    pcc_log1p: float
    pcc_composition: float


def pick_genes(table: pd.DataFrame) -> tuple[GenePick, ...]:
    """The three best genes of one section, and those a quarter, half and all of the way down; fewer of fewer genes.

    Args:
        table: rows of genes.csv of one section: gene, pcc_log1p, pcc_composition.
            The latter decides; ties go to the gene that comes first.
    """
    scored = table.dropna(subset=[run_tables.PCC_LOG1P, run_tables.PCC_COMPOSITION])
    ranked = scored.sort_values(
        run_tables.PCC_COMPOSITION, ascending=False, kind="stable"
    ).reset_index(drop=True)
    last = len(ranked) - 1
    places = (
        ("best", 0), ("worst", last), ("middle", last // 2), ("second best", 1), ("third best", 2),
        ("upper quarter", last // 4),
    )  # fmt: skip
    unique: dict[int, str] = {}
    for why, place in places:
        if 0 <= place <= last:
            unique.setdefault(place, why)
    return tuple(
        GenePick(
            unique[place],
            str(ranked[run_tables.GENE][place]),
            float(ranked[run_tables.PCC_LOG1P][place]),
            float(ranked[run_tables.PCC_COMPOSITION][place]),
        )
        for place in sorted(unique)
    )


def plot_genes(section: StoredPrediction, picks: Sequence[GenePick]) -> Figure:
    """Measured beside predicted composition on the tissue: two columns of genes.

    Args:
        section: with measured values.

    Raises:
        ValueError: the section has no measured values.
    """
    rows = min(max(len(picks), 1), _ROWS)
    figure = style.new_figure(height=_TOP + max(_ROW * rows, 5.1))
    claims = claims_of(section)
    style.heading(
        figure,
        f"Section {section.section_id}: measured and predicted composition",
        f"Held out: its expression was not seen in training. Patient {section.patient_id}, "
        f"{len(section.barcodes):,} spots, {len(section.genes):,} genes; chosen by composition PCC in this section.",
    )
    verdict = f"The slide is {claims.verdict}." if claims.verdict else "No verdict on the slide."
    colour = style.ALARM if claims.suspended else style.MUTED
    style.caption(figure, 0.4, 1.05, verdict, size=9.5, colour=colour)
    tissue = style.place(figure, 0.25, _TOP, 2.7, 2.7)
    style.draw_tissue(tissue, section)
    style.draw_scale_bar(tissue, section)
    style.caption(figure, 0.25, _TOP - 0.1, "H&E")
    reading = f"{COMPOSITION_IS}\n{MEASURED_IS}\nMeasured and predicted have one colour scale."
    style.paragraph(figure, 0.25, _TOP + 3.0, 2.75, reading)
    columns = np.array([int(np.flatnonzero(section.genes == p.gene)[0]) for p in picks], np.intp)
    measured = measured_beside(section, columns)
    for k, pick in enumerate(picks):
        column, row = divmod(k, rows)
        pair = (measured[:, k], section.composition[:, columns[k]])
        name = f"{pick.gene} ({short(claims, int(columns[k]))})"
        _gene_pair(
            figure, _COLUMNS[column], _TOP + row * _ROW, section, (name, _scores(pick)), pair
        )
    return figure


def _gene_pair(
    figure: Figure,
    x: float,
    y: float,
    section: StoredPrediction,
    words: tuple[str, str],
    pair: tuple[Floats, Floats],
) -> None:
    """One gene: its name with its grade, and its scores, then measured and predicted."""
    name, said = words
    style.caption(figure, x, y - 0.27, name, size=min(12, 440 / len(name)))
    style.caption(figure, x, y - 0.09, said, size=8.5, colour=style.MUTED)
    scale = scale_of("composition", pair)
    for offset, (values, title) in enumerate(zip(pair, ("measured", "predicted"), strict=True)):
        axes = style.place(figure, x + offset * _SIDE, y, _SIDE - 0.06, _SIDE - 0.06)
        style.draw_tissue(axes, section, fade=FADE)
        spots = style.draw_spots(axes, section, values, limits=scale.limits, colours=scale.colours)
        style.caption(
            figure, x + offset * _SIDE, y + _SIDE + 0.07, title, size=8, colour=style.MUTED
        )
    style.colour_bar(
        figure,
        spots,
        x + 2 * _SIDE + 0.02,
        y + 0.2,
        _SIDE - 0.4,
        label("composition"),
        ticks=scale.ticks,
    )


def _scores(pick: GenePick) -> str:
    return (
        f"{pick.label}: composition PCC {pick.pcc_composition:.2f}, log1p PCC {pick.pcc_log1p:.2f}"
    )


def plot_pcc_distribution(genes: pd.DataFrame) -> Figure:
    """Distribution over genes of both scores, the model above the baselines; those without columns are left out.

    Every gene counts once for each held-out section in which it has a score.

    Args:
        genes: rows of genes.csv.
    """
    shown = [p for p in PREDICTORS if run_tables.of_predictor(run_tables.PCC_LOG1P, p) in genes]
    sections = list(dict.fromkeys(genes[keys.SECTION_ID]))
    figure = style.new_figure(height=2.2 + 1.0 * len(shown))
    n_genes = genes[run_tables.GENE].nunique()
    oracles = [PREDICTORS[p].label for p in shown if PREDICTORS[p].oracle]
    style.heading(
        figure,
        "How well is each gene predicted? The model beside its baselines",
        f"PCC per gene over the spots of a held-out section; {n_genes:,} genes in "
        f"{counted(len(sections), 'section')}."
        + (f" The held-out counts are used by {' and '.join(oracles)}." if oracles else ""),
    )
    page = float(figure.get_size_inches()[1])
    height = page - 2.1
    style.caption(figure, 0.4, page - 0.1, COMPOSITION_IS, size=8, colour=style.MUTED)
    panels = (
        (run_tables.PCC_COMPOSITION, "composition: what is known of the gene itself", 2.05),
        (run_tables.PCC_LOG1P, "log1p(CPM): the usual score, rises with depth alone", 7.8),
    )
    for score, title, x in panels:
        axes = style.place(figure, x, 1.3, 4.5, height)
        tables = {p: genes[run_tables.of_predictor(score, p)].dropna() for p in shown}
        _ridge_lines(axes, tables, label=x == panels[0][2])
        axes.set_title(title, size=11, color=style.INK, loc="left", pad=10)
        axes.set_xlabel("PCC per gene", size=10, color=style.MUTED)
    return figure


def _ridge_lines(axes: Axes, tables: Mapping[str, pd.Series], *, label: bool) -> None:
    everything = np.concatenate([t.to_numpy() for t in tables.values()] or [np.zeros(1)])
    low, high = robust_limits([everything], 0.2, 99.8)
    low, high = min(low, -0.05) - 0.05, max(high, 0.2) + 0.05
    x = np.linspace(low, high, 320)
    for row, (predictor, values) in enumerate(tables.items()):
        y, colour = -float(row), PREDICTORS[predictor].colour
        if label:
            name = PREDICTORS[predictor].label
            weight = "bold" if predictor == MODEL else "normal"
            axes.text(
                -0.03, y + 0.12, name, size=11, weight=weight, color=style.INK, ha="right",
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        if len(values):
            _one_ridge(axes, x, y, values.to_numpy(np.float64), colour)
    axes.axvline(0, color=style.MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
    axes.set_xlim(low, high)
    axes.set_ylim(-len(tables) + 0.45, 0.95)
    style.plain_axes(axes)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])


def _one_ridge(axes: Axes, x: Floats, y: float, values: Floats, colour: str) -> None:
    curve = density(values, x)
    axes.fill_between(x, y, y + 0.62 * curve, color=colour, alpha=0.30, linewidth=0)
    axes.plot(x, y + 0.62 * curve, color=colour, linewidth=1.4)
    axes.plot(x, np.full_like(x, y), color=style.FAINT, linewidth=0.8, zorder=0)
    if len(values) <= _MAX_DOTS:
        # A fixed spread: equal scores give equal pictures.
        spread = (np.arange(len(values)) * 0.6180339887) % 1
        axes.scatter(values, y - 0.06 - 0.16 * spread, s=5, color=colour, alpha=0.55, linewidths=0)
    quarter, three_quarters = np.percentile(values, [25, 75])
    axes.plot([quarter, three_quarters], [y, y], color=colour, linewidth=5, solid_capstyle="butt")
    mean = float(values.mean())
    axes.plot(
        mean, y, marker="o", markersize=8, color="white", markeredgecolor=colour, markeredgewidth=2
    )
    axes.annotate(
        f"mean {mean:.3f}", (1.02, y), xycoords=axes.get_yaxis_transform(), size=10,
        color=style.INK, va="center", annotation_clip=False,
    )  # fmt: skip


def density(values: Floats, x: Floats) -> Floats:
    """Gaussian kernel density scaled to a largest value of 1; 0.6 of Scott's bandwidth."""
    width = max(0.6 * float(values.std()) * len(values) ** -0.2, 0.012)
    counts, edges = np.histogram(values, bins=512, range=(x[0] - 0.1, x[-1] + 0.1))
    centres = (edges[1:] + edges[:-1]) / 2
    kernel = np.exp(-0.5 * ((x[:, None] - centres) / width) ** 2)
    density = kernel @ counts
    return np.asarray(density / max(density.max(), 1e-12))


def plot_depth(section: StoredPrediction) -> Figure:
    """Measured and predicted total count of each spot: on the tissue, and against each other.

    Raises:
        ValueError: the section has no measured values, or the model predicts no depth.
    """
    if section.measured_depth is None or not np.isfinite(section.depth).any():
        raise ValueError(f"section {section.section_id}: expected measured and predicted depth")
    measured, predicted = np.log10(1 + section.measured_depth), np.log10(1 + section.depth)
    figure = style.new_figure(height=4.9)
    style.heading(
        figure,
        f"Section {section.section_id}: how many molecules were caught, measured and predicted",
        "Depth is predicted from the image alone and kept apart from composition; "
        f"{_said_pcc(measured, predicted)} over {len(measured):,} spots.",
    )
    limits = robust_limits([measured, predicted])
    for x, title, values in (
        (0.25, "H&E", None),
        (3.45, "measured total", measured),
        (6.4, "predicted total", predicted),
    ):
        axes = style.place(figure, x, 1.5, 2.9, 2.9)
        style.draw_tissue(axes, section, fade=0 if values is None else FADE)
        style.caption(figure, x, 1.4, title)
        if values is None:
            style.draw_scale_bar(axes, section)
        else:
            spots = style.draw_spots(
                axes, section, values, limits=limits, colours=style.DEPTH_COLOURS
            )
    style.colour_bar(figure, spots, 9.33, 1.8, 2.3, "log10(1 + total)")
    axes = style.place(figure, 10.55, 1.5, 2.5, 2.75)
    axes.scatter(measured, predicted, s=9, color=style.ACCENT, alpha=0.55, linewidths=0)
    span = robust_limits([measured, predicted], 0, 100)
    axes.plot(span, span, color=style.MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.set_xlabel("measured, log10(1 + total)", size=9, color=style.MUTED)
    axes.set_ylabel("predicted", size=9, color=style.MUTED)
    style.plain_axes(axes)
    return figure


def _said_pcc(measured: Floats, predicted: Floats) -> str:
    pcc = float(pcc_per_gene(measured[:, None], predicted[:, None])[0])
    return (
        "No PCC, since one of the two does not vary,"
        if np.isnan(pcc)
        else f"PCC of log10 totals {pcc:.2f}"
    )
