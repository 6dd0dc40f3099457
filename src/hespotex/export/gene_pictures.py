"""Owns pictures of single genes on the tissue, one PNG a gene; draws."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hespotex.export import style
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.tables import chosen_columns
from hespotex.runs import atomic_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PICTURES: Final = 10
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
# Inches.
_PAGE: Final = (8.0, 7.9)
_SIDE: Final = 6.6
_TOP: Final = 1.05


def write_gene_pictures(
    folder: Path, section: StoredPrediction, *, genes: Sequence[str] | None = None
) -> None:
    """Write `GENE.png` for every gene into a folder, which is replaced as a whole; none where there is no spot.

    Args:
        folder: where the pictures go.
        section: the prediction.
        genes: which to draw; default the best graded, at most ten.

    Raises:
        GenePanelError: a gene is not in the prediction.
        RunError: the folder cannot be written.
    """
    columns = chosen_columns(section, genes, MAX_PICTURES)
    with atomic_folder(folder) as temporary:
        temporary.mkdir()
        for column in columns if len(section.barcodes) else ():
            name = _UNSAFE.sub("_", str(section.genes[column]))
            style.save_figure(plot_gene(section, int(column)), temporary / f"{name}.png")


def plot_gene(section: StoredPrediction, column: int) -> Figure:
    """The tissue with one gene on it: predicted log1p(CPM), in the spots' true size.

    Args:
        section: with at least one spot.
        column: of the gene.
    """
    figure = style.new_figure(*_PAGE)
    grade = None if section.extras.grades is None else section.extras.grades[column]
    graded = "" if grade is None else ", ungraded" if grade == "ungraded" else f", grade {grade}"
    style.heading(
        figure,
        f"{section.genes[column]}: predicted expression",
        f"{section.section_id[:60]}, {len(section.barcodes):,} spots{graded}. Nothing here was measured.",
    )
    axes = style.place(figure, 0.25, _TOP, _SIDE, _SIDE)
    style.draw_tissue(axes, section)
    values = section.log1p[:, column]
    spots = style.draw_spots(axes, section, values, limits=style.robust_limits([values]))
    style.draw_scale_bar(axes, section)
    style.colour_bar(figure, spots, 0.25 + _SIDE + 0.1, _TOP + 0.3, _SIDE - 0.6, "log1p(CPM)")
    return figure
