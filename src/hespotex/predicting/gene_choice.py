"""Which genes are written of a slide, which of them are shown, and what is said of the choice."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import GenePanelError, shorten
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.claims import UNTESTED, Claims
from hespotex.export.claim_words import best_first
from hespotex.export.exporters import Exporter, chosen_exporters
from hespotex.export.tables import MAX_GENES
from hespotex.genes.absent_genes import why_absent
from hespotex.models.bundle import Bundle
from hespotex.predicting.options import ALL_GENES, SlideOptions
from hespotex.progress import Reporter
from hespotex.results.announce import genes_to_write

# Named genes that are not in the panel, and are told one by one.
_SAID: Final = 5


@dataclass(frozen=True)
class ChosenGenes:
    """Genes of one slide, as places in the panel.

    Attributes:
        written: that the h5ad holds.
        shown: of these, in pictures and in files for other tools.
        sentences: what is to be said of the choice.
    """

    written: npt.NDArray[np.intp]
    shown: npt.NDArray[np.intp]
    sentences: tuple[str, ...]


def choose_genes(
    bundle: Bundle,
    claims: Claims,
    options: SlideOptions,
    kept: npt.NDArray[np.intp] | None = None,
) -> ChosenGenes:
    """Choose which genes of a slide are written and which of them are shown, once for all its files; pure.

    Args:
        kept: columns of the panel that a fine map keeps; None: all.
    """
    written = genes_to_write(
        claims, untested=options.untested, all_genes=options.all_genes, kept=kept
    )
    columns, panel = written.columns, bundle.genes
    names = {panel[j] for j in columns.tolist()}
    notes = kept_note(options, len(columns)), unwritten_note(options, panel, names)
    shown = chosen_genes(bundle, claims, columns, options.genes, MAX_GENES)
    return ChosenGenes(columns, shown, (written.sentence, *filter(None, notes)))


def chosen_genes(
    bundle: Bundle,
    claims: Claims,
    written: npt.NDArray[np.intp],
    wanted: tuple[str, ...] | None,
    most: int,
) -> npt.NDArray[np.intp]:
    """Columns of the panel to show: those asked for that are written, else (or with `all`, each of) the best first
    (`claim_words.best_first`), among equals the most abundant.

    Args:
        claims: of its panel on this slide.
        written: columns of the panel that are written at all.
        wanted: names of genes, or None; those that the panel lacks are left out (`say_absent` tells why).
        most: how many at most, where none are named.
    """
    if wanted == ALL_GENES:
        wanted, most = None, len(written)
    if wanted is not None:
        place = {gene: j for j, gene in enumerate(bundle.genes)}
        chosen = np.array([place[gene] for gene in wanted if gene in place], dtype=np.intp)
        return chosen[np.isin(chosen, written)]
    totals = np.asarray(bundle.training_totals) if bundle.training_totals else None  # imported
    order = best_first(claims, totals)
    return np.asarray(order[np.isin(order, written)][:most], dtype=np.intp)


def kept_note(options: SlideOptions, n_written: int) -> str:
    """The sentence about formats that hold fewer genes than the h5ad; empty where none does."""
    of_format = {n: most_shown(e, options) for n, e in chosen_exporters(options.formats).items()}
    fewer = [f"{kind} {n}" for kind, n in of_format.items() if n is not None and n < n_written]
    if not fewer:
        return ""
    return (
        f"of {n_written:,} written genes the best graded are exported: {', '.join(fewer)}; --show-genes all exports all, "
        "--show-genes GENE,GENE those named"
    )


def unwritten_note(options: SlideOptions, panel: Collection[str], written: Collection[str]) -> str:
    """The sentence about genes of the model that were asked for and are not written on this slide; empty if there are none."""
    wanted = () if options.genes is None or options.genes == ALL_GENES else options.genes
    lost = [gene for gene in wanted if gene in panel and gene not in written]
    if not lost:
        return ""
    return (
        f"not predicted on this slide and so not shown: {shorten(lost, 5)}; --untested writes genes without "
        "evidence, --all-genes genes of any grade"
    )


def most_shown(exporter: Exporter, options: SlideOptions) -> int | None:
    """How many genes a format gets where none are named; None: all of them."""
    return exporter.most_genes if options.genes is None else None


def refuse_unwritten(bundle: Bundle, options: SlideOptions) -> None:
    """Refuse to start where no named gene could be shown.

    Raises:
        GenePanelError: none is in the model's panel, or written on any slide whatever its patient.
    """
    if options.genes in (None, ALL_GENES):
        return
    found = [bundle_claims(bundle, patient) for patient in ("same", "new")]
    written = np.any(
        [c.written(untested=options.untested, all_genes=options.all_genes) for c in found], axis=0
    )
    everything = np.arange(len(bundle.genes))
    chosen = chosen_genes(bundle, found[0], everything, options.genes, 1)
    if not len(chosen):
        why = absent_named(bundle, options)
        more = f" | and {len(why) - _SAID:,} more" if len(why) > _SAID else ""
        raise GenePanelError(
            expected="genes of the model's panel with --show-genes",
            found=f"none: {' | '.join(why[:_SAID])}{more}",
        )
    if not written[chosen].any():
        shown = ", ".join(f"{bundle.genes[j]} ({found[1].evidence[j]})" for j in chosen[:5])
        untested = all(found[1].evidence[j] == UNTESTED for j in chosen)
        raise GenePanelError(
            expected="genes that are written with --show-genes",
            found=shown,
            remedy=f"give {('--untested' if untested else '--all-genes')}, or leave them out",
        )


def say_absent(bundle: Bundle, options: SlideOptions, reporter: Reporter) -> None:
    """Warn of named genes that the model does not predict; the others are shown."""
    absent = absent_named(bundle, options)
    for sentence in absent[:_SAID]:
        reporter.warn(sentence)
    if len(absent) > _SAID:
        reporter.warn(f"{len(absent) - _SAID:,} more named genes are not in this model's panel")


def absent_named(bundle: Bundle, options: SlideOptions) -> list[str]:
    """One sentence on every gene that was named to be shown and that the model does not predict."""
    if options.genes in (None, ALL_GENES):
        return []
    panel = set(bundle.genes)
    return [
        why_absent(gene, bundle.genes, bundle.others, bundle.config.panel)
        for gene in options.genes or ()
        if gene not in panel
    ]
