"""Figures of single genes for print, beside the report: the map, the grade with its evidence, the interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from hespotex.errors import GenePanelError, shorten
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.h5ad_chunks import stored_genes
from hespotex.export.tables import chosen_columns
from hespotex.plots import gene_pictures
from hespotex.plots.style import save_figure
from hespotex.report.report_intervals import half_width_text
from hespotex.results.read import read_run
from hespotex.storage.run_folder import RunDir
from hespotex.storage.safe_names import safe_names

Kind = Literal["pdf", "svg"]
# Genes of each section where none is named.
BEST: Final = 3


def write_figures(
    run: RunDir, folder: Path, kind: Kind, genes: Sequence[str] | None = None
) -> tuple[Path, ...]:
    """Write `SECTION_GENE.pdf` or `.svg` of every section.

    Args:
        run: folder of cross-validate, evaluate or predict.
        folder: where to.
        genes: those that are drawn, of a section as far as it has them; None: the best graded of each.

    Raises:
        RunError: no finished run lies there, or a file cannot be written.
        GenePanelError: no section has a gene.
    """
    known = read_run(run)
    paths = [run.predictions / f"{section_id}.h5ad" for section_id in known.section_ids]
    missing = set(genes or ()).difference(*map(stored_genes, paths)) if genes else set()
    if missing:
        raise GenePanelError(
            expected=f"genes that a section of {run.path.name} has", found=shorten(sorted(missing))
        )
    written: list[Path] = []
    for section in known.sections():
        if len(section.barcodes):
            written += _of_section(section, folder, kind, genes)
    return tuple(written)


def _of_section(
    section: StoredPrediction, folder: Path, kind: Kind, genes: Sequence[str] | None
) -> Iterator[Path]:
    held = set(section.genes.tolist())
    wanted = None if genes is None else [gene for gene in genes if gene in held]
    if wanted == []:
        return
    columns = np.asarray(chosen_columns(section, wanted, BEST)).tolist()
    names = safe_names([f"{section.section_id}_{section.genes[j]}" for j in columns], fallback="gene")  # fmt: skip
    for column, name in zip(columns, names, strict=True):
        path = folder / f"{name}.{kind}"
        save_figure(
            gene_pictures.plot_gene(section, column, more=half_width_text(section, column)), path
        )
        yield path
