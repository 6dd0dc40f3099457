"""Pictures of single genes on the tissue, one PNG a gene; draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hespotex.errors import counted
from hespotex.evaluation.claims import NONE
from hespotex.export.claim_words import claims_of, first_sentence, long, mark, short
from hespotex.export.exporters import Exporter
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.shown import Show, explained, label, scale_of, shown_values
from hespotex.export.tables import chosen_columns
from hespotex.plots import style
from hespotex.storage.atomic import atomic_folder
from hespotex.storage.safe_names import safe_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PICTURES: Final = 10
# Inches.
_PAGE: Final = (8.0, 9.35)
_SIDE: Final = 6.6
_TOP: Final = 2.3
# Of the tissue: colours of spots must be read, and cells still be seen.
_FADE: Final = 0.55


def write_gene_pictures(
    folder: Path,
    section: StoredPrediction,
    *,
    genes: Sequence[str] | None = None,
    show: Show = "composition",
) -> None:
    """Write `GENE.png` for every gene into a folder, which is replaced as a whole; none where there is no spot.

    What is not predicted on this slide has that in its name: `GENE_untested.png`.

    Args:
        genes: which to draw; default the best graded, at most `MAX_PICTURES`.

    Raises:
        GenePanelError: a gene is not in the prediction.
        RunError: the folder cannot be written.
    """
    columns = chosen_columns(section, genes, MAX_PICTURES).tolist() if len(section.barcodes) else []
    claims = claims_of(section)
    marks = [mark(claims, j).replace(", ", "_").replace(" ", "_") for j in columns]
    names = safe_names(section.genes[columns], endings=marks, fallback="gene")
    with atomic_folder(folder) as temporary:
        temporary.mkdir()
        for column, name in zip(columns, names, strict=True):
            style.save_figure(plot_gene(section, column, show=show), temporary / f"{name}.png")


def plot_gene(
    section: StoredPrediction, column: int, *, show: Show = "composition", more: str = ""
) -> Figure:
    """The tissue with one gene on it, in the spots' true size, and what is claimed of the gene.

    Args:
        section: with at least one spot.
        column: of the gene.
        more: a sentence behind what is claimed, such as the interval.
    """
    figure = style.new_figure(*_PAGE)
    claims, gene = claims_of(section), str(section.genes[column])
    title = f"{gene}: predicted {label(show)}, {short(claims, column)}"
    style.heading(figure, title, size=min(15.0, 780 / max(len(title), 1)))
    y = style.statement(
        figure, first_sentence(section), alarm=claims.scope == NONE, y=0.75, size=9.5
    )
    about = f"{long(claims, column)}{f' {more}.' if more else ''}\n{section.section_id[:60]}, {_said(section)}."
    style.paragraph(figure, 0.24, y + 0.04, 7.3, about, size=8.5)
    axes = style.place(figure, 0.25, _TOP, _SIDE, _SIDE)
    style.draw_tissue(axes, section, fade=_FADE)
    values = shown_values(section, show)[:, column]
    scale = scale_of(show, [values])
    spots = style.draw_spots(axes, section, values, limits=scale.limits, colours=scale.colours)
    style.draw_scale_bar(axes, section)
    style.colour_bar(
        figure, spots, 0.25 + _SIDE + 0.1, _TOP + 0.3, _SIDE - 0.6, label(show), ticks=scale.ticks
    )
    style.paragraph(figure, 0.25, _TOP + _SIDE + 0.2, 7.3, explained(show))
    return figure


def _said(section: StoredPrediction) -> str:
    measured = "nothing here was measured" if section.measured is None else "predicted values alone"
    return f"{counted(len(section.barcodes), 'spot')}; {measured}"


EXPORTER: Final = Exporter(
    lambda path, section, wanted: write_gene_pictures(
        path, section, genes=wanted.genes, show=wanted.show
    ),
    suffix=".pictures",
    most_genes=MAX_PICTURES,
)
