"""Owns what is written beside the h5ad of a section that was predicted at its own spots: chosen genes, the overview."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hespotex.export.h5ad import read_prediction
from hespotex.export.overview import plot_overview
from hespotex.export.style import save_figure
from hespotex.export.tables import chosen_columns
from hespotex.manifest import ManifestRow
from hespotex.runs import RunDir
from hespotex.slide import open_slide
from hespotex.slide_prediction.options import SlideOptions
from hespotex.slide_prediction.outputs import OVERVIEW_GENES, write_formats


def write_beside(run: RunDir, rows: Sequence[ManifestRow], options: SlideOptions) -> Path:
    """Write the formats that were asked for and the overview of every predicted section.

    Args:
        run: holds the h5ad of each section.
        rows: of the manifest.
        options: formats, genes, whether coordinates start at the slide's bounds.

    Returns:
        The folder of pictures.

    Raises:
        GenePanelError: a wanted gene is not in the prediction.
        RunError: a file cannot be written.
    """
    for row in rows:
        stored = read_prediction(run.predictions / f"{row.section_id}.h5ad")
        genes = [str(g) for g in stored.genes[chosen_columns(stored, options.genes)]]
        bounds_px0 = (0.0, 0.0)
        if options.bounds_offset and row.slide is not None:
            with open_slide(row.slide) as slide:
                bounds_px0 = slide.bounds_px0
        write_formats(run, stored, genes, options, bounds_px0)
        if stored.thumbnail is not None:
            figure = plot_overview(stored, genes[:OVERVIEW_GENES], verdict=stored.extras.verdict)
            save_figure(figure, run.figures / f"{row.section_id}_overview.png")
    return run.figures
